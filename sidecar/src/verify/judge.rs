use postern_attest::certificate::{self, CertificateError, Evidence};
use postern_attest::event_log::EventLog;
use postern_attest::policy::Image;
use postern_attest::{AppIdentity, Appraiser, Collateral, Policy, QuoteClaims, Rejection};
use rustls::pki_types::CertificateDer;

use super::findings::compare;
use super::not_accepted::NotAccepted;
use super::report::{CertificateDates, Database};

/// Whoever judges, by what and as of when.
pub(super) struct Judge {
    pub(super) appraiser: Appraiser,
    /// What the peer has to be beside genuine, if a policy says.
    pub(super) policy: Option<Policy>,
    pub(super) collateral: Collateral,
    pub(super) now: u64,
}

/// What is believed.
pub(super) struct Proof {
    pub(super) claims: QuoteClaims,
    /// What the event log says, if there was one.
    pub(super) app: Option<AppIdentity>,
    /// The certificate whose key the quote vouches for, if there was one.
    pub(super) certificate: Option<CertificateDates>,
    /// The release of the policy whose image runs, if a policy knows images.
    pub(super) image: Option<String>,
    /// The state of the database that the quote vouches for, if it does.
    pub(super) database: Option<Database>,
    /// When the first of certificate and collateral ends.
    pub(super) valid_until: u64,
    /// Whether the pinned KMS issued the certificate.
    pub(super) issued: bool,
    /// The quote itself.
    pub(super) quote: Vec<u8>,
}

impl Judge {
    /// Judges the first certificate, with the help of those above it.
    pub(super) fn certificate(&self, chain: &[CertificateDer<'_>]) -> Result<Proof, NotAccepted> {
        let [leaf, above @ ..] = chain else { return Err(CertificateError::NoQuote.into()) };
        let evidence = certificate::evidence_of_chain(leaf, above)?;
        let appraisal = self.appraiser.appraise(&evidence, &self.collateral, self.now)?;
        if let Some(policy) = &self.policy {
            policy.check(&appraisal, self.now)?;
        }
        let claims = self.appraiser.appraise_quote(&evidence.quote, &self.collateral, self.now)?;
        Ok(Proof {
            image: self.release(&claims),
            claims,
            app: Some(appraisal.identity),
            certificate: Some(dates(&evidence)),
            database: None,
            valid_until: appraisal.valid_until,
            issued: evidence.is_issued(),
            quote: evidence.quote,
        })
    }

    /// Judges a quote, with the event log that tells which app it is of. Without one, no policy welcomes it that expects apps.
    pub(super) fn quote(&self, raw: &[u8], log: Option<&EventLog>) -> Result<Proof, NotAccepted> {
        let claims = self.appraiser.appraise_quote(raw, &self.collateral, self.now)?;
        let app = log.map(|log| measured(log, &claims)).transpose()?;
        if let Some(policy) = &self.policy {
            policy.cohorts.as_ref().map_or(Ok(()), |cohorts| cohorts.check(&Image::of_quote(&claims)))?;
            compare(&policy.peers, app.as_ref())?;
        }
        let (image, valid_until, quote) = (self.release(&claims), claims.valid_until, raw.to_vec());
        Ok(Proof { claims, app, certificate: None, image, database: None, valid_until, issued: false, quote })
    }

    /// The release of the policy that a quote is of.
    fn release(&self, claims: &QuoteClaims) -> Option<String> {
        let cohorts = self.policy.as_ref()?.cohorts.as_ref()?;
        cohorts.name(&Image::of_quote(claims)).map(str::to_owned)
    }
}

fn measured(log: &EventLog, claims: &QuoteClaims) -> Result<AppIdentity, NotAccepted> {
    let [_, _, _, rtmr3] = claims.rtmr;
    if log.replay_rtmr3()? != rtmr3 {
        return Err(Rejection::EventLogNotMeasured.into());
    }
    Ok(log.identity()?)
}

fn dates(evidence: &Evidence) -> CertificateDates {
    let Evidence { not_before, not_after, fingerprint, .. } = evidence;
    CertificateDates { sha256: hex::encode(fingerprint), not_before: *not_before, not_after: *not_after }
}
