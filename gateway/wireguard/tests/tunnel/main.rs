//! Tunnels in one process, end to end over the loopback.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, in its helpers too, and makes its data by cutting numbers"
)]

mod bulk;
mod ends;
mod hostile;
mod network;
mod peers;
mod streams;
