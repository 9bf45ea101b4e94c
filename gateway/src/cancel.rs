//! Cancel requests: 16 bytes or a few more in the clear, to be brought to the instance that their key names.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use postern_gateway_core::refusal::Refusal;
use postern_gateway_core::table::{Candidate, Standing};
use postern_pgwire::cancel::{CancelKey, Slot};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::dial;
use crate::edge::Edge;
use crate::metrics;
use crate::proxy_header::ProxyHeader;

/// How many requests may be under way: in all, to one instance, and of one network. The others wait for their turn.
const MAX: usize = 256;
const MAX_PER_SLOT: usize = 8;
const MAX_PER_NETWORK: usize = 4;
/// How many instances and networks are known before those without requests are forgotten.
const FORGET_ABOVE: usize = 1_024;

/// The requests under way, so that nobody can take all places: neither one instance that does not answer, nor one network
/// that tries keys.
#[derive(Debug)]
pub struct Cancels {
    all: Semaphore,
    shares: Mutex<BTreeMap<Share, Arc<Semaphore>>>,
}

/// Whom a place is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Share {
    Slot(Slot),
    /// A client's address, or of IPv6 the first 64 bits of it.
    Network(IpAddr),
}

/// One request under way, until this is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    _network: OwnedSemaphorePermit,
    _slot: OwnedSemaphorePermit,
    _all: SemaphorePermit<'a>,
}

impl Default for Cancels {
    fn default() -> Self {
        Self { all: Semaphore::new(MAX), shares: Mutex::default() }
    }
}

impl Cancels {
    /// Waits for a place for a request from `client` to the instance with this slot. Who waits holds places of its own network
    /// and instance at most. `None` never comes, as nothing here is ever closed.
    pub async fn permit(&self, client: IpAddr, slot: Slot) -> Option<Permit<'_>> {
        let network = self.share(Share::Network(network(client)), MAX_PER_NETWORK).acquire_owned().await.ok()?;
        let slot = self.share(Share::Slot(slot), MAX_PER_SLOT).acquire_owned().await.ok()?;
        let all = self.all.acquire().await.ok()?;
        Some(Permit { _network: network, _slot: slot, _all: all })
    }

    fn share(&self, share: Share, places: usize) -> Arc<Semaphore> {
        // Every entry is whole, wherever the last holder panicked.
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() > FORGET_ABOVE {
            shares.retain(|_, places| Arc::strong_count(places) > 1);
        }
        Arc::clone(shares.entry(share).or_insert_with(|| Arc::new(Semaphore::new(places))))
    }
}

fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & (u128::MAX << 64)).into(),
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
    let _permit = edge.cancels.permit(connection.client.ip(), key.slot()).await.ok_or("unknown")?;
    edge.still_admitted(&candidate).map(drop).map_err(|_| "not_admitted")?;
    let mut upstream = dial::connect(edge, &candidate).await.map_err(|_| "unreachable")?;
    let header = ProxyHeader {
        id: connection.id,
        client: connection.client,
        gateway: connection.gateway,
        authority: None,
        negotiated: false,
    };
    let delivered: io::Result<()> = async {
        upstream.write_all(&header.encode(0)?).await?;
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
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    const LATER: Duration = Duration::from_secs(60);

    fn slot(number: u32) -> Slot {
        Slot::new(number).unwrap()
    }

    fn client(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    /// Takes places until one has to be waited for.
    async fn take(cancels: &Cancels, requests: impl Iterator<Item = (IpAddr, Slot)>) -> Vec<Permit<'_>> {
        let mut taken = Vec::new();
        for (client, slot) in requests {
            match timeout(LATER, cancels.permit(client, slot)).await {
                Ok(permit) => taken.push(permit.unwrap()),
                Err(_) => break,
            }
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn one_instance_cannot_take_the_places_of_all() {
        let cancels = Cancels::default();
        let mut first = take(&cancels, (0..100).map(|number| (client(number), slot(1)))).await;
        assert_eq!(first.len(), MAX_PER_SLOT);
        assert!(timeout(LATER, cancels.permit(client(1_000), slot(2))).await.is_ok());
        let waiting = cancels.permit(client(1_001), slot(1));
        let (permit, ()) = tokio::join!(timeout(LATER, waiting), async { drop(first.pop()) });
        assert!(permit.is_ok(), "places are given to those who wait");
    }

    #[tokio::test(start_paused = true)]
    async fn one_network_cannot_take_the_places_of_an_instance() {
        let cancels = Cancels::default();
        let guesser = |last: u16| format!("2001:db8::{last:x}").parse().unwrap();
        let taken = take(&cancels, (0..100).map(|number| (guesser(number), slot(1)))).await;
        assert_eq!(taken.len(), MAX_PER_NETWORK);
        assert!(timeout(LATER, cancels.permit("2001:db8:0:1::1".parse().unwrap(), slot(1))).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_bounded_and_so_is_what_is_remembered() {
        let cancels = Cancels::default();
        let all = take(&cancels, (0..u32::MAX).map(|number| (client(number), slot(1 + number / 8)))).await;
        assert_eq!(all.len(), MAX);
        drop(all);
        for number in 0..10_000 {
            cancels.permit(client(number), slot(1)).await.unwrap();
        }
        assert!(cancels.shares.lock().unwrap().len() <= FORGET_ABOVE + 1);
    }
}
