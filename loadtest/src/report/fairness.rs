//! How each tenant was served.

use maud::{Markup, html};

use super::plot::{Axis, Level, Plot, Series, Shape, Unit};
use super::units::{float, micros};
use crate::result::{Phase, RunResult, TenantPhase};

/// The two plots, where there is more than one tenant.
pub(crate) fn plots(result: &RunResult) -> Markup {
    html! {
        @if result.total.tenants.len() > 1 { (latencies(&result.total).draw()) (served(&result.total).draw()) }
    }
}

/// Each tenant's p99, the worst first.
fn latencies(total: &Phase) -> Plot {
    let mut tenants: Vec<&TenantPhase> = total.tenants.iter().collect();
    tenants.sort_by_key(|tenant| std::cmp::Reverse(tenant.latency.p99_us));
    let median = float(total.fairness.median_p99_us);
    let p99 = |tenant: &TenantPhase| float(tenant.latency.p99_us);
    Plot {
        title: "p99 of each tenant".to_owned(),
        about: "One bar per tenant, the worst first. Even bars are fair.".to_owned(),
        x: numbers(&tenants),
        y: Axis::from_zero(Unit::Micros, tenants.iter().map(|tenant| p99(tenant)).fold(0.0, f64::max)),
        series: bars(&tenants, "p99", p99),
        levels: vec![Level { at: median, words: format!("median {}", micros(median)) }],
        names: names(&tenants),
        ..Plot::default()
    }
}

/// What part of what each tenant asked for was done, the worst first.
fn served(total: &Phase) -> Plot {
    let mut tenants: Vec<&TenantPhase> = total.tenants.iter().collect();
    tenants.sort_by(|a, b| part_served(a).total_cmp(&part_served(b)));
    Plot {
        title: "What each tenant got of what it asked for".to_owned(),
        about: "Done work in relation to due work, the worst first.".to_owned(),
        x: numbers(&tenants),
        y: Axis::from_zero(Unit::Percent, 1.0),
        series: bars(&tenants, "done", part_served),
        names: names(&tenants),
        ..Plot::default()
    }
}

fn part_served(tenant: &TenantPhase) -> f64 {
    if tenant.due == 0 { 1.0 } else { float(tenant.done) / float(tenant.due) }
}

fn bars(tenants: &[&TenantPhase], name: &str, value: impl Fn(&TenantPhase) -> f64) -> Vec<Series> {
    let of = |noisy: bool| {
        let here = tenants.iter().zip(0u32..).filter(move |(tenant, _)| tenant.noisy == noisy);
        here.map(|(tenant, number)| (f64::from(number), value(tenant))).collect::<Vec<_>>()
    };
    let bars = |name: &str, class, points| Series { name: name.to_owned(), class, shape: Shape::Bars, points };
    let mut series = vec![bars(name, "s1", of(false))];
    if tenants.iter().any(|tenant| tenant.noisy) {
        series.push(bars(&format!("{name} of who takes more than its share"), "s2", of(true)));
    }
    series
}

fn numbers(tenants: &[&TenantPhase]) -> Axis {
    Axis::between(Unit::Count, -0.5, float(tenants.len() as u64) - 0.5)
}

fn names(tenants: &[&TenantPhase]) -> Vec<String> {
    tenants.iter().map(|tenant| tenant.tenant.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn the_worst_tenant_stands_first_and_the_noisy_one_apart() {
        let mut total = example::result().total;
        total.tenants.last_mut().unwrap().noisy = true;
        let plot = latencies(&total);
        assert_eq!(plot.names, ["t003", "t002", "t001", "t000"]);
        assert_eq!(plot.series.iter().map(|series| series.points.len()).collect::<Vec<_>>(), [3, 1]);
        assert!(plot.levels.first().unwrap().words.starts_with("median "));
    }

    #[test]
    fn a_tenant_that_asked_for_nothing_got_everything() {
        let mut total = example::result().total;
        total.tenants.first_mut().unwrap().due = 0;
        total.tenants.last_mut().unwrap().done = 0;
        let plot = served(&total);
        assert_eq!(plot.names.first().map(String::as_str), Some("t003"));
        assert_eq!(plot.series.first().unwrap().points.first(), Some(&(0.0, 0.0)));
    }
}
