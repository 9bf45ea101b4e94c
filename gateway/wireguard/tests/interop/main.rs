//! Other implementations of WireGuard at the far end, as `deploy/interop` runs them.

#![cfg(target_os = "linux")]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic, in its helpers too"
)]

#[expect(dead_code, reason = "the far end is not ours here")]
#[path = "../interface/namespaces.rs"]
mod namespaces;
mod others;
mod talks;
