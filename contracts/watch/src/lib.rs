//! The on-chain allowlist as several nodes show it.
//!
//! Calls are truth and logs are hints. A head counts when a quorum of the configured endpoints shows the same block, whose
//! hash is computed here from its header. An answer counts when a quorum gives the same one to `isAppAllowed`, asked of
//! the KMS contract at that block's hash, or when the storage that it would read is proven to belong to that block. A log of
//! a contract concerned only says that it is time to ask again; where logs cannot be had, everything is asked again.
//!
//! What is known is a [`postern_allowlist::View`], published as a whole: [`Watch::current`] reads it without a lock, and
//! the verdict is [`postern_allowlist::admit()`]'s.

pub mod abi;
mod agree;
mod ask;
mod complaints;
mod config;
mod endpoint;
mod follow;
mod lineage;
mod patience;
mod poll;
mod proof;
#[doc(hidden)]
pub mod reading;
mod telemetry;
mod touched;
pub mod transport;
mod watch;

pub use alloy::primitives::Address;
pub use url::Url;

pub use config::{Clock, ConfigError, Confirmed, LogSource, NotASource, WatchConfig};
pub use endpoint::EndpointStatus;
pub use proof::{NotAPin, Pin, Pins};
pub use watch::{Change, Watch};
