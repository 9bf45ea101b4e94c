//! Evidence in, verdict out: everything that says "this peer is that measured code".
//!
//! The crate is pure. It reads no clock, opens no socket and holds no state between calls; the time is an argument, in
//! seconds since 1970. Fetching collateral, talking to a guest agent and TLS itself belong to `postern_attest_io`.

mod appraiser;
pub mod certificate;
mod claims;
mod collateral;
pub mod event_log;
mod issuer;
mod measurements;
pub mod oid;
mod peer;
pub mod policy;
mod provider;
mod quote;
mod rejection;
mod report_data;
mod statement;
mod tcb;
mod trust;
mod trust_authority;

pub use appraiser::{Appraisal, Appraiser};
pub use claims::QuoteClaims;
pub use collateral::{Collateral, CollateralError, Fmspc, Issued, MAX_BUNDLE_BYTES, Window};
/// The collateral of one kind of platform, as dcap-qvl names and writes it.
pub use dcap_qvl::QuoteCollateralV3 as CollateralSet;
pub use event_log::AppIdentity;
pub use issuer::{CertificateRules, IssuerError, KmsRoot};
pub use measurements::Measurements;
pub use peer::{PeerPolicy, PolicyRefusal};
pub use policy::Policy;
pub use quote::platform_of;
pub use rejection::Rejection;
pub use report_data::report_data;
pub use statement::{MAX_NONCE, MIN_NONCE, Statement};
pub use tcb::{TcbPolicy, TcbStatus, UnknownTcbStatus};
pub use trust::{TrustRoot, TrustRootError};
pub use trust_authority::{MAX_JWKS_BYTES, MAX_TOKEN_BYTES, Opinion, TokenError, TokenKeys};
