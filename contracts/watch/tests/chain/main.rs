//! The watch on real nodes: anvil, with and without bad company.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on should stop"
)]

mod bad_company;
mod endpoints;
mod independent;
mod log;
mod older;
mod proofs;
mod reorganisations;
mod scenery;
mod verdicts;
