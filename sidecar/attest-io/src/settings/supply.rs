//! Where collateral comes from.

use std::path::PathBuf;
use std::time::Duration;

use postern_plumbing::config::Section;

use super::positive;
use crate::collateral::Sources;

/// Where collateral comes from: a file that somebody renews, services that are asked, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollateralSettings {
    /// A bundle, which is read at start and again when it changes.
    pub file: Option<PathBuf>,
    /// The services, in the order in which they are asked.
    pub services: Option<Sources>,
    /// How long one answer of a service may take.
    pub timeout: Duration,
    /// How old collateral may get before the services are asked for newer.
    pub refresh: Duration,
}

impl CollateralSettings {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let file = section.optional("collateral");
        let services = services(section);
        let timeout = positive(section, "collateral_timeout", Duration::from_secs(10));
        let refresh = positive(section, "collateral_refresh", Duration::from_secs(24 * 60 * 60));
        if !section.has("collateral") && !section.has("collateral_urls") {
            section.problem(
                "collateral",
                "missing; expected a path here, or the addresses of services in `collateral_urls`",
            );
        }
        (file.is_some() || services.is_some()).then_some(Self { file, services, timeout, refresh })
    }
}

/// An empty list is as good as none, except that then a file is needed.
fn services(section: &mut Section<'_>) -> Option<Sources> {
    let urls: Vec<String> = section.list("collateral_urls");
    if urls.is_empty() {
        if section.has("collateral_urls") && !section.has("collateral") {
            section.problem("collateral_urls", "expected an address, or a path in `collateral`");
        }
        return None;
    }
    // Its own words would repeat the address, which may hold a password.
    let wrong = |_| "expected http:// or https:// with a host each, without a password or a query";
    let sources = Sources::new(urls.iter().map(String::as_str)).map_err(wrong);
    sources.map_err(|mistake| section.problem("collateral_urls", mistake)).ok()
}
