//! The configuration: one TOML document for both modes, with every mistake reported at once.

pub mod common;
pub mod connect;
pub mod http;
pub mod roles;
mod rules;
pub mod serve;
pub mod sessions;

use std::time::Duration;

use postern_plumbing::config::{FromValue, Given, Refused, Section};

pub use self::common::{Common, Log};
pub use self::connect::{ConnectConfig, LocalPort};
pub use self::http::HttpConfig;
pub use self::roles::RoleConfig;
pub use self::serve::ServeConfig;

/// The default configuration, with the meaning of every key.
pub const DEFAULT: &str = include_str!("../sidecar.toml");
/// What the names of environment variables begin with.
pub const ENVIRONMENT: &str = "POSTERN_SIDECAR";

/// A section that belongs to the other mode: it may be there, and is not read.
#[derive(Debug)]
struct OfTheOtherMode;

impl FromValue for OfTheOtherMode {
    const EXPECTED: &'static str = "a section";

    fn from_value(_: Given<'_>) -> Result<Self, Refused> {
        Ok(Self)
    }
}

fn skip(mut root: Section<'_>, sections: &[&str]) {
    for name in sections {
        let _skipped: Option<OfTheOtherMode> = root.optional(name);
    }
}

fn positive(section: &mut Section<'_>, key: &str, default: Duration) -> Duration {
    let duration = section.or(key, default);
    if duration.is_zero() {
        section.problem(key, "expected more than no time at all");
    }
    duration
}

fn at_least_one(section: &mut Section<'_>, key: &str, default: usize) -> usize {
    let number = section.or(key, default);
    if number == 0 {
        section.problem(key, "expected at least 1");
    }
    number
}

#[cfg(test)]
mod tests;
