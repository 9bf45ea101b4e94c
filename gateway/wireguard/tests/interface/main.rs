//! Tunnels with network interfaces, each end in a network namespace of its own.

#![cfg(target_os = "linux")]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic, in its helpers too"
)]

mod hostile;
mod namespaces;
mod sizes;
mod tunnels;
