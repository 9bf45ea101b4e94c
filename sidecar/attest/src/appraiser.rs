use dcap_qvl::verify::QuoteVerifier;
use postern_identity::{DeviceId, Register};
use sha2::{Digest, Sha256};

use crate::certificate::{AppInfo, Binding, Evidence};
use crate::claims::QuoteClaims;
use crate::collateral::Collateral;
use crate::event_log::AppIdentity;
use crate::issuer::CertificateRules;
use crate::provider::AwsLcConfig;
use crate::quote::ReadQuote;
use crate::rejection::Rejection;
use crate::tcb::{TcbPolicy, TcbRefusal};
use crate::trust::TrustRoot;

/// What is known about a peer after its evidence was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appraisal {
    /// What measured boot says about the application.
    pub identity: AppIdentity,
    /// SHA-256 of the platform's PPID.
    pub device_id: DeviceId,
    /// The measurement of the TD's initial memory.
    pub mrtd: Register,
    /// The runtime measurement registers, RTMR0 to RTMR3.
    pub rtmr: [Register; 4],
    /// dstack's digest over all measurements.
    pub mr_aggregated: [u8; 32],
    /// dstack's digest over the measurements of the system alone, with the key provider.
    pub mr_system: [u8; 32],
    /// The platform's TCB status, under Intel's name.
    pub tcb_status: String,
    /// The advisories that apply to the platform.
    pub advisory_ids: Vec<String>,
    /// SHA-256 of the certificate that carried the evidence.
    pub fingerprint: [u8; 32],
    /// Until when the verdict can stand: the earliest end of the certificate's, its issuers' and the collateral's validity,
    /// seconds since 1970.
    pub valid_until: u64,
}

/// The judge of evidence: a trust root and the platforms that are good enough under it.
#[derive(Clone, Debug)]
pub struct Appraiser {
    root: TrustRoot,
    policy: TcbPolicy,
    certificates: CertificateRules,
}

impl Appraiser {
    /// An appraiser that trusts `root` and accepts platforms by `policy`.
    #[must_use]
    pub fn new(root: TrustRoot, policy: TcbPolicy) -> Self {
        Self { root, policy, certificates: CertificateRules::default() }
    }

    /// The same with other rules for certificates than the default ones, which accept no issuer.
    #[must_use]
    pub fn with_certificates(self, certificates: CertificateRules) -> Self {
        Self { certificates, ..self }
    }

    /// The root that quotes have to be signed under.
    #[must_use]
    pub fn root(&self) -> &TrustRoot {
        &self.root
    }

    /// What is asked of certificates beside their evidence.
    #[must_use]
    pub fn certificates(&self) -> &CertificateRules {
        &self.certificates
    }

