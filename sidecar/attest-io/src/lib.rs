//! Mutual RA-TLS between measured parts: who we are, who the other is, and a TLS session once both are known.
//!
//! [`GuestAgent`] asks the guest agent for quotes and keys. [`Identity`] is our own certificate, which [`IdentityKeeper`]
//! renews. [`Attestor`] judges the certificates of others, with `postern_attest` as the judge, by the signed policy that
//! [`PolicyKeeper`] keeps in force and the time that [`HighWater`] keeps from running backwards; [`collateral`] is where it
//! has its facts about platforms from, and [`collateral_file`] where somebody else puts them. [`Acceptor`] and
//! [`Connector`] are the two ends of a session. [`AgentSettings`] and [`AttestationSettings`] are what a configuration says of
//! all this, and [`AttestationSettings::judge`] puts the judge together and keeps it running.

pub mod agent;
mod attestor;
pub mod collateral;
pub mod collateral_file;
mod durable;
mod high_water;
mod identity;
mod judge;
mod keeper;
mod policy;
mod refusal;
mod settings;
mod state;
mod tls;
mod trust_authority;

pub use agent::GuestAgent;
pub use attestor::{Attestor, Clock, SourceLimit, Sources};
pub use high_water::{CollateralRolledBack, HighWater, HighWaterError};
pub use identity::{Identity, IdentityError};
pub use judge::JudgeError;
pub use keeper::IdentityKeeper;
pub use policy::{PolicyFiles, PolicyKeeper, PolicyLoadError, Reloaded, signature_of};
pub use refusal::PeerRefused;
pub use settings::{AgentSettings, AttestationSettings, CollateralSettings, RuleSettings, SignedPolicy};
pub use state::{StateError, StateFolder, StateLock};
pub use tls::{Accepted, Acceptor, Attested, ClientRule, ConnectRefused, Connector, TlsRefused};
pub use trust_authority::{AuthorityUrl, NotAnAuthorityUrl, OpinionError, PinnedKeys, TrustAuthority};
