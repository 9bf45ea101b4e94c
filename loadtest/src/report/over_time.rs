//! Throughput and latency, second by second, with what was done to the cluster.

use maud::{Markup, html};

use super::plot::{Axis, Band, Plot, Series, Shape, Unit};
use super::units::{float, seconds};
use crate::result::{PhaseKind, RunResult, Second};

/// The two plots.
pub(crate) fn plots(result: &RunResult) -> Markup {
    html! { (throughput(result).draw()) (latency(result).draw()) }
}

/// What was done to the cluster, by the numbers that stand above the plots.
pub(crate) fn marks(result: &RunResult) -> Markup {
    html! {
        @if !result.marks.is_empty() {
            div.scroll { table.text {
                thead { tr { th { "" } th { "at" } th { "for" } th { "to" } th { "what was done" } } }
                tbody {
                    @for (number, mark) in result.marks.iter().enumerate() {
                        tr {
                            td { (number + 1) }
                            td { (seconds(mark.at_s)) }
                            td { (mark.until_s.map(|until| seconds(until - mark.at_s)).unwrap_or_default()) }
                            td { (mark.target) }
                            td { (mark.text) }
                        }
                    }
                }
            } }
        }
    }
}

fn throughput(result: &RunResult) -> Plot {
    let done = line(result, "done", "s1", Shape::Area, |second| Some(float(second.done)));
    let due = line(result, "due", "s6", Shape::Dashed, |second| Some(float(second.due)));
    let failed = line(result, "failed", "bad-series", Shape::Line, |second| Some(float(second.failed.values().sum())));
    let most = [&done, &due, &failed].into_iter().flat_map(|series| &series.points).map(|point| point.1);
    let any_failed = failed.points.iter().any(|point| point.1 > 0.0);
    Plot {
        title: "Requests a second".to_owned(),
        about: "What ended in each second, and what was due in it.".to_owned(),
        x: time(result),
        y: Axis::from_zero(Unit::Count, most.fold(0.0, f64::max)),
        series: [done, due].into_iter().chain(Some(failed).filter(|_| any_failed)).map(Series::thinned).collect(),
        bands: bands(result),
        wide: true,
        ..Plot::default()
    }
}

fn latency(result: &RunResult) -> Plot {
    let some = |second: &Second, us: u64| (second.done > 0).then(|| float(us));
    let max = line(result, "longest", "s6", Shape::Dashed, |second| some(second, second.max_us));
    let p99 = line(result, "p99", "s2", Shape::Line, |second| some(second, second.p99_us));
    let p50 = line(result, "p50", "s1", Shape::Line, |second| some(second, second.p50_us));
    let all = [&max, &p99, &p50].into_iter().flat_map(|series| &series.points).map(|point| point.1);
    let (least, most) = all.fold((f64::INFINITY, 0.0f64), |(least, most), us| (least.min(us), most.max(us)));
    Plot {
        title: "Latency".to_owned(),
        about: "From when a request was due to when its answer was complete. Each step up is ten times as long."
            .to_owned(),
        x: time(result),
        y: Axis::log(Unit::Micros, if least.is_finite() { least } else { 1.0 }, most),
        series: [max, p99, p50].map(Series::thinned).to_vec(),
        bands: bands(result),
        wide: true,
        ..Plot::default()
    }
}

/// The axis of a run's time.
pub(crate) fn time(result: &RunResult) -> Axis {
    let seconds = result.seconds.last().map_or(0.0, |second| f64::from(second.second) + 1.0);
    let phases = result.phases.iter().map(|phase| phase.begins_s + phase.seconds);
    Axis::between(Unit::Seconds, 0.0, phases.fold(seconds, f64::max))
}

/// Warm-up, the beginnings of phases, and faults by their number.
pub(crate) fn bands(result: &RunResult) -> Vec<Band> {
    let several = result.measured().count() > 1;
    let phases = result.phases.iter().filter_map(|phase| {
        let class = match phase.kind {
            PhaseKind::WarmUp => "warm-up",
            PhaseKind::Measured if several => "phase",
            PhaseKind::Measured => return None,
        };
        let (from, to) = (phase.begins_s, phase.begins_s + phase.seconds);
        Some(Band { from, to, tag: phase.name.clone(), class })
    });
    let faults = result.marks.iter().enumerate().map(|(number, mark)| {
        let to = mark.until_s.unwrap_or(mark.at_s);
        Band { from: mark.at_s, to, tag: (number + 1).to_string(), class: "fault" }
    });
    phases.chain(faults).collect()
}

fn line(
    result: &RunResult,
    name: &str,
    class: &'static str,
    shape: Shape,
    value: impl Fn(&Second) -> Option<f64>,
) -> Series {
    let points = result.seconds.iter().filter_map(|second| Some((f64::from(second.second) + 0.5, value(second)?)));
    Series { name: name.to_owned(), class, shape, points: points.collect() }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn faults_stand_where_they_happened_and_warm_up_is_marked() {
        let result = example::result();
        let bands = bands(&result);
        let faults: Vec<_> = bands.iter().filter(|band| band.class == "fault").collect();
        assert_eq!(faults.iter().map(|band| (band.from, band.to)).collect::<Vec<_>>(), [(12.0, 14.0), (20.0, 20.0)]);
        assert_eq!(bands.iter().filter(|band| band.class == "warm-up").count(), 1);
        let table = marks(&result).into_string();
        assert!(table.contains("the gateway was killed") && table.contains("<td>2.0 s</td>"), "{table}");
    }

    #[test]
    fn seconds_in_which_nothing_was_done_have_a_rate_and_no_latency() {
        let mut result = example::result();
        result.seconds.iter_mut().skip(10).for_each(|second| second.done = 0);
        let points = |plot: Plot, name: &str| {
            plot.series.into_iter().find(|series| series.name == name).map(|series| series.points.len())
        };
        assert_eq!(points(throughput(&result), "done"), Some(30));
        assert_eq!(points(latency(&result), "p99"), Some(10));
    }
}
