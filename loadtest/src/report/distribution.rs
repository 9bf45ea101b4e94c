//! The distribution of latencies.

use maud::Markup;

use super::plot::{Axis, Plot, Series, Shape, Unit};
use super::units::float;
use crate::result::{Latency, RunResult};

/// Colours of further phases.
const FURTHER: [&str; 3] = ["s3", "s4", "s5"];

/// The cumulative distribution, with room for the tail.
pub(crate) fn plot(result: &RunResult) -> Markup {
    plot_of(result).draw()
}

fn plot_of(result: &RunResult) -> Plot {
    let mut series = vec![of(&result.total.latency, "requests", "s1")];
    let phases: Vec<_> = result.measured().collect();
    if phases.len() > 1 {
        series.extend(phases.iter().zip(FURTHER).map(|(phase, class)| of(&phase.latency, &phase.name, class)));
    }
    if result.total.connect.count > 0 {
        series.push(of(&result.total.connect, "new sessions", "s2"));
    }
    series.retain(|series| !series.points.is_empty());
    let latencies = series.iter().flat_map(|series| &series.points).map(|point| point.0);
    let (least, most) = latencies.fold((f64::INFINITY, 0.0f64), |(least, most), us| (least.min(us), most.max(us)));
    Plot {
        title: "How many took no longer".to_owned(),
        about: "The part of all requests that were done within a time. Each nine has the same room.".to_owned(),
        x: Axis::log(Unit::Micros, if least.is_finite() { least } else { 1.0 }, most),
        y: Axis::nines(nines(result.total.latency.count.max(result.total.connect.count))),
        series: series.into_iter().map(Series::thinned).collect(),
        wide: true,
        ..Plot::default()
    }
}

/// As many nines as a count can tell: of 1,000 requests, the last is a thousandth.
fn nines(count: u64) -> u32 {
    count.max(10).ilog10().clamp(2, 5)
}

fn of(latency: &Latency, name: &str, class: &'static str) -> Series {
    let points = latency.histogram().map(|histogram| {
        let total = float(histogram.len());
        let mut below = 0.0;
        let mut points = Vec::new();
        for bucket in histogram.iter_recorded() {
            below += float(bucket.count_at_value());
            points.push((float(bucket.value_iterated_to()), below / total));
        }
        points
    });
    Series { name: name.to_owned(), class, shape: Shape::Steps, points: points.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn the_distribution_rises_to_all() {
        let plot = plot_of(&example::result());
        let series = plot.series.first().unwrap();
        assert!(series.points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
        assert_eq!(series.points.last().map(|point| point.1), Some(1.0));
        assert_eq!(plot.series.len(), 2, "requests and new sessions");
    }

    #[test]
    fn the_axis_has_as_many_nines_as_there_are_requests_for() {
        assert_eq!([0, 50, 1_000, 123_456, 99_999_999].map(nines), [2, 2, 3, 5, 5]);
    }
}
