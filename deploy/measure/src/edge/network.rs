//! Three machines in a row: the client's, the edge, and the CVM.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::impairment::Impairment;
use super::machine::Machine;
use super::slow;

/// The edge, as clients reach it.
pub(super) const EDGE_PUBLIC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The client.
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The edge, as CVMs reach it.
pub(super) const EDGE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The CVM.
pub(super) const CVM: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// The machines, and the two cables between them.
pub(super) struct Network {
    pub(super) client: Machine,
    pub(super) edge: Machine,
    pub(super) cvm: Machine,
    impairment: Impairment,
    ethtool: Option<PathBuf>,
}

/// What lies between edge and CVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Underlay {
    /// A cable that takes UDP datagrams joined, as a card does that splits them itself (UDP segmentation offload).
    Cable,
    /// A cable before which the kernel splits them.
    Splitting,
    /// A long way on which packets are lost.
    Lossy,
}

impl Network {
    pub(super) async fn new(ethtool: Option<&Path>) -> anyhow::Result<Self> {
        let [client, edge, cvm] = [Machine::new()?, Machine::new()?, Machine::new()?];
        client.ip(&format!("link add street type veth peer name street netns {}", edge.network())).await?;
        edge.ip(&format!("link add cable type veth peer name cable netns {}", cvm.network())).await?;
        for (machine, address, device) in
            [(&client, CLIENT, "street"), (&edge, EDGE_PUBLIC, "street"), (&edge, EDGE, "cable"), (&cvm, CVM, "cable")]
        {
            machine.ip("link set lo up").await?;
            machine.ip(&format!("address add {address}/24 dev {device}")).await?;
            machine.ip(&format!("link set {device} up")).await?;
            // Thousands of connections a second leave their ports for a minute.
            machine.set("ip_local_port_range", "10240 65000").await?;
            machine.set("tcp_tw_reuse", "1").await?;
        }
        // Slow clients come from many networks, all of them on the client's machine.
        client.ip(&format!("route add local {} dev lo", slow::NETWORKS)).await?;
        edge.ip(&format!("route add {} via {CLIENT}", slow::NETWORKS)).await?;
        let impairment = Impairment::start(&edge, &cvm).await.context("an impaired link")?;
        Ok(Self { client, edge, cvm, impairment, ethtool: ethtool.map(Path::to_owned) })
    }

    /// Whether there is such a way between edge and CVM.
    pub(super) fn has(&self, underlay: Underlay) -> bool {
        underlay != Underlay::Splitting || self.ethtool.is_some()
    }

    /// Changes what lies between edge and CVM from the usual cable to something else, or back.
    pub(super) async fn lay(&self, underlay: Underlay, back: bool) -> anyhow::Result<()> {
        match underlay {
            Underlay::Cable => Ok(()),
            Underlay::Splitting => self.split(!back).await,
            Underlay::Lossy => self.impairment.route(&self.edge, &self.cvm, !back).await,
        }
    }

    /// Whether the kernel splits joined UDP datagrams before the cable.
    async fn split(&self, by_kernel: bool) -> anyhow::Result<()> {
        let ethtool = self.ethtool.as_ref().context("there is no ethtool")?;
        for machine in [&self.edge, &self.cvm] {
            let mut command = Command::new(ethtool);
            command.args(["--features", "cable", "tx-udp-segmentation", if by_kernel { "off" } else { "on" }]);
            machine.must(command).await?;
        }
        Ok(())
    }
}
