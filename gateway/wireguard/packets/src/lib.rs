//! TCP packets between the kernel and a tunnel, without sockets, clocks or keys.
//!
//! The kernel hands over up to 64 KiB of one connection at a time, behind a header that says how to cut it; the tunnel
//! carries packets. [`split`] makes the packets of what the kernel handed over, and [`join`] makes something for the kernel
//! of packets that came in. Both look at [`Segment`]s, and neither trusts what it reads: packets come from peers.

pub mod checksum;
pub mod congestion;
mod field;
pub mod join;
mod segment;
pub mod split;
pub mod vnet;

pub use segment::Segment;
