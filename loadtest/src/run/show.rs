//! What `run` tells its user.

use std::path::Path;

use crate::result::{Phase, PhaseKind, RunResult};
use crate::scenario::{Scenario, Shipped};

/// Prints the scenarios.
pub(super) fn list(scenarios: &[Shipped]) {
    for shipped in scenarios {
        let about = Scenario::read(shipped.text, &[], Path::new(".")).map(|scenario| scenario.about);
        print(&format!("{:<16} {}\n", shipped.name, about.unwrap_or_default()));
    }
}

/// Prints the outcome as a table, and what a reader has to know.
pub(super) fn summary(result: &RunResult, file: &Path) {
    let mut text = format!("### {}: {}\n\n", result.scenario.name, result.scenario.about);
    text += "| phase | s | due | done | failed | a second | p50 ms | p99 ms | sessions | Jain | worst p99 / median |\n";
    text += "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
    for phase in &result.phases {
        text += &row(phase);
    }
    text += "\n";
    if let Some(ledger) = &result.ledger {
        text += &format!(
            "- ledger: {} writes acknowledged, {} lost, {} twice, {} unexpected; {} of unknown outcome, of which {} were done\n",
            ledger.acknowledged, ledger.lost, ledger.twice, ledger.unexpected, ledger.unknown, ledger.unknown_found
        );
        text.extend(ledger.unread.iter().map(|tenant| format!("- not read back: {tenant}\n")));
        text.extend(ledger.examples.iter().map(|example| format!("- {example}\n")));
    }
    text.extend(result.marks.iter().map(|mark| {
        let until = mark.until_s.map(|until| format!("-{until:.1}")).unwrap_or_default();
        format!("- at {:.1}{until} s, {}: {}\n", mark.at_s, mark.target, mark.text)
    }));
    text.extend(result.measures.iter().map(|(name, value)| format!("- {name}: {value:.3}\n")));
    for part in &result.parts {
        text += &format!(
            "- {}: {} processes, {:.1} s of CPU, {:.0} MiB\n",
            part.name, part.processes, part.cpu_seconds, part.peak_memory_mib
        );
    }
    text += &format!("- generator: p99 of its own lateness {} µs\n", result.generator.p99_error_us);
    text.extend(result.failures.iter().map(|failure| format!("- FAILED: {failure}\n")));
    text.extend(result.notes.iter().map(|note| format!("- {note}\n")));
    text += &format!("- seed {}; the result is in {}\n", result.seed, file.display());
    print(&text);
}

fn row(phase: &Phase) -> String {
    let name = match phase.kind {
        PhaseKind::WarmUp => format!("{} (not counted)", phase.name),
        PhaseKind::Measured => phase.name.clone(),
    };
    let failed: u64 = phase.failed.values().sum();
    let millis = |micros: u64| crate::fairness::ratio(micros, 1000);
    format!(
        "| {name} | {:.0} | {} | {} | {failed} | {:.1} | {:.2} | {:.2} | {} | {} | {} |\n",
        phase.seconds,
        phase.due,
        phase.done,
        phase.per_second,
        millis(phase.latency.p50_us),
        millis(phase.latency.p99_us),
        phase.sessions,
        phase.fairness.index().map(|jain| format!("{jain:.4}")).unwrap_or_default(),
        Some(phase.fairness.worst_over_median())
            .filter(|ratio| *ratio > 0.0)
            .map(|ratio| format!("{ratio:.2}"))
            .unwrap_or_default(),
    )
}

/// Prints the main figures for scripts.
pub(super) fn figures(result: &RunResult) {
    let total = &result.total;
    if result.subject.databases == "echo" {
        print(&format!("figure load_generator_p99_error_us {}\n", result.generator.p99_error_us));
        return;
    }
    let mut text = format!("figure load_tenants {}\n", result.subject.tenants);
    text += &format!("figure load_sessions {}\n", total.sessions);
    text += &format!("figure load_qps {:.0}\n", total.per_second);
    text += &format!("figure load_p50_us {}\n", total.latency.p50_us);
    text += &format!("figure load_p99_us {}\n", total.latency.p99_us);
    text.extend(total.fairness.index().map(|jain| format!("figure load_jain {jain:.4}\n")));
    for name in ["sidecar_memory_per_tenant_mib", "database_memory_per_tenant_mib"] {
        text.extend(result.measures.get(name).map(|value| format!("figure load_{name} {value:.2}\n")));
    }
    print(&text);
    if let Some(ledger) = result.ledger.as_ref().filter(|ledger| ledger.unread.is_empty()) {
        print(&format!("figure load_lost_writes {}\n", ledger.lost + ledger.twice + ledger.unexpected));
    }
}

#[expect(clippy::print_stdout, reason = "what was asked for goes to standard output")]
pub(super) fn print(text: &str) {
    print!("{text}");
}
