//! The gateway: the edge in front of Postgres in CVMs. It routes by the name in a ClientHello, admits what the chain
//! allows, and relays through WireGuard without decrypting anything.
//!
//! Decisions are made in `postern_gateway_core`; here they are carried out. [`listen`] accepts a client on one of the threads
//! of [`shards`], [`connection`] sees it through, [`dial`] finds its instance. [`register`] lets instances in, [`members`]
//! keeps them, [`chain`] and [`reappraisal`] throw them out. [`app`] puts it all together.

pub mod app;
pub mod audit;
pub mod cancel;
mod capacity;
pub mod chain;
pub mod config;
pub mod connection;
pub mod dial;
pub mod edge;
pub mod listen;
pub mod members;
pub mod metrics;
pub mod openings;
pub mod proxy_header;
pub mod reappraisal;
pub mod register;
pub mod sessions;
pub mod shards;
