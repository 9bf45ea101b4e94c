//! A plan as people read it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::check::Checked;
use super::costs::Costs;
use super::simulate::{Control, Outcome, Part};
use super::size::Size;
use crate::report::units::{count, mib, micros, percent, seconds, whole};

/// What is told of the size of a fleet.
pub(crate) fn size(size: &Size, asked_for: bool, questions_there: f64, text: &mut String) -> fmt::Result {
    let Size { gateways, left, needs, .. } = size;
    let chosen = if asked_for { "as asked for" } else { "the fewest that suffice" };
    writeln!(text, "## Size: {gateways} gateways, {chosen}\n")?;
    if left < gateways {
        writeln!(text, "A region may be lost: {left} gateways are left then, and what each of them takes is\n")?;
    } else {
        writeln!(text, "Each of them takes\n")?;
    }
    writeln!(text, "| of a gateway | taken | there | part |\n|---|---:|---:|---:|")?;
    for need in needs {
        let number = |value: f64| match need.decimals {
            0 => count(value.round()),
            decimals => format!("{value:.decimals$}"),
        };
        let (taken, there) = (number(need.taken), number(need.there));
        writeln!(text, "| {} | {taken} | {there} | {} |", need.what, percent(need.part()))?;
    }
    writeln!(text)?;
    match needs.first() {
        Some(need) if need.part() > 1.0 => writeln!(text, "**Too little: {}.** More gateways share it.", need.what)?,
        Some(need) => writeln!(text, "The scarcest: {}.", need.what)?,
        None => {}
    }
    writeln!(
        text,
        "Each chain endpoint is asked {} questions a second, {} of what one answers. All sidecars together take {} cores and {}.\n",
        count(size.questions),
        percent(size.questions / questions_there),
        count(size.sidecar_cores),
        mib(size.sidecar_memory_mib)
    )
}

/// What is told of simulations.
pub(crate) fn simulations(control: &Control, outcomes: &[(String, Outcome)], text: &mut String) -> fmt::Result {
    writeln!(
        text,
        "## Control plane: {} CVMs, {} gateways, in virtual time\n",
        count(number(control.cvms)),
        count(number(control.gateways))
    )?;
    writeln!(text, "| what happens | half | 99 % | all | hottest part | busy |\n|---|---:|---:|---:|---|---:|")?;
    for (name, outcome) in outcomes {
        let time = |at: Option<Duration>| at.map_or_else(|| "never".to_owned(), |at| micros(at.as_secs_f64() * 1e6));
        let [half, most, all] = [outcome.half, outcome.most, outcome.converged].map(time);
        let (hottest, busy) = outcome.parts.first().map(|part| (part.name, percent(part.busy))).unwrap_or_default();
        writeln!(text, "| {name} | {half} | {most} | {all} | {hottest} | {busy} |")?;
    }
    writeln!(text)?;
    for (name, outcome) in outcomes {
        details(name, outcome, text)?;
    }
    writeln!(text)
}

fn details(name: &str, outcome: &Outcome, text: &mut String) -> fmt::Result {
    let warm = |part: &&Part| part.busy >= 0.001;
    let part = |part: &Part| {
        let waits = part.longest_wait.filter(|wait| !wait.is_zero());
        let waits =
            waits.map(|wait| format!(" (waits up to {})", micros(wait.as_secs_f64() * 1e6))).unwrap_or_default();
        format!("{} {}{waits}", part.name, percent(part.busy))
    };
    let parts: Vec<String> = outcome.parts.iter().filter(warm).map(part).collect();
    writeln!(text, "- {name}: {}.", parts.join(", "))?;
    if outcome.converged.is_none() {
        let (reached, target) = outcome.reached;
        let after = seconds(outcome.simulated.as_secs_f64());
        writeln!(text, "  After {after} only {} of {} are there.", count(number(reached)), count(number(target)))?;
    }
    let failed: Vec<String> =
        outcome.failed.iter().map(|(failure, times)| format!("{} ({})", failure.words(), whole(*times))).collect();
    if !failed.is_empty() {
        writeln!(text, "  Attempts that failed: {}.", failed.join(", "))?;
    }
    if let Some(rate) = outcome.aftermath.filter(|&rate| rate > 0.0) {
        writeln!(text, "  Afterwards {} attempts a second come and are refused.", count(rate))?;
    }
    Ok(())
}

/// What is told of predictions.
pub(crate) fn checks(checked: &[Checked], text: &mut String) -> fmt::Result {
    writeln!(text, "## Predictions\n")?;
    writeln!(text, "| run | what | foretold | measured | error |\n|---|---|---:|---:|---:|")?;
    for Checked { run, what, foretold, measured, .. } in checked {
        let error = checked_error(*foretold / *measured - 1.0);
        writeln!(text, "| {run} | {what} | {foretold:.2} | {measured:.2} | {error} |")?;
    }
    let mut errors: Vec<f64> = checked.iter().map(|checked| checked.error().abs()).collect();
    errors.sort_by(f64::total_cmp);
    if let (Some(worst), Some(middle)) = (errors.last(), errors.get(errors.len() / 2)) {
        writeln!(text, "\nThe error is {} in the middle and {} at worst.", percent(*middle), percent(*worst))?;
    }
    Ok(())
}

fn checked_error(error: f64) -> String {
    format!("{}{}", if error > 0.0 { "+" } else { "" }, percent(error))
}

/// The unit costs, with their sources.
pub(crate) fn sources(costs: &Costs, text: &mut String) -> fmt::Result {
    writeln!(text, "## Unit costs\n\n| key | value | source |\n|---|---:|---|")?;
    costs.sources.iter().try_for_each(|(key, value, source)| writeln!(text, "| {key} | {value} | {source} |"))
}

#[expect(clippy::cast_precision_loss, reason = "a count of CVMs")]
fn number(count: usize) -> f64 {
    count as f64
}
