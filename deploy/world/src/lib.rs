//! A whole Postern cluster on one machine, made of real parts and stopped by pid.

mod chain;
mod error;
mod leftovers;
mod owner;
mod ports;
mod postgres;
mod process;
mod state;
pub mod tap;

pub use chain::Chain;
pub use error::WorldError;
pub use postgres::{Postgres, PostgresSource};
pub use process::{Process, Recipe};
pub use state::State;
