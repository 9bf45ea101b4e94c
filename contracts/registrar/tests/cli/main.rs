//! The command as people and scripts use it, on a real node.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

mod changes;
mod governance;
mod keys;
mod mistakes;
mod plans;
mod scenery;
mod sending;
mod watching;
