//! One endpoint's head, asked for again and again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::endpoint::{Endpoint, Fault, Header};

/// The longest pause between two attempts to reach an endpoint that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What each endpoint last reported as its head; `None` for those that did not answer.
pub(crate) type Reports = Vec<Option<Header>>;

/// Reports the head of the endpoint at `position` to `reports`, each `interval`.
pub(crate) async fn poll(
    endpoint: Arc<Endpoint>,
    position: usize,
    chain_id: Option<u64>,
    interval: Duration,
    reports: watch::Sender<Reports>,
) -> Result<Infallible, Infallible> {
    let mut pause = interval;
    let mut chain_is_right = false;
    loop {
        let report = head(&endpoint, chain_id.filter(|_| !chain_is_right)).await;
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
