//! A trusted execution environment that does not exist.
//!
//! [`Tee`] is a platform with its own root certificate: it signs TDX quotes that a verifier accepts under a strict policy
//! once it is told to trust that root. [`Cvm`] is a confidential VM on it, with an event log, keys and quotes, and [`agent`]
//! serves dstack's guest-agent API for one CVM.
//!
//! A simulated quote proves nothing: whoever holds the seed chooses every measurement in it. The root is trusted only where
//! a configuration names it, and no release binary links this crate.

pub mod agent;
mod app_info;
mod application_key;
mod attestation;
mod boot;
pub mod certificate;
mod collateral;
pub mod collateral_service;
mod cvm;
mod der;
mod key;
mod kms;
mod pki;
mod policy_signer;
mod quote;
mod tee;

pub use application_key::{Algorithm, Signed};
pub use cvm::{Cvm, OS_IMAGE};
pub use pki::ORGANIZATION;
pub use policy_signer::PolicySigner;
pub use quote::Measurements;
pub use tee::{Faults, Tee};

/// Why the simulator could not make something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulatorError {
    /// The seed gave no valid private key in 256 attempts, or is no key on secp256k1 itself.
    #[error("the seed gives no valid private key")]
    NoKey,
    /// A time is outside what certificates can hold.
    #[error("the time is outside what a certificate can hold")]
    Time,
    /// A date could not be written.
    #[error("a date could not be written")]
    Date(#[from] time::error::Format),
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// The attestation could not be put into a certificate.
    #[error("the attestation does not fit into a certificate")]
    Attestation(#[from] postern_attest::certificate::ExtensionError),
}
