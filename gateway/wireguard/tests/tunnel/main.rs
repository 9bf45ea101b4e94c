//! Tunnels in one process, end to end over the loopback.

mod bulk;
mod ends;
mod streams;
