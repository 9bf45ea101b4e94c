mod cache;
mod sources;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use postern_attest::certificate::{self, Binding, Evidence};
use postern_attest::{Appraisal, Appraiser, CertificateRules, Collateral, Policy, Rejection};
use postern_plumbing::clock::unix_now;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};

use crate::collateral::{CollateralKeeper, FetchError};
use crate::refusal::PeerRefused;
use cache::Cache;
pub use sources::{SourceLimit, Sources};

/// Where the time comes from, in seconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How many cold appraisals may wait. Each takes some 0.6 ms of one core, so that the last one waits for less than a
/// handshake's deadline.
const MAX_WAITING: usize = 512;

/// How long a live session goes on, unless something else is configured, before its peer's evidence is judged again.
pub(crate) const MAX_EVIDENCE_AGE: Duration = Duration::from_secs(60 * 60);

/// Judges the certificates of peers, away from the threads that move bytes, and remembers good verdicts.
///
/// A verdict is remembered under the SHA-256 of the whole certificate until the first of certificate, collateral and one
/// hour ends. A refusal is never remembered: certificates are free, and a memory for bad ones would be theirs to fill.
pub struct Attestor {
    rules: ArcSwap<Rules>,
    certificates: ArcSwap<CertificateRules>,
    collateral: ArcSwap<Collateral>,
    cache: Cache,
    cold: Arc<Semaphore>,
    waiting: AtomicUsize,
    clock: Clock,
    changes: watch::Sender<u64>,
    supplier: OnceLock<Weak<CollateralKeeper>>,
    sources: Sources,
    max_evidence_age: RwLock<Duration>,
}

/// What peers are judged by, beside collateral.
struct Rules {
    appraiser: Arc<Appraiser>,
    policy: Option<Arc<Policy>>,
}

impl Attestor {
    /// An attestor that reads the wall clock.
    #[must_use]
    pub fn new(appraiser: Appraiser, collateral: Collateral) -> Arc<Self> {
        Self::with_clock(appraiser, collateral, Arc::new(unix_now))
    }

    /// An attestor with a clock of its own.
    #[must_use]
    pub fn with_clock(appraiser: Appraiser, collateral: Collateral, clock: Clock) -> Arc<Self> {
        Self::judging_by(Rules { appraiser: Arc::new(appraiser), policy: None }, collateral, clock)
    }

    /// An attestor that judges by a signed policy: by its root and platforms, and by the images, applications and
    /// compositions that it welcomes.
    #[must_use]
    pub fn governed(policy: Arc<Policy>, collateral: Collateral, clock: Clock) -> Arc<Self> {
        Self::judging_by(Rules::of(policy, CertificateRules::default()), collateral, clock)
    }

