//! One simulated platform: its certificates, its collateral and its quotes.

use dcap_qvl::QuoteCollateralV3;
use postern_identity::DeviceId;
use sha2::{Digest as _, Sha256};

use crate::key::Key;
use crate::kms::Kms;
use crate::pki::Pki;
use crate::quote::{Measurements, quote};
use crate::{SimulatorError, collateral};

/// What is wrong with a simulated platform.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// The platform CA's CRL lists the PCK certificate.
    pub revoked_pck: bool,
    /// TCB info, QE identity and CRLs ended ten days ago.
    pub expired_collateral: bool,
    /// The PCK certificate says that hyper-threading is on, which a strict policy refuses.
    pub smt: bool,
}

/// A TEE that does not exist. Everything but the time in its collateral is a function of the seed.
pub struct Tee {
    seed: [u8; 32],
    faults: Faults,
    pki: Pki,
    kms: Kms,
    pck_chain: String,
    attestation_key: Key,
}

impl std::fmt::Debug for Tee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tee")
            .field("device_id", &self.device_id())
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl Tee {
    /// A platform without faults.
    ///
    /// # Errors
    /// When a key or certificate cannot be made from the seed.
    pub fn new(seed: [u8; 32]) -> Result<Self, SimulatorError> {
        Self::with_faults(seed, Faults::default())
    }

    /// A platform with faults. Those that concern only the collateral leave the quotes as they are.
    ///
    /// # Errors
    /// When a key or certificate cannot be made from the seed.
    pub fn with_faults(seed: [u8; 32], faults: Faults) -> Result<Self, SimulatorError> {
        let pki = Pki::new(&seed, faults)?;
        let pck_chain = pki.pck_chain();
        let attestation_key = Key::derive(&seed, "attestation-key")?;
        Ok(Self { seed, faults, pki, kms: Kms::new(&seed)?, pck_chain, attestation_key })
    }

    /// The root certificate, which takes the place of Intel's.
    #[must_use]
    pub fn root_der(&self) -> &[u8] {
        &self.pki.root_der
    }

    /// The root certificate as PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.pki.root_pem
    }

    /// The root certificate of the simulated KMS, which issues what the guest agent hands out, as PEM.
    #[must_use]
    pub fn kms_root_pem(&self) -> &str {
        &self.kms.root_pem
    }

    /// SHA-256 of the platform's PPID, as a verifier finds it in a quote.
    #[must_use]
    pub fn device_id(&self) -> DeviceId {
        DeviceId(Sha256::digest(self.pki.ppid).into())
    }

    /// The collateral that quotes of this platform are verified with; issued a day before `now` (unix seconds), for 30 days.
    ///
    /// # Errors
    /// When `now` is no date that a certificate can hold.
    pub fn collateral(&self, now: u64) -> Result<QuoteCollateralV3, SimulatorError> {
        collateral::collateral(&self.pki, self.faults, now)
    }

    /// The collateral as the bundle that Postern's programs read: `{"collateral":[...]}`.
    ///
    /// # Errors
    /// As [`Tee::collateral`].
    pub fn collateral_bundle_json(&self, now: u64) -> Result<String, SimulatorError> {
        Ok(serde_json::json!({ "collateral": [self.collateral(now)?] }).to_string())
    }

    /// A signed TDX quote, version 4.
    #[must_use]
    pub fn quote(&self, measurements: &Measurements, report_data: [u8; 64]) -> Vec<u8> {
        quote(&self.attestation_key, &self.pki.pck, &self.pck_chain, measurements, report_data)
    }

    pub(crate) fn kms(&self) -> &Kms {
        &self.kms
    }

    pub(crate) fn seed(&self) -> &[u8; 32] {
        &self.seed
    }
}
