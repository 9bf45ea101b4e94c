//! What an edge takes of its machine: everything between the client's connection and the datagrams of the tunnel.

use crate::process::{self, Times};

/// The threads of the gateway that are its tunnel.
const TUNNEL_THREADS: &str = "tunnel";

/// The processes of an edge.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edge {
    /// The gateway, which is both proxy and tunnel.
    Gateway(u32),
    /// A proxy over the gateway's tunnel.
    OverGateway { proxy: u32, gateway: u32 },
    /// A proxy and, if there is one, a tunnel.
    Programs { proxy: u32, tunnel: Option<u32> },
}

/// The CPU time of an edge.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    pub(super) proxy: Times,
    pub(super) tunnel: Times,
}

impl Edge {
    /// What was spent so far.
    pub(super) fn spent(self) -> anyhow::Result<Spent> {
        Ok(match self {
            Self::Gateway(pid) => {
                let (all, tunnel) = (process::times(pid)?, process::times_of_threads(pid, TUNNEL_THREADS)?);
                Spent { proxy: all - tunnel, tunnel }
            }
            Self::OverGateway { proxy, gateway } => {
                Spent { proxy: of_family(proxy)?, tunnel: process::times_of_threads(gateway, TUNNEL_THREADS)? }
            }
            Self::Programs { proxy, tunnel } => {
                let tunnel = tunnel.map_or(Ok(Times::default()), process::times)?;
                Spent { proxy: of_family(proxy)?, tunnel }
            }
        })
    }

    /// The resident memory of the proxy and of the tunnel, in bytes; the kernel's for connections is not part of it. The gateway
    /// is one process and is all in the first.
    pub(super) fn memory(self) -> anyhow::Result<(f64, f64)> {
        let (proxy, tunnel) = match self {
            Self::Gateway(pid) => (pid, None),
            Self::OverGateway { proxy, gateway } => (proxy, Some(gateway)),
            Self::Programs { proxy, tunnel } => (proxy, tunnel),
        };
        let mut sum = process::resident(proxy)?;
        for child in process::children(proxy) {
            sum += process::resident(child)?;
        }
        Ok((sum, tunnel.map_or(Ok(0.0), process::resident)?))
    }
}

impl Spent {
    pub(super) fn since(self, before: Self) -> Self {
        Self { proxy: self.proxy - before.proxy, tunnel: self.tunnel - before.tunnel }
    }

    /// Everything, in seconds.
    pub(super) fn seconds(self) -> f64 {
        (self.proxy + self.tunnel).all().as_secs_f64()
    }

    /// The kernel's part of it, in seconds.
    pub(super) fn system(self) -> f64 {
        (self.proxy + self.tunnel).system.as_secs_f64()
    }
}

/// A process and those that it has started.
fn of_family(pid: u32) -> anyhow::Result<Times> {
    let mut sum = process::times(pid)?;
    for child in process::children(pid) {
        sum = sum + process::times(child)?;
    }
    Ok(sum)
}
