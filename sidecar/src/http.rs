//! What the sidecar beside Postgres shows to everybody, in plain HTTP: that it is alive, whether it is ready, and evidence of
//! what it is and of the database's state.
//!
#![doc = include_str!("http/attestation.md")]

mod answer;
mod problem;
mod router;
mod witness;

use std::time::Duration;

use postern_plumbing::http::server::Bounds;

pub use answer::{Answer, PostgresState, TcbInfo};
pub use router::router;
pub use witness::{QuoteLimits, Witness};

/// Behind a load balancer, many callers have one address.
pub const BOUNDS: Bounds = Bounds { connections: 256, per_source: 64, lifetime: Duration::from_secs(300) };
