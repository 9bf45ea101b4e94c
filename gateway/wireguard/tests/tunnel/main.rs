//! Tunnels in one process, end to end over the loopback.

mod ends;
mod streams;
