mod cache;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use postern_attest::certificate::{self, Evidence};
use postern_attest::{Appraisal, Appraiser, Collateral};
use postern_plumbing::clock::unix_now;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::refusal::PeerRefused;
use cache::Cache;

/// Where the time comes from, in seconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How many cold appraisals may wait. Each takes some 0.6 ms of one core, so that the last one waits for less than a
/// handshake's deadline.
const MAX_WAITING: usize = 512;

/// Judges the certificates of peers, away from the threads that move bytes, and remembers good verdicts.
///
/// A verdict is remembered under the SHA-256 of the whole certificate until the first of certificate, collateral and one
/// hour ends. A refusal is never remembered: certificates are free, and a memory for bad ones would be theirs to fill.
pub struct Attestor {
    appraiser: Appraiser,
    collateral: ArcSwap<Collateral>,
    cache: Cache,
    cold: Arc<Semaphore>,
    waiting: AtomicUsize,
    clock: Clock,
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
        if !appraiser.root().is_intel() {
            let root = hex::encode(appraiser.root().fingerprint());
            tracing::warn!(
                root,
                "quotes are trusted under a root that is not Intel's: they prove nothing about hardware"
            );
        }
        metrics::gauge!("attest_root_is_intel").set(f64::from(u8::from(appraiser.root().is_intel())));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            appraiser,
            collateral: ArcSwap::from_pointee(collateral),
            cache: Cache::default(),
            // The other half is left to sessions that move bytes.
            cold: Arc::new(Semaphore::new(cores.div_ceil(2))),
            waiting: AtomicUsize::new(0),
            clock,
        })
    }

    /// Judges the certificates that a peer showed in a TLS handshake, in which it has proven to hold the first one's key.
    ///
    /// Whether the peer is one that is expected is not judged here, since that may change at any time.
    ///
    /// # Errors
    /// When it showed none, or the first one's evidence cannot be read or is not believed.
    pub async fn appraise_chain(self: &Arc<Self>, certs: &[CertificateDer<'_>]) -> Result<Arc<Appraisal>, PeerRefused> {
        let verdict = match certs.first() {
            None => Err(PeerRefused::NoCertificate),
            Some(leaf) => self.appraise(leaf).await,
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
        self.cache.clear();
    }

    /// The collateral in use.
    #[must_use]
    pub fn collateral(&self) -> Arc<Collateral> {
        self.collateral.load_full()
    }

    /// The judge.
    #[must_use]
    pub fn appraiser(&self) -> &Appraiser {
        &self.appraiser
    }

    async fn appraise(self: &Arc<Self>, leaf: &[u8]) -> Result<Arc<Appraisal>, PeerRefused> {
        if leaf.len() > certificate::MAX_CERTIFICATE_BYTES {
            return Err(certificate::CertificateError::TooLarge { found: leaf.len() }.into());
        }
        let fingerprint = Sha256::digest(leaf).into();
        if let Some(known) = self.cache.get(&fingerprint, (self.clock)()) {
            metrics::counter!("attest_cache_hits_total").increment(1);
            return Ok(known);
        }
        let evidence = certificate::evidence(leaf)?;
        self.appraiser.glance(&evidence, (self.clock)())?;
        let _place = Place::take(&self.waiting).ok_or(PeerRefused::Busy)?;
        let permit = Arc::clone(&self.cold).acquire_owned().await.map_err(|_| PeerRefused::Failed)?;
        // Another handshake of the same peer may have been first.
        if let Some(known) = self.cache.get(&fingerprint, (self.clock)()) {
            return Ok(known);
        }
        let attestor = Arc::clone(self);
        let cold = tokio::task::spawn_blocking(move || {
            let verdict = attestor.appraise_now(&evidence);
            drop(permit);
            verdict
        });
        cold.await.map_err(|_| PeerRefused::Failed)?
    }

    fn appraise_now(&self, evidence: &Evidence) -> Result<Arc<Appraisal>, PeerRefused> {
        let started = Instant::now();
        let generation = self.cache.generation();
        let now = (self.clock)();
        let verdict = self.appraiser.appraise(evidence, &self.collateral.load(), now);
        metrics::histogram!("attest_appraisal_seconds").record(started.elapsed().as_secs_f64());
        let appraisal = Arc::new(verdict?);
        self.cache.insert(generation, &appraisal, now);
        Ok(appraisal)
    }
}

impl std::fmt::Debug for Attestor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attestor").field("appraiser", &self.appraiser).finish_non_exhaustive()
    }
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
