//! How packets of the gateway's tunnels become connections.

use serde::{Deserialize, Serialize};

/// How packets become connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Datapath {
    /// A network interface and the kernel's TCP, as in a fleet; it needs CAP_NET_ADMIN
    Tun,
    /// In the process, without privileges
    #[default]
    Netstack,
}

impl From<Datapath> for postern_world::Datapath {
    fn from(datapath: Datapath) -> Self {
        match datapath {
            Datapath::Tun => Self::Tun,
            Datapath::Netstack => Self::Netstack,
        }
    }
}

/// The capability that interfaces need (capabilities(7), CAP_NET_ADMIN), by its bit.
const NET_ADMIN: u32 = 12;

impl Datapath {
    /// Why it cannot be had here; `None` when it can.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let is_missing = self == Self::Tun && !may_change_networks(&status);
        is_missing.then_some(
            "the datapath tun needs CAP_NET_ADMIN: deploy/load peers has it in a network of its own; --datapath netstack does without",
        )
    }
}

/// What a process's status says of its capabilities (proc_pid_status(5), `CapEff`).
fn may_change_networks(status: &str) -> bool {
    let effective = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    effective.is_some_and(|effective| effective >> NET_ADMIN & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_read_from_the_status() {
        assert!(may_change_networks("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(may_change_networks("CapEff:\t0000000000001000\n"));
        assert!(!may_change_networks("CapEff:\t0000000000000fff\nCapBnd:\t000001ffffffffff\n"));
        assert!(!may_change_networks(""));
        assert_eq!(Datapath::Netstack.missing(), None);
    }
}
