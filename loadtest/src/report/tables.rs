//! The numbers, and under which circumstances they were measured.

use maud::{Markup, html};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::units::{count, float, many, micros, percent, seconds, whole};
use crate::result::{Phase, PhaseKind, RunResult};

/// When, what and where, in a line.
pub(crate) fn origin(result: &RunResult) -> String {
    let started = i64::try_from(result.started).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    let started = started.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default();
    let commit = result.subject.commit.as_deref().unwrap_or("of no known commit");
    format!(
        "{started} · Postern {commit}, {} build · edge: {} · {} · seed {}",
        result.subject.build,
        result.subject.edge,
        many(u64::from(result.machine.cores), "core"),
        result.seed
    )
}

/// Every phase, failures, the ledger and further figures.
pub(crate) fn numbers(result: &RunResult) -> Markup {
    html! {
        (phases(result))
        @if !result.total.failed.is_empty() {
            h3 { "What did not succeed" }
            (pairs(result.total.failed.iter().map(|(reason, number)| (reason.clone(), whole(*number)))))
        }
        @if !result.total.connect_failed.is_empty() {
            h3 { "Sessions that could not be opened" }
            (pairs(result.total.connect_failed.iter().map(|(reason, number)| (reason.clone(), whole(*number)))))
        }
        @if let Some(ledger) = &result.ledger {
            h3 { "Writes" }
            (pairs([
                ("acknowledged", ledger.acknowledged), ("failed", ledger.failed), ("outcome unknown", ledger.unknown),
                ("— of these found", ledger.unknown_found), ("lost", ledger.lost), ("there more than once", ledger.twice),
                ("there although they failed", ledger.unexpected), ("tenants that were not read back", ledger.unread.len() as u64),
            ].into_iter().map(|(what, number)| (what.to_owned(), whole(number)))))
            @for example in ledger.examples.iter().chain(&ledger.unread) { p.note { (example) } }
        }
        @if !result.measures.is_empty() {
            h3 { "Further figures" }
            (pairs(result.measures.iter().map(|(name, value)| (name.clone(), count(*value)))))
        }
        (tenants(&result.total))
    }
}

fn phases(result: &RunResult) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th { "phase" } th { "time" } th { "due" } th { "done" } th { "a second" } th { "failed" }
                th { "p50" } th { "p99" } th { "p99.9" } th { "longest" } th { "new session p99" } th { "Jain" }
            } }
            tbody {
                @for phase in &result.phases { (row(phase, &phase.name)) }
                @if result.measured().count() > 1 { (row(&result.total, "all measured")) }
            }
        } }
    }
}

fn row(phase: &Phase, name: &str) -> Markup {
    let failed: u64 = phase.failed.values().sum();
    let latency = &phase.latency;
    let aside = if phase.kind == PhaseKind::WarmUp { " (discarded)" } else { "" };
    html! { tr {
        td { (name) (aside) }
        td { (seconds(phase.seconds)) }
        td { (whole(phase.due)) }
        td { (whole(phase.done)) }
        td { (count(phase.per_second)) }
        td { (percent(float(failed) / float(phase.due.max(1)))) }
        @for us in [latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us] { td { (micros(float(us))) } }
        td { @if phase.connect.count > 0 { (micros(float(phase.connect.p99_us))) } }
        td { (phase.fairness.index().map(|jain| format!("{jain:.3}")).unwrap_or_default()) }
    } }
}

fn tenants(total: &Phase) -> Markup {
    html! {
        @if !total.tenants.is_empty() {
            details {
                summary { "Every tenant" }
                div.scroll { table {
                    thead { tr {
                        th { "tenant" } th { "of all arrivals" } th { "due" } th { "done" } th { "failed" } th { "p50" } th { "p99" } th { "longest" }
                    } }
                    tbody { @for tenant in &total.tenants { tr {
                        td { (tenant.tenant) @if tenant.noisy { " (noisy)" } }
                        td { (percent(tenant.share)) }
                        @for number in [tenant.due, tenant.done, tenant.failed] { td { (whole(number)) } }
                        @for us in [tenant.latency.p50_us, tenant.latency.p99_us, tenant.latency.max_us] { td { (micros(float(us))) } }
                    } } }
                } }
            }
        }
    }
}

/// The machine, the versions, the settings, and what a reader has to know.
pub(crate) fn circumstances(result: &RunResult) -> Markup {
    let (machine, subject) = (&result.machine, &result.subject);
    let others = machine.others.map_or_else(|| "not known".to_owned(), percent);
    let facts = [
        ("processor", machine.model.clone()),
        ("cores", machine.cores.to_string()),
        ("memory", format!("{} MiB", whole(machine.memory_mib))),
        ("kernel", machine.kernel.clone()),
        ("load average before", format!("{:.2}", machine.load_before)),
        ("taken by other programs", others),
        ("tenants", subject.tenants.to_string()),
        ("clients per tenant", subject.clients_per_tenant.to_string()),
        ("gateways", subject.gateways.to_string()),
        ("databases", subject.databases.clone()),
        ("start of the cluster", seconds(subject.startup_seconds)),
        ("timetable kept within (p50, p99, longest)", {
            let generator = &result.generator;
            let errors = [generator.p50_error_us, generator.p99_error_us, generator.max_error_us];
            errors.map(|us| micros(float(us))).join(", ")
        }),
    ];
    html! {
        @for note in &result.notes { p.note { (note) } }
        (pairs(facts.into_iter().map(|(what, value)| (what.to_owned(), value))))
        details {
            summary { "Versions" }
            (pairs(subject.versions.iter().map(|(name, version)| (name.clone(), version.clone()))))
        }
        details {
            summary { "Settings of the scenario" }
            (pairs(result.scenario.settings.iter().map(|(key, value)| (key.clone(), value.clone()))))
        }
    }
}

fn pairs(rows: impl Iterator<Item = (String, String)>) -> Markup {
    html! {
        table.text { tbody { @for (what, value) in rows { tr { td { (what) } td { (value) } } } } }
    }
}
