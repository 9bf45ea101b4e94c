//! Load tests of a whole Postern cluster.
//!
//! [`result`] is what a run leaves behind, and what reports and comparisons read.

pub mod compare;
mod failure;
pub mod peers;
pub mod plan;
pub mod report;
pub mod result;
pub mod run;

pub use failure::Failure;
