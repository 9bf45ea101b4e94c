//! What is counted, as the metrics `postern_tunnel_…`.

use metrics::{Counter, Gauge, counter, gauge};

use crate::error::ConnectError;

/// Handles that are looked up once, as some are touched for every batch of packets.
pub(crate) struct Meters {
    pub(crate) received_bytes: Counter,
    pub(crate) received_packets: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) sent_packets: Counter,
    pub(crate) handshakes: Counter,
    pub(crate) peers: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) panics: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            received_bytes: counter!("postern_tunnel_received_bytes_total"),
            received_packets: counter!("postern_tunnel_received_packets_total"),
            sent_bytes: counter!("postern_tunnel_sent_bytes_total"),
            sent_packets: counter!("postern_tunnel_sent_packets_total"),
            handshakes: counter!("postern_tunnel_handshakes_total"),
            peers: gauge!("postern_tunnel_peers"),
            connections: gauge!("postern_tunnel_connections"),
            panics: counter!("postern_tunnel_contained_panics_total"),
        }
    }

    /// Counts packets that went nowhere, and why.
    pub(crate) fn dropped(&self, reason: &'static str, packets: usize) {
        counter!("postern_tunnel_dropped_packets_total", "reason" => reason).increment(packets as u64);
    }

    /// Counts a connection that this end wanted.
    pub(crate) fn connected<T>(&self, outcome: &Result<T, ConnectError>) {
        let label = match outcome {
            Ok(_) => "open",
            Err(ConnectError::Refused) => "refused",
            Err(ConnectError::TimedOut) => "timed_out",
            Err(ConnectError::Exhausted) => "exhausted",
            Err(ConnectError::Address | ConnectError::NoRoute | ConnectError::NoEndpoint) => "unreachable",
            Err(ConnectError::Removed) => "removed",
        };
        self.connection("out", label);
    }

    /// Counts a connection that was made, or was not, and by which side.
    pub(crate) fn connection(&self, direction: &'static str, outcome: &'static str) {
        counter!("postern_tunnel_connections_total", "direction" => direction, "outcome" => outcome).increment(1);
    }
}
