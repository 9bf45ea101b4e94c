//! Cancel requests: 16 bytes or a few more in the clear, to be brought to the instance that their key names.

use std::io;

use postern_gateway_core::refusal::Refusal;
use postern_gateway_core::table::{Candidate, Standing};
use postern_pgwire::cancel::CancelKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::dial;
use crate::edge::Edge;
use crate::metrics;
use crate::proxy_header::ProxyHeader;

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
    let Ok(_permit) = edge.cancels.try_acquire() else { return Err("too_many") };
    let candidate = candidate(edge, key).ok_or("unknown")?;
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
