//! One endpoint's head, asked for again and again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{Confirmed, WatchConfig};
use crate::endpoint::{Endpoint, Fault, Header};

/// The longest pause between two attempts to reach an endpoint that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a head waits for the word of the same endpoint on what is safe.
const SAFE_DEADLINE: Duration = Duration::from_millis(300);

/// What an endpoint last reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) head: Header,
    /// The block that it calls safe, where that is asked for.
    pub(crate) safe: Option<Header>,
}

/// What each endpoint last reported; `None` for those that did not answer.
pub(crate) type Reports = Vec<Option<Report>>;

/// Reports the head of the endpoint at `position` to `reports`, each time after the pause that the configuration says.
pub(crate) async fn poll(
    endpoint: Arc<Endpoint>,
    position: usize,
    config: WatchConfig,
    reports: watch::Sender<Reports>,
) -> Result<Infallible, Infallible> {
    let interval = config.poll_interval;
    let (mut pause, mut chain_is_right, mut last_safe) = (interval, false, None);
    loop {
        let chain_id = config.chain_id.filter(|_| !chain_is_right);
        let (head, safe) = tokio::join!(head(&endpoint, chain_id), safe(&endpoint, config.confirmed));
        last_safe = safe.or(last_safe);
        let report = head.map(|head| Report { head, safe: last_safe });
        chain_is_right = report.is_some();
        endpoint.note_answering(report.is_some());
        pause = if report.is_some() { interval } else { pause.saturating_mul(2).min(LONGEST_PAUSE.max(interval)) };
        reports.send_if_modified(|reports| match reports.get_mut(position) {
            Some(slot) if *slot != report => {
                *slot = report;
                true
            }
            _ => false,
        });
        tokio::time::sleep(pause).await;
    }
}

/// The endpoint's head. With `chain_id`, asks first whether it is on that chain at all.
async fn head(endpoint: &Endpoint, chain_id: Option<u64>) -> Option<Header> {
    if let Some(expected) = chain_id {
        let found = endpoint.chain_id().await.ok()?;
        if found != expected {
            endpoint.complain(&Fault::WrongChain(found));
            return None;
        }
    }
    endpoint.head().await.ok()
}

/// The block that the endpoint calls safe, where that is to be known. It keeps no head waiting.
async fn safe(endpoint: &Endpoint, confirmed: Confirmed) -> Option<Header> {
    match confirmed {
        Confirmed::Depth(_) => None,
        Confirmed::Safe => tokio::time::timeout(SAFE_DEADLINE, endpoint.safe()).await.ok()?.ok()?,
    }
}
