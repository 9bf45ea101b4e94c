//! Cancel requests: 16 bytes or a few more in the clear, to be brought to the instance that their key names.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_gateway_core::refusal::Refusal;
use postern_gateway_core::table::{Candidate, Standing};
use postern_pgwire::cancel::{CancelKey, Slot};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::dial;
use crate::edge::Edge;
use crate::metrics;
use crate::proxy_header::ProxyHeader;

/// How many requests may be under way, and how many of them to one instance.
const MAX: usize = 256;
const MAX_PER_SLOT: usize = 8;

/// The requests under way, so that nobody can take all places by one instance that does not answer.
#[derive(Debug, Default)]
pub struct Cancels {
    slots: Mutex<BTreeMap<Slot, usize>>,
}

/// One request under way, until this is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    cancels: &'a Cancels,
    slot: Slot,
}

impl Cancels {
    /// A place for a request to the instance with this slot, if there is one.
    #[must_use]
    pub fn permit(&self, slot: Slot) -> Option<Permit<'_>> {
        let mut slots = self.slots();
        let there = slots.get(&slot).copied().unwrap_or_default();
        if there >= MAX_PER_SLOT || slots.values().sum::<usize>() >= MAX {
            return None;
        }
        slots.insert(slot, there + 1);
        Some(Permit { cancels: self, slot })
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<Slot, usize>> {
        // Counts are whole at every step, wherever the last holder panicked.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut slots = self.cancels.slots();
        if let Some(there) = slots.get_mut(&self.slot) {
            *there = there.saturating_sub(1);
        }
        slots.retain(|_, there| *there > 0);
    }
}

/// Forwards a cancel request and waits until the instance has closed. The client takes the end of its own connection as
/// the sign that the request was delivered; were it told earlier, the request could hit its next query.
///
/// # Errors
/// When nobody can act on it. The client is told nothing: it expects no answer, and whether a key exists is not its
/// business.
pub async fn forward(edge: &Edge, connection: &Connection, key: &CancelKey) -> Result<(), Refusal> {
    let outcome = match timeout(edge.limits.cancel, deliver(edge, connection, key)).await {
        Ok(Ok(())) => "delivered",
        Ok(Err(outcome)) => outcome,
        Err(_) => "timeout",
    };
    metrics::cancel(outcome);
    if outcome == "delivered" {
        return Ok(());
    }
    tracing::debug!(connection = %connection.id, slot = key.slot().number(), outcome, "cancel request not delivered");
    Err(Refusal::UnknownCancelKey)
}

async fn deliver(edge: &Edge, connection: &Connection, key: &CancelKey) -> Result<(), &'static str> {
    let candidate = candidate(edge, key).ok_or("unknown")?;
    let _permit = edge.cancels.permit(key.slot()).ok_or("too_many")?;
    edge.still_admitted(&candidate).map_err(|_| "not_admitted")?;
    let mut upstream = dial::connect(edge, &candidate).await.map_err(|_| "unreachable")?;
    let header = ProxyHeader {
        id: connection.id,
        client: connection.client,
        gateway: connection.gateway,
        authority: None,
        negotiated: false,
    };
    let delivered: io::Result<()> = async {
        upstream.write_all(&header.encode()?).await?;
        upstream.write_all(&key.request()).await?;
        upstream.shutdown().await?;
        let mut ignored = [0; 64];
        while upstream.read(&mut ignored).await? > 0 {}
        Ok(())
    }
    .await;
    delivered.map_err(|_| "broken")
}

fn candidate(edge: &Edge, key: &CancelKey) -> Option<Candidate> {
    let snapshot = edge.members.snapshot();
    let instance = snapshot.table.by_slot(key.slot())?;
    let admitted = matches!(instance.standing, Standing::Admitted { .. });
    admitted.then(|| Candidate {
        instance: instance.clone(),
        address: (instance.address, instance.sidecar_port).into(),
        proxy_header: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instance_cannot_take_the_places_of_all() {
        let cancels = Cancels::default();
        let slot = |number| Slot::new(number).unwrap();
        let mut first: Vec<_> = (0..MAX_PER_SLOT).map(|_| cancels.permit(slot(1)).unwrap()).collect();
        assert!(cancels.permit(slot(1)).is_none());
        assert!(cancels.permit(slot(2)).is_some());
        first.pop();
        assert!(cancels.permit(slot(1)).is_some(), "places are given back");
        drop(first);
        assert!(cancels.slots().is_empty());
        let all: Vec<_> = (0..u32::MAX).map_while(|number| cancels.permit(slot(1 + number / 8))).collect();
        assert_eq!(all.len(), MAX);
    }
}
