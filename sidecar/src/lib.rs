//! The sidecar: beside Postgres it asks every client for evidence and a secret, beside an application it verifies the
//! server; the binary `sidecar` is a thin shell around this crate.

pub mod cli;
pub mod collateral;
pub mod config;
pub mod connect;
pub mod deadline;
pub mod dial;
pub mod evidence;
pub mod files;
pub mod http;
pub mod keys;
pub mod meter;
pub mod opening;
pub mod packets;
pub mod policy;
pub mod postgres;
mod print;
pub mod secrets;
pub mod serve;
pub mod start;
pub mod tools;
pub mod tunnel;
pub mod verify;
