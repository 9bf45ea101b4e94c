//! `[http]`: what serve mode shows to everybody.

use std::net::SocketAddr;

use postern_attest_io::SourceLimit;
use postern_plumbing::config::Section;

use crate::http::QuoteLimits;

/// How many quotes may be asked for at once, after a silence, for each that is given in a second.
const BURST: u32 = 5;

/// The public port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether the metrics are shown as well.
    pub metrics: bool,
    /// How many quotes it gives.
    pub limits: QuoteLimits,
}

pub(super) fn http(section: &mut Section<'_>) -> HttpConfig {
    let listen = section.or("listen", SocketAddr::from(([0, 0, 0, 0], 8080)));
    let metrics = section.or("metrics", false);
    let total = per_second(section, "quotes_per_second", 5);
    let each = per_second(section, "quotes_per_source", 1);
    HttpConfig { listen, metrics, limits: QuoteLimits { total, each } }
}

fn per_second(section: &mut Section<'_>, key: &str, default: u32) -> SourceLimit {
    let per_second = section.or(key, default);
    if !(1..=1_000).contains(&per_second) {
        section.problem(key, "expected 1 to 1000");
    }
    SourceLimit { per_minute: per_second.saturating_mul(60), burst: per_second.saturating_mul(BURST) }
}
