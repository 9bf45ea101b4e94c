//! Evidence that is judged again while the session lasts that it opened.

use std::sync::Arc;
use std::time::Duration;

use postern_attest::{Appraisal, PeerPolicy};
use postern_attest_io::{Attestor, PeerRefused};
use rustls::CommonState;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How often the clock is read at least: it may leap while the machine's own time stands still.
const LOOK: Duration = Duration::from_secs(60);
/// How often the clock is read at most.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long after an appraisal that came to no verdict the next one is tried.
const RETRY: Duration = Duration::from_secs(5);

/// A peer's certificate, and the changes of what it is judged by since before the handshake that showed it.
#[derive(Debug)]
pub struct Evidence {
    attestor: Arc<Attestor>,
    changes: watch::Receiver<u64>,
    certificate: Option<CertificateDer<'static>>,
}

impl Evidence {
    /// To be called before the handshake, so that no change is missed between its verdict and the session.
    #[must_use]
    pub fn awaited(attestor: &Arc<Attestor>) -> Self {
        Self { attestor: Arc::clone(attestor), changes: attestor.changes(), certificate: None }
    }

    /// Keeps what the peer showed in the handshake.
    #[must_use]
    pub fn shown(mut self, connection: &CommonState) -> Self {
        self.certificate = connection.peer_certificates().and_then(<[_]>::first).map(|leaf| leaf.clone().into_owned());
        self
    }

    /// Waits until the peer is no longer believed, or is no longer one of those that are `expected`; for ever where its
    /// evidence opened nothing. Each change of collateral and policy, the end of the verdict's validity and its greatest age
    /// lead to a new verdict. An appraisal that cannot be made now is no refusal, and the end of the certificate alone ends
    /// no session.
    pub async fn disbelieved(mut self, peer: Option<&Appraisal>, expected: &PeerPolicy) -> PeerRefused {
        let (Some(certificate), Some(peer)) = (self.certificate, peer) else { return std::future::pending().await };
        let max_age = self.attestor.max_evidence_age();
        let (mut valid_until, mut judged) = (peer.valid_until, Instant::now());
        loop {
            let left = Duration::from_secs(valid_until.saturating_sub(self.attestor.now()));
            let left = left.min(max_age.saturating_sub(judged.elapsed()));
            let changed = tokio::select! {
                changed = self.changes.changed() => changed.is_ok(),
                () = sleep(left.clamp(SHORTEST, LOOK)) => false,
            };
            if !changed && self.attestor.now() < valid_until && judged.elapsed() < max_age {
                continue;
            }
            valid_until = match believed(&self.attestor, &certificate, expected).await {
                Ok(peer) => peer.valid_until,
                Err(refused) => return refused,
            };
            judged = Instant::now();
        }
    }
}

async fn believed(
    attestor: &Arc<Attestor>,
    certificate: &CertificateDer<'static>,
    expected: &PeerPolicy,
) -> Result<Arc<Appraisal>, PeerRefused> {
    loop {
        match attestor.reappraise(certificate).await {
            Ok(peer) => return expected.check(&peer).map(|()| peer).map_err(PeerRefused::from),
            Err(refused) if refused.is_temporary() => sleep(RETRY).await,
            Err(refused) => return Err(refused),
        }
    }
}

#[cfg(test)]
mod tests;
