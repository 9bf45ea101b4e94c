//! Where collateral comes from: Intel's provisioning certification service (PCS) or a cache of it (PCCS), a folder that
//! survives restarts, or a bundle that somebody carried in.
//!
//! None of them is trusted. What they give is verified under the root before it takes the place of what is known, and
//! nothing that was issued earlier than what was known before takes its place at all.

mod answers;
mod bundle;
mod failure;
mod fetch;
mod flights;
mod folder;
mod keeper;

pub use bundle::{BundleError, export, import, read, store, stored};
pub use failure::{FetchError, SourceFailure};
pub(crate) use fetch::causes;
pub use fetch::{Fetcher, INTEL, NotASource, Sources};
pub use keeper::{CollateralKeeper, Keeping, NotTaken};
