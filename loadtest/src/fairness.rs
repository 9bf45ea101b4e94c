//! How evenly tenants were served.

use crate::result::{Fairness, TenantPhase};

/// Jain's index: (Σx)² / (n Σx²). 1 when all are the same, 1/n when one has everything; 0 for nobody or nothing.
#[must_use]
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    let count = f64::from(u32::try_from(shares.len()).unwrap_or(u32::MAX));
    if squares > 0.0 { sum * sum / (count * squares) } else { 0.0 }
}

impl Fairness {
    /// Over the tenants that were served as they asked: not the noisy one, and none to which something was done.
    #[must_use]
    pub fn of(tenants: &[TenantPhase]) -> Self {
        let counted = tenants.iter().filter(|tenant| !tenant.noisy && !tenant.disturbed && tenant.due > 0);
        let counted: Vec<&TenantPhase> = counted.collect();
        let shares: Vec<f64> = counted.iter().map(|tenant| ratio(tenant.done, tenant.due)).collect();
        let served = counted.iter().filter(|tenant| tenant.done > 0);
        let mut by_p99: Vec<(u64, &str)> =
            served.map(|tenant| (tenant.latency.p99_us, tenant.tenant.as_str())).collect();
        by_p99.sort_unstable();
        let median = by_p99.get(by_p99.len() / 2).map_or(0, |(p99, _)| *p99);
        let (worst, name) = by_p99.last().copied().unwrap_or_default();
        Self { jain: jain(&shares), worst_tenant: name.to_owned(), worst_p99_us: worst, median_p99_us: median }
    }
}

/// A part of a whole; 0 of nothing.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Latency;

    fn tenant(name: &str, due: u64, done: u64, p99_us: u64) -> TenantPhase {
        TenantPhase {
            tenant: name.to_owned(),
            noisy: false,
            disturbed: false,
            share: 0.5,
            due,
            done,
            failed: due - done,
            latency: Latency { p99_us, ..Latency::default() },
        }
    }

    #[test]
    fn jain_s_index_tells_an_even_share_from_a_monopoly() {
        assert!((jain(&[1.0, 1.0, 1.0, 1.0]) - 1.0).abs() < 1e-9);
        assert!((jain(&[4.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
        assert!(jain(&[]).abs() < 1e-9 && jain(&[0.0, 0.0]).abs() < 1e-9);
    }

    #[test]
    fn tenants_are_compared_by_what_they_asked_for() {
        let even = Fairness::of(&[tenant("a", 1000, 500, 10), tenant("b", 10, 5, 30), tenant("c", 10, 5, 20)]);
        assert!((even.jain - 1.0).abs() < 1e-9);
        assert_eq!((even.worst_tenant.as_str(), even.worst_p99_us, even.median_p99_us), ("b", 30, 20));
        let uneven = Fairness::of(&[tenant("a", 100, 100, 10), tenant("b", 100, 0, 0)]);
        assert!((uneven.jain - 0.5).abs() < 1e-9, "who gets nothing counts");
        assert_eq!(uneven.worst_tenant, "a", "who gets nothing has no latency");
    }

    #[test]
    fn who_is_noisy_or_was_disturbed_is_not_part_of_it() {
        let noisy = TenantPhase { noisy: true, ..tenant("n", 100, 1, 1_000_000) };
        let revoked = TenantPhase { disturbed: true, ..tenant("r", 100, 0, 0) };
        let fairness = Fairness::of(&[noisy, revoked, tenant("a", 100, 100, 10)]);
        assert!((fairness.jain - 1.0).abs() < 1e-9);
        assert_eq!(fairness.worst_tenant, "a");
        assert_eq!(fairness.index(), Some(fairness.jain));
        assert_eq!((Fairness::of(&[]), Fairness::of(&[]).index()), (Fairness::default(), None));
    }
}
