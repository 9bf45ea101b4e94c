//! How many connections there may be, by the descriptors that this process may have.

use postern_plumbing::relay::Pipes;

use crate::config::Config;
use crate::edge::Edge;

/// A session has a socket at each end.
const PER_SESSION: u64 = 2;

/// For listeners, the tunnel, the log and the trail, the chain's endpoints, and those who ask for metrics.
const RESERVED: u64 = 256;

/// Registrations may take this part of the descriptors: one of so many.
const REGISTRATIONS: u64 = 16;

/// All pipes together are at most half of what an ordinary user may have (pipe(7), `pipe-user-pages-soft`: 16,384 pages). As long
/// as it has no more, the system gives pipes of the size that is asked for.
const _: () = assert!(Edge::PIPES * Pipes::SIZE <= 16_384 * 4_096 / 2);

impl Config {
    /// The same, with no more connections than these descriptors allow (`None`: any number): whoever comes too late is told
    /// so, instead of being left to wait until somebody goes.
    #[must_use]
    pub fn within(mut self, descriptors: Option<u64>) -> Self {
        let Some(descriptors) = descriptors else { return self };
        let registrations = lower(&mut self.registration.connections, descriptors / REGISTRATIONS);
        let others = RESERVED + number(Pipes::DESCRIPTORS * Edge::PIPES) + number(Edge::STANDING_ROOM) + registrations;
        lower(&mut self.limits.connections, descriptors.saturating_sub(others) / PER_SESSION);
        self
    }
}

/// Makes a limit fit, and says what it is then; at least one of anything has to be possible.
fn lower(limit: &mut usize, most: u64) -> u64 {
    *limit = usize::try_from(most.max(1)).unwrap_or(usize::MAX).min(*limit);
    number(*limit)
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"
        [edge]
        domains = ["postern.test"]
        [attestation]
        collateral_urls = ["https://pccs.test"]
        [wireguard]
        endpoint = "198.51.100.7:51820"
        [chain]
        rpc_urls = ["https://rpc.test"]
        kms_contract = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
        [limits]
        connections = 10000
        registrations = 4096
    "#;

    fn limits(descriptors: Option<u64>) -> (usize, usize) {
        let config = Config::parse(LEAST, []).unwrap().within(descriptors);
        (config.limits.connections, config.registration.connections)
    }

    #[test]
    fn what_is_configured_holds_where_there_are_descriptors_for_it() {
        assert_eq!(limits(None), (10_000, 4_096));
        assert_eq!(limits(Some(1 << 20)), (10_000, 4_096));
    }

    #[test]
    fn every_connection_that_may_be_open_has_its_descriptors() {
        assert_eq!(limits(Some(20_000)), (9_151, 1_250), "some nine thousand sessions");
        for descriptors in [1_024, 4_096, 20_000, 30_000] {
            let (sessions, registrations) = limits(Some(descriptors));
            let taken = 2 * sessions + registrations + 2 * Edge::PIPES + Edge::STANDING_ROOM;
            assert!(taken + 256 <= usize::try_from(descriptors).unwrap(), "{descriptors}");
            assert!(
                sessions * 2 > usize::try_from(descriptors).unwrap() / 3,
                "{descriptors}: most of them are for sessions"
            );
        }
    }

    #[test]
    fn a_gateway_without_descriptors_serves_one_at_a_time() {
        assert_eq!(limits(Some(0)), (1, 1));
    }
}
