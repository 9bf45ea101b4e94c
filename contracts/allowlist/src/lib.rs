//! What the chain allows, as far as we know: logs and calls in, one verdict out.
//!
//! A [`View`] follows the head of one chain and keeps, for every workload that somebody asked about, what the KMS
//! contract answered about it and up to when that answer is known to hold. [`admit()`] turns evidence that was believed,
//! a view and a program's own rules into the only verdict on admission that exists in Postern. Nothing here talks to a node
//! or reads a clock: heads, answers and the present moment are arguments, so that every history of a chain can be played
//! back in a test.
//!
//! Times are Unix seconds throughout.

pub mod admit;
mod answer;
mod block;
mod boot;
mod freshness;
pub mod quorum;
mod subject;
mod view;

pub use admit::{Admission, LocalRules, NotAdmitted, Proven, admit, standing, welcome};
pub use answer::{Answer, Decision, Refusal, Why};
pub use block::Block;
pub use boot::BootInfo;
pub use freshness::{Freshness, FreshnessPolicy};
pub use postern_attest::{PeerPolicy, PolicyRefusal};
pub use view::{Change, Head, HeadRefused, Link, View, ViewRules};
