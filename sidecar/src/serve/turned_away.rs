//! Those for whom there is no room, and how they are told.

use std::time::Duration;

use bytes::BytesMut;
use postern_pgwire::opening::Opening;
use postern_plumbing::Io;
use tokio::time::timeout;

use super::arrival::Arrival;
use super::refusal::Refusal;
use super::server::Server;
use crate::packets::{self, ReadError};

/// How long a client that is turned away may take to say which language it speaks, and a gateway to introduce it.
pub(super) const SPEAK: Duration = Duration::from_secs(1);
/// A fatal alert, internal_error: TLS has none for "no room". Source: RFC 8446, section 6.
const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

impl Server {
    /// Tells a client that there is no room for it, in the language that it speaks first. A cancel request is carried out all
    /// the same: it has room of its own, and may be what makes room.
    pub async fn turn_away<S: Io>(&self, mut stream: S, arrival: &Arrival, refusal: &Refusal) {
        match timeout(SPEAK, spoken(&mut stream)).await {
            Ok(Ok(Opening::Cancel(key))) => self.cancel(&key, arrival.source()).await,
            Ok(Ok(Opening::Tls)) => packets::refuse(&mut stream, Some(ALERT)).await,
            Ok(Ok(Opening::SslRequest | Opening::GssEncRequest | Opening::Startup(_))) => {
                packets::refuse(&mut stream, refusal.response().as_deref()).await;
            }
            // To others nothing can be said.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// What the client opens with. An error in place of an answer to GSSENCRequest is not shown to anybody, so the next request is
/// waited for.
async fn spoken<S: Io>(stream: &mut S) -> Result<Opening, ReadError> {
    let mut buf = BytesMut::new();
    let first = packets::opening(stream, &mut buf).await?;
    if first == Opening::GssEncRequest && buf.is_empty() {
        packets::write(stream, b"N").await?;
        return packets::opening(stream, &mut buf).await;
    }
    Ok(first)
}
