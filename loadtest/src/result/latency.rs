//! Latencies: a table for humans, and the whole histogram for programs.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The significant digits of latencies.
pub const DIGITS: u8 = 3;

/// The longest latency that is told from longer ones, in microseconds: ten minutes.
const LONGEST: u64 = 600_000_000;

/// The quantiles of the table.
const QUANTILES: [f64; 12] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999, 1.0];

/// The distribution of latencies, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured. The other numbers are 0 when there were none.
    pub count: u64,
    /// The mean.
    pub mean_us: f64,
    /// Half of all took no longer.
    pub p50_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// 999 of 1000 took no longer.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
    /// The distribution as a table, by rising quantile.
    pub table: Vec<Quantile>,
    /// The whole histogram: `microseconds:count` of every bucket that is not empty, by rising latency, with spaces between.
    /// Buckets are those of an HdrHistogram with [`DIGITS`] significant digits.
    pub buckets: String,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// This part of all, from 0 to 1,
    pub quantile: f64,
    /// took no longer than this, in microseconds.
    pub us: u64,
}

impl Latency {
    /// What a histogram of microseconds says.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        let buckets = histogram.iter_recorded();
        let buckets = buckets.map(|bucket| format!("{}:{}", bucket.value_iterated_to(), bucket.count_at_value()));
        Self {
            count: histogram.len(),
            mean_us: histogram.mean(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max(),
            table: QUANTILES.map(|quantile| Quantile { quantile, us: at(quantile) }).to_vec(),
            buckets: buckets.collect::<Vec<_>>().join(" "),
        }
    }

    /// The whole histogram, empty when nothing was measured; `None` when `buckets` is not as it should be.
    #[must_use]
    pub fn histogram(&self) -> Option<Histogram<u64>> {
        let mut histogram = empty_histogram();
        for bucket in self.buckets.split_whitespace() {
            let (value, count) = bucket.split_once(':')?;
            histogram.record_n(value.parse().ok()?, count.parse().ok()?).ok()?;
        }
        Some(histogram)
    }
}

/// A histogram of microseconds; what takes longer than ten minutes counts as ten minutes when it is recorded with
/// `saturating_record`.
#[must_use]
#[expect(clippy::expect_used, reason = "the bounds are constants that the library takes")]
pub fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("the bounds are in order")
}
