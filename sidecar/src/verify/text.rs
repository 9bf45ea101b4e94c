//! The report for people.

use super::report::{Report, Statement, SubjectKind, Verdict};
use crate::print::{date, line, printable};

pub(super) fn render(report: &Report) -> String {
    let mut text = headline(report);
    if let Some(reason) = &report.reason {
        line(&mut text, "why", &format!("{} ({})", printable(&reason.text), reason.code));
    }
    line(&mut text, "judged at", &date(report.judged_at));
    if let Some(root) = &report.root {
        let name = if root.intel { "Intel's" } else { "NOT Intel's" };
        line(&mut text, "root", &format!("{name}, SHA-256 {}", root.sha256));
    }
    statements(&mut text, "Proven", '+', &report.proven);
    facts(&mut text, report);
    statements(&mut text, "Not proven", '-', &report.not_proven);
    text
}

fn headline(report: &Report) -> String {
    let verdict = match report.verdict {
        Verdict::Accepted => "ACCEPTED",
        Verdict::Refused => "REFUSED",
        Verdict::Unknown => "COULD NOT TELL",
    };
    let subject = &report.subject;
    let kind = match subject.kind {
        SubjectKind::Server => "server",
        SubjectKind::Certificate => "certificate",
        SubjectKind::Quote => "quote",
        SubjectKind::Attestation => "attestation",
    };
    let mut text = format!("{verdict}: {kind} {}\n", printable(&subject.name));
    if let Some(address) = subject.address {
        line(&mut text, "address", &address.to_string());
    }
    for (name, value) in [("SNI", &subject.sni), ("ALPN", &subject.alpn)] {
        if let Some(value) = value {
            line(&mut text, name, &printable(value));
        }
    }
    text
}

fn statements(text: &mut String, title: &str, mark: char, statements: &[Statement]) {
    if !statements.is_empty() {
        *text += &format!("\n{title}:\n");
    }
    for statement in statements {
        *text += &format!("  {mark} {}\n", printable(&statement.text));
    }
}

fn facts(text: &mut String, report: &Report) {
    let (Some(platform), Some(registers)) = (&report.platform, &report.registers) else { return };
    *text += "\nMeasured:\n";
    if let Some(app) = &report.app {
        line(text, "app id", &app.app_id);
        line(text, "compose hash", &app.compose_hash);
        line(text, "instance id", &app.instance_id);
        line(text, "OS image", app.os_image_hash.as_deref().unwrap_or("not measured"));
        line(text, "key provider", &printable(app.key_provider.as_deref().unwrap_or("none")));
    }
    line(text, "device id", &platform.device_id);
    line(text, "FMSPC", &platform.fmspc);
    line(text, "TCB status", &printable(&platform.tcb_status));
    let advisories =
        if platform.advisory_ids.is_empty() { "none".to_owned() } else { platform.advisory_ids.join(", ") };
    line(text, "advisories", &printable(&advisories));
    line(text, "evaluation", &platform.tcb_evaluation_number.to_string());
    for (name, value) in [
        ("MRTD", &registers.mrtd),
        ("RTMR0", &registers.rtmr0),
        ("RTMR1", &registers.rtmr1),
        ("RTMR2", &registers.rtmr2),
        ("RTMR3", &registers.rtmr3),
        ("MRCONFIGID", &registers.mr_config_id),
        ("MROWNER", &registers.mr_owner),
        ("MROWNERCONFIG", &registers.mr_owner_config),
    ] {
        line(text, name, value);
    }
    line(text, "report data", report.report_data.as_deref().unwrap_or_default());
    if let Some(certificate) = &report.certificate {
        line(text, "certificate", &format!("SHA-256 {}", certificate.sha256));
        line(text, "issued for", &format!("{} to {}", date(certificate.not_before), date(certificate.not_after)));
    }
    if let Some(database) = &report.database {
        line(text, "Postgres", &printable(&database.pg_version));
        line(text, "WAL", &printable(&database.wal_lsn));
        line(text, "control data", &printable(&database.controldata_hash));
        line(text, "state of", &date(database.timestamp));
        line(text, "nonce", database.nonce.as_deref().unwrap_or("none"));
        line(text, "TLS key", &printable(database.tls_public_key.as_deref().unwrap_or("not named")));
    }
    if let Some(until) = report.valid_until {
        line(text, "valid until", &date(until));
    }
}
