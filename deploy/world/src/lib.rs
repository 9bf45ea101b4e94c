//! A whole Postern cluster on one machine, made of real parts and stopped by pid.
//!
//! [`World::builder`] starts a chain (anvil), a gateway and any number of tenants. A tenant is two simulated CVMs: one with
//! an unmodified Postgres and a sidecar in serve mode, one with a sidecar in connect mode for an application. Every part is
//! the program that would run in production, but for the simulated hardware under it, as a child process of its own.
//!
//! A [`Fleet`] is larger and barer: what load tests need, with up to hundreds of tenants.
//!
//! All files are in one folder, all ports on the loopback address, and neither is shared with another world. The processes
//! end with their owner: in order on [`World::stop`], at once when a value is dropped, and when even that could not happen,
//! at the next start in the same folder.

mod admin;
mod chain;
mod config;
mod error;
mod fleet;
mod gateway;
mod governance;
mod groundwork;
mod guest;
mod impostor;
mod leftovers;
mod link;
mod owner;
mod ports;
mod postgres;
mod process;
mod programs;
mod registrar;
pub mod report;
mod sidecar;
mod stage;
mod state;
pub mod tap;
mod tenant;
mod trust;
mod world;

pub use admin::Admin;
pub use chain::{Chain, ChainClient};
pub use error::WorldError;
pub use fleet::{Fleet, FleetBuilder, FleetSite, HostedGuest, Member, Servers};
pub use gateway::{Bounds, DOMAIN, Datapath, Gateway};
pub use governance::{CollateralService, SignedPolicy};
pub use guest::{Guest, Platform};
pub use impostor::{Disguise, Impostor};
pub use link::{Link, Weather};
pub use postgres::{Postgres, PostgresSource};
pub use process::{Process, Recipe};
pub use programs::Programs;
pub use registrar::Registrar;
pub use sidecar::Sidecar;
pub use stage::Stage;
pub use state::State;
pub use tenant::{Application, Database, Secrets, Tenant};
pub use world::{Keys, Taps, World, WorldBuilder, WorldSite};
