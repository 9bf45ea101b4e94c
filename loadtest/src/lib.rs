//! Load tests of a whole Postern cluster.
//!
//! [`scenario`] says what is started, asked and done; [`run`] does it. A task hands out work at the times that [`arrivals`]
//! fixes from a seed, whatever became of earlier work, and each piece is measured from when it was due. [`ledger`] compares
//! what was acknowledged with what is found in the end, and [`fairness`] how evenly tenants were served. [`result`] is what a
//! run leaves behind, and what reports and comparisons read.

pub mod arrivals;
mod client;
mod cluster;
pub mod compare;
mod datapath;
mod drive;
mod echo;
mod events;
mod failure;
pub mod fairness;
mod junit;
pub mod ledger;
mod parts;
pub mod peers;
pub mod plan;
pub mod progress;
pub mod report;
pub mod result;
pub mod run;
pub mod scenario;
mod work;

pub use datapath::Datapath;
pub use drive::Observer;
pub use failure::Failure;
pub use work::Script;