    /// Judges what a certificate claims: its dates, that the quote vouches for its key, that the event log is the
    /// measured one and identifies an application, that the quote is genuine, and that the certificate is signed by its own
    /// key or by the pinned KMS. The signatures, which cost the most, come last.
    ///
    /// Whether the peer is one that somebody wants to talk to is not judged here.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn appraise(&self, evidence: &Evidence, collateral: &Collateral, now: u64) -> Result<Appraisal, Rejection> {
        let (identity, quote) = self.plausible(evidence, now)?;
        let claims = self.verify(&quote, &evidence.quote, collateral, now)?;
        let issuers_end = self.certificates.check_issuer(evidence, &identity, now)?;
        Ok(Appraisal::new(identity, claims, evidence, issuers_end))
    }

    /// The part of [`Self::appraise`] that costs little: all but the signatures. What passes is not believed yet; what fails
    /// need not wait for the rest.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn glance(&self, evidence: &Evidence, now: u64) -> Result<(), Rejection> {
        self.plausible(evidence, now).map(drop)
    }

    /// Judges a quote alone. What it says about keys and applications is left to the caller.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn appraise_quote(&self, quote: &[u8], collateral: &Collateral, now: u64) -> Result<QuoteClaims, Rejection> {
        self.verify(&ReadQuote::read(quote)?, quote, collateral, now)
    }

    fn verify(
        &self,
        quote: &ReadQuote,
        raw: &[u8],
        collateral: &Collateral,
        now: u64,
    ) -> Result<QuoteClaims, Rejection> {
        let fmspc = quote.fmspc()?;
        let (set, window) = collateral.of(fmspc).ok_or(Rejection::UnknownPlatform(fmspc))?;
        if now < window.from || now >= window.until {
            let (from, until) = (window.from, window.until);
            return Err(Rejection::CollateralNotCurrent { fmspc, from, until, now });
        }
        if !quote.ends_in(self.root.as_der()) {
            return Err(Rejection::OtherRoot("it carries another root than the trusted one".to_owned()));
        }
        let verifier = QuoteVerifier::<AwsLcConfig>::new_with_config(self.root.as_der().to_vec());
        let claims = verifier.verify_with_policy(raw, set, now, &self.policy.at(now)).map_err(|error| {
            match error.downcast::<TcbRefusal>() {
                Ok(TcbRefusal::Status(status)) => Rejection::TcbStatus(status),
                Ok(TcbRefusal::Other(detail)) => Rejection::TcbPolicy(detail),
                Err(error) => Rejection::of_verification(&format!("{error:#}")),
            }
        })?;
        QuoteClaims::read(&claims)
    }

    fn plausible(&self, evidence: &Evidence, now: u64) -> Result<(AppIdentity, ReadQuote), Rejection> {
        if now < evidence.not_before {
            return Err(Rejection::NotYetValid { not_before: evidence.not_before, now });
        }
        if now > evidence.not_after {
            return Err(Rejection::Expired { not_after: evidence.not_after, now });
        }
        let quote = ReadQuote::read(&evidence.quote)?;
        match evidence.binding() {
            Some(Binding::RaTls) => {}
            Some(Binding::Legacy) if self.certificates.insecure_legacy_binding => {}
            Some(Binding::Legacy) => return Err(Rejection::LegacyBinding),
            None => return Err(Rejection::KeyNotBound),
        }
        if Register(quote.td()?.rt_mr3) != evidence.event_log.replay_rtmr3()? {
            return Err(Rejection::EventLogNotMeasured);
        }
        let identity = evidence.event_log.identity()?;
        if evidence.claimed_app_id.is_some_and(|claimed| claimed != identity.app_id) {
            return Err(Rejection::AppIdContradicted);
        }
        if evidence.claimed_app_info.as_ref().is_some_and(|claimed| contradicts(claimed, &identity)) {
            return Err(Rejection::AppInfoContradicted);
        }
        Ok((identity, quote))
    }
}

/// Whether an issuer's word about an application is not what the application's own boot measured.
fn contradicts(claimed: &AppInfo, measured: &AppIdentity) -> bool {
    claimed.app_id != measured.app_id
        || claimed.compose_hash != measured.compose_hash
        || claimed.instance_id.is_some_and(|instance| instance != measured.instance_id)
}

impl Appraisal {
    fn new(identity: AppIdentity, claims: QuoteClaims, evidence: &Evidence, issuers_end: u64) -> Self {
        Self {
            device_id: claims.device_id,
            mr_aggregated: mr_aggregated(&claims),
            mr_system: mr_system(&claims, &identity.key_provider),
            mrtd: claims.mrtd,
            rtmr: claims.rtmr,
            tcb_status: claims.tcb_status,
            advisory_ids: claims.advisory_ids,
            fingerprint: evidence.fingerprint,
            valid_until: claims.valid_until.min(evidence.not_after).min(issuers_end),
            identity,
        }
    }
}

/// SHA-256 of MRTD and RTMR0 to RTMR3, followed by MRCONFIGID, MROWNER and MROWNERCONFIG if any of the three is set.
fn mr_aggregated(claims: &QuoteClaims) -> [u8; 32] {
    let mut hash = Sha256::new().chain_update(claims.mrtd.0);
    for register in &claims.rtmr {
        hash.update(register.0);
    }
    let owner = [claims.mr_config_id, claims.mr_owner, claims.mr_owner_config];
    if owner.iter().any(|register| register.0 != [0; 48]) {
        for register in owner {
            hash.update(register.0);
        }
    }
    hash.finalize().into()
}

/// SHA-256 of MRTD, RTMR0 to RTMR2 and the digest of the key provider, which is zero when there is none.
fn mr_system(claims: &QuoteClaims, key_provider: &[u8]) -> [u8; 32] {
    let provider: [u8; 32] = if key_provider.is_empty() { [0; 32] } else { Sha256::digest(key_provider).into() };
    let mut hash = Sha256::new().chain_update(claims.mrtd.0);
    for register in claims.rtmr.iter().take(3) {
        hash.update(register.0);
    }
    hash.chain_update(provider).finalize().into()
}

#[cfg(test)]
mod tests;
