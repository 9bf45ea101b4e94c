//! What each part of the cluster cost.

use maud::{Markup, html};

use super::plot::{Axis, Plot, Series, Shape, Unit};
use super::units::{float, mib};
use super::{over_time, units};
use crate::result::{Part, PartKind, RunResult};

/// Processors over time.
pub(crate) fn plots(result: &RunResult) -> Markup {
    plot(result).draw()
}

fn plot(result: &RunResult) -> Plot {
    // Each part stands on those before it, so that the highest line is the whole cluster; drawn from the back.
    let mut below: Vec<f64> = Vec::new();
    let mut series: Vec<Series> = Vec::new();
    for part in &result.parts {
        below.resize(part.samples.len().max(below.len()), 0.0);
        let mut points = Vec::new();
        for (sample, below) in part.samples.iter().zip(&mut below) {
            *below += sample.cpu;
            points.push((sample.at_s, *below));
        }
        series.push(Series { name: part.name.clone(), class: class(part.kind), shape: Shape::Stacked, points });
    }
    series.reverse();
    Plot {
        title: "Busy processors".to_owned(),
        about: format!("One part upon the other; this machine has {}.", result.machine.cores),
        x: over_time::time(result),
        y: Axis::from_zero(Unit::Cores, below.iter().copied().fold(0.5, f64::max)),
        series,
        bands: over_time::bands(result),
        wide: true,
        ..Plot::default()
    }
}

const fn class(kind: PartKind) -> &'static str {
    match kind {
        PartKind::Edge => "s1",
        PartKind::Sidecars => "s2",
        PartKind::Databases => "s3",
        PartKind::Chain => "s4",
        PartKind::Simulated => "s5",
        PartKind::Generator => "s6",
    }
}

/// What each part took in all.
pub(crate) fn table(result: &RunResult) -> Markup {
    let total: f64 = result.parts.iter().map(|part| part.cpu_seconds).sum();
    let seconds = result.total.seconds.max(f64::MIN_POSITIVE);
    html! {
        div.scroll { table {
            thead { tr {
                th { "part" } th { "processes" } th { "CPU" } th { "of all" } th { "processors" } th { "CPU per 1,000 requests" }
                th { "memory at most" } th { "per tenant" }
            } }
            tbody { @for part in &result.parts { tr {
                td { (part.name) }
                td { (part.processes) }
                td { (units::seconds(part.cpu_seconds)) }
                td { (units::percent(if total > 0.0 { part.cpu_seconds / total } else { 0.0 })) }
                td { (format!("{:.2}", part.cpu_seconds / seconds)) }
                td { (per_thousand(part, result.total.done)) }
                td { (mib(part.peak_memory_mib)) }
                td { (mib(part.peak_memory_mib / f64::from(result.subject.tenants.max(1)))) }
            } } }
        } }
    }
}

fn per_thousand(part: &Part, done: u64) -> String {
    if done == 0 { String::new() } else { units::micros(part.cpu_seconds * 1e9 / float(done)) }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn parts_stand_upon_each_other() {
        let result = example::result();
        let plot = plot(&result);
        assert_eq!(plot.series.first().unwrap().name, result.parts.last().unwrap().name, "the highest is drawn first");
        let top = plot.series.first().unwrap().points.first().unwrap().1;
        let all: f64 = result.parts.iter().map(|part| part.samples.first().unwrap().cpu).sum();
        assert!((top - all).abs() < 1e-9, "{top} and {all}");
    }

    #[test]
    fn the_cost_of_a_request_is_told() {
        let table = table(&example::result()).into_string();
        assert!(table.contains("gateway") && table.contains("<td>125 ms</td>"), "3 s for 24,000 requests: {table}");
    }
}