    fn judging_by(rules: Rules, collateral: Collateral, clock: Clock) -> Arc<Self> {
        rules.announce();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            rules: ArcSwap::from_pointee(rules),
            certificates: ArcSwap::default(),
            collateral: ArcSwap::from_pointee(collateral),
            cache: Cache::default(),
            // The other half is left to sessions that move bytes.
            cold: Arc::new(Semaphore::new(cores.div_ceil(2))),
            waiting: AtomicUsize::new(0),
            clock,
            changes: watch::Sender::new(0),
            supplier: OnceLock::new(),
            sources: Sources::default(),
            max_evidence_age: RwLock::new(MAX_EVIDENCE_AGE),
        })
    }

    /// Judges the certificates that a peer showed in a TLS handshake, in which it has proven to hold the first one's key.
    ///
    /// Whether the peer is one that is expected is not judged here, since that may change at any time.
    ///
    /// # Errors
    /// When it showed none, or the first one's evidence cannot be read or is not believed.
    pub async fn appraise_chain(self: &Arc<Self>, certs: &[CertificateDer<'_>]) -> Result<Arc<Appraisal>, PeerRefused> {
        self.judge_chain(certs, None).await
    }

    /// The same for a peer that called from `source`, which may cause only so many cold appraisals. What is remembered does
    /// not count, and neither does what fails before a signature is looked at.
    ///
    /// # Errors
    /// As [`Self::appraise_chain`], and [`PeerRefused::SourceLimited`] when the source has used up what it is given.
    pub async fn appraise_chain_from(
        self: &Arc<Self>,
        certs: &[CertificateDer<'_>],
        source: IpAddr,
    ) -> Result<Arc<Appraisal>, PeerRefused> {
        self.judge_chain(certs, Some(source)).await
    }

    /// Judges the peer of a live session again, by the certificate that it showed when the session began.
    ///
    /// That certificate's own end no longer counts: its dates bound handshakes, and a session may outlast them for as long as
    /// the evidence holds by today's collateral and policy. So the verdict is not remembered, lest a new handshake find it.
    ///
    /// # Errors
    /// As [`Self::appraise_chain`].
    pub async fn reappraise(self: &Arc<Self>, leaf: &CertificateDer<'_>) -> Result<Arc<Appraisal>, PeerRefused> {
        let evidence = Arc::new(certificate::evidence(leaf)?.of_a_live_session());
        let verdict = self.judge_again(evidence).await.and_then(|appraisal| self.welcome(appraisal));
        let outcome = verdict.as_ref().map_or_else(PeerRefused::label, |_| "accepted");
        metrics::counter!("attest_reappraisals_total", "outcome" => outcome).increment(1);
        verdict
    }

    /// Takes no place among those that wait: strangers must not keep live sessions from being judged, and these are counted
    /// by whoever holds them.
    async fn judge_again(self: &Arc<Self>, evidence: Arc<Evidence>) -> Result<Arc<Appraisal>, PeerRefused> {
        let attestor = Arc::clone(self);
        let (appraisal, _) = self.on_own_thread(move || attestor.verdict(&evidence)).await?;
        Ok(appraisal)
    }

    /// Has the evidence of live sessions judged again after `age` at the latest; an hour unless this is called.
    pub fn limit_evidence_age(&self, age: Duration) {
        *self.max_evidence_age.write().unwrap_or_else(PoisonError::into_inner) = age;
    }

    /// How long a live session may go on until its peer's evidence is judged again. Whoever holds the session sees to it.
    #[must_use]
    pub fn max_evidence_age(&self) -> Duration {
        *self.max_evidence_age.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives each source another share of cold appraisals.
    pub fn limit_sources(&self, limit: SourceLimit) {
        self.sources.limit(limit);
    }

    pub(crate) async fn judge_chain(
        self: &Arc<Self>,
        certs: &[CertificateDer<'_>],
        source: Option<IpAddr>,
    ) -> Result<Arc<Appraisal>, PeerRefused> {
        let verdict = match certs {
            [] => Err(PeerRefused::NoCertificate),
            [leaf, above @ ..] => {
                self.appraise(leaf, above, source).await.and_then(|appraisal| self.welcome(appraisal))
            }
        };
        let outcome = match &verdict {
            Ok(_) => "accepted",
            Err(refused) => refused.label(),
        };
        metrics::counter!("attest_verdicts_total", "outcome" => outcome).increment(1);
        verdict
    }

    /// Puts other collateral in place and forgets the verdicts that the old one led to.
    pub fn replace_collateral(&self, collateral: Collateral) {
        self.collateral.store(Arc::new(collateral));
        self.changed();
    }

    /// Judges by another policy from now on, and forgets the verdicts that the old rules led to.
    pub fn replace_policy(&self, policy: Arc<Policy>) {
        if self.policy().as_ref() == Some(&policy) {
            return;
        }
        let rules = Rules::of(policy, CertificateRules::clone(&self.certificates.load()));
        rules.announce();
        self.rules.store(Arc::new(rules));
        self.changed();
    }

    /// Holds certificates to other rules than the default ones, which accept no issuer. They outlast changes of the policy,
    /// and are meant to be set once, before the first peer.
    pub fn hold_certificates_to(&self, rules: CertificateRules) {
        announce_certificates(&rules);
        self.certificates.store(Arc::new(rules.clone()));
        self.rules.rcu(|current| current.holding_certificates_to(rules.clone()));
        self.changed();
    }

    /// Counts the changes of collateral and policy. After each, whoever holds a session should have its peer's certificates
    /// judged again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Has unknown kinds of platform asked for. The first supplier stays.
    pub(crate) fn supplied_by(&self, supplier: Weak<CollateralKeeper>) {
        if self.supplier.set(supplier).is_err() {
            tracing::warn!("this attestor has a supplier of collateral already");
        }
    }

    /// The time by which peers are judged, in seconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Has everybody judged again. Called once the new rules are in place, so that no verdict by the old ones is kept.
    pub(crate) fn changed(&self) {
        self.cache.clear();
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The signed policy, if there is one.
    #[must_use]
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.rules.load().policy.clone()
    }

    /// The collateral in use.
    #[must_use]
    pub fn collateral(&self) -> Arc<Collateral> {
        self.collateral.load_full()
    }

    /// The judge.
    #[must_use]
    pub fn appraiser(&self) -> Arc<Appraiser> {
        Arc::clone(&self.rules.load().appraiser)
    }

    /// Not part of the remembered verdict, since policies end.
    fn welcome(&self, appraisal: Arc<Appraisal>) -> Result<Arc<Appraisal>, PeerRefused> {
        if let Some(policy) = &self.rules.load().policy {
            policy.check(&appraisal, (self.clock)())?;
        }
        Ok(appraisal)
    }

    async fn appraise(
        self: &Arc<Self>,
        leaf: &[u8],
        above: &[CertificateDer<'_>],
        source: Option<IpAddr>,
    ) -> Result<Arc<Appraisal>, PeerRefused> {
        if leaf.len() > certificate::MAX_CERTIFICATE_BYTES {
            return Err(certificate::CertificateError::TooLarge { found: leaf.len() }.into());
        }
        let fingerprint = Sha256::digest(leaf).into();
        if let Some(known) = self.cache.get(&fingerprint, (self.clock)()) {
            metrics::counter!("attest_cache_hits_total").increment(1);
            return Ok(known);
        }
        let evidence = Arc::new(certificate::evidence_of_chain(leaf, above)?);
        self.rules.load().appraiser.glance(&evidence, (self.clock)())?;
        if source.is_some_and(|source| !self.sources.admit(source, tokio::time::Instant::now())) {
            metrics::counter!("attest_source_limited_total").increment(1);
            return Err(PeerRefused::SourceLimited);
        }
        let verdict = self.appraise_cold(&evidence).await;
        match (&verdict, self.supplier.get().and_then(Weak::upgrade)) {
            (
                Err(PeerRefused::Rejected(
                    Rejection::UnknownPlatform(fmspc) | Rejection::CollateralNotCurrent { fmspc, .. },
                )),
                Some(supplier),
            ) => match supplier.ensure(*fmspc).await {
                Ok(()) => self.appraise_cold(&evidence).await,
                Err(FetchError::Pending(fmspc)) => Err(Rejection::CollateralPending(fmspc).into()),
                Err(_) => verdict,
            },
            _ => verdict,
        }
    }

    /// Judges evidence on a thread of its own, once it is this one's turn.
    async fn appraise_cold(self: &Arc<Self>, evidence: &Arc<Evidence>) -> Result<Arc<Appraisal>, PeerRefused> {
        let _place = Place::take(&self.waiting).ok_or(PeerRefused::Busy)?;
        let (attestor, evidence) = (Arc::clone(self), Arc::clone(evidence));
        self.on_own_thread(move || {
            // Another handshake of the same peer may have been first.
            if let Some(known) = attestor.cache.get(&evidence.fingerprint, (attestor.clock)()) {
                return Ok(known);
            }
            let (appraisal, generation) = attestor.verdict(&evidence)?;
            attestor.cache.insert(generation, &appraisal, (attestor.clock)());
            Ok(appraisal)
        })
        .await
    }

    /// Runs a cold appraisal away from the threads that move bytes, when there is room for it.
    async fn on_own_thread<T: Send + 'static>(
        &self,
        appraise: impl FnOnce() -> Result<T, PeerRefused> + Send + 'static,
    ) -> Result<T, PeerRefused> {
        let permit = Arc::clone(&self.cold).acquire_owned().await.map_err(|_| PeerRefused::Failed)?;
        let cold = tokio::task::spawn_blocking(move || {
            let verdict = appraise();
            drop(permit);
            verdict
        });
        cold.await.map_err(|_| PeerRefused::Failed)?
    }

    /// A verdict, and the generation of rules by which it was reached. Rules that change meanwhile are applied before the
    /// verdict is told: whoever asked learns of changes only from then on.
    fn verdict(&self, evidence: &Evidence) -> Result<(Arc<Appraisal>, u64), PeerRefused> {
        let started = Instant::now();
        loop {
            let generation = self.cache.generation();
            let now = (self.clock)();
            let verdict = self.rules.load().appraiser.appraise(evidence, &self.collateral.load(), now);
            if self.cache.generation() != generation {
                continue;
            }
            metrics::histogram!("attest_appraisal_seconds").record(started.elapsed().as_secs_f64());
            let appraisal = verdict?;
            if evidence.binding() == Some(Binding::Legacy) {
                metrics::counter!("attest_legacy_bindings_total").increment(1);
                tracing::warn!(app = %appraisal.identity.app_id, "a peer is believed by a legacy binding of its key");
            }
            return Ok((Arc::new(appraisal), generation));
        }
    }
}

impl std::fmt::Debug for Attestor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attestor").field("appraiser", &self.appraiser()).finish_non_exhaustive()
    }
}

impl Rules {
    fn of(policy: Arc<Policy>, certificates: CertificateRules) -> Self {
        let appraiser = policy.appraiser().with_certificates(certificates);
        Self { appraiser: Arc::new(appraiser), policy: Some(policy) }
    }

    fn holding_certificates_to(&self, certificates: CertificateRules) -> Self {
        let appraiser = Appraiser::clone(&self.appraiser).with_certificates(certificates);
        Self { appraiser: Arc::new(appraiser), policy: self.policy.clone() }
    }

    fn announce(&self) {
        let root = self.appraiser.root();
        if !root.is_intel() {
            tracing::warn!(
                root = hex::encode(root.fingerprint()),
                "quotes are trusted under a root that is not Intel's: they prove nothing about hardware"
            );
        }
        metrics::gauge!("attest_root_is_intel").set(f64::from(u8::from(root.is_intel())));
    }
}

fn announce_certificates(rules: &CertificateRules) {
    if let Some(root) = &rules.kms_root {
        tracing::info!(root = hex::encode(root.fingerprint()), "certificates that this KMS issued are accepted");
    }
    if rules.insecure_legacy_binding {
        tracing::warn!(
            "quotes are believed that vouch for a key by SHA-256 of it alone: one made for another purpose may pass"
        );
    }
    let legacy = f64::from(u8::from(rules.insecure_legacy_binding));
    metrics::gauge!("attest_insecure_legacy_binding").set(legacy);
}

/// A place among those that wait, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_run_out() {
        let waiting = AtomicUsize::new(0);
        let places: Vec<_> = (0..MAX_WAITING).map(|_| Place::take(&waiting).unwrap()).collect();
        assert!(Place::take(&waiting).is_none());
        assert!(Place::take(&waiting).is_none());
        drop(places);
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
        assert!(Place::take(&waiting).is_some());
    }
}
