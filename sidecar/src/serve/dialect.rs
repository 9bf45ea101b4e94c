//! The newest protocol version that Postgres speaks, as it says itself.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use postern_pgwire::negotiation::{self, Version};
use postern_pgwire::startup::MAX_STARTUP;
use tokio::time::{Instant, timeout};

use crate::packets;
use crate::postgres::Socket;

/// How long Postgres may take to name its version.
const ANSWER: Duration = Duration::from_secs(2);
/// For how long an answer is believed: Postgres may be replaced by a newer one while we run.
const BELIEVED: Duration = Duration::from_secs(60);
/// The largest answer: it repeats the one option that is asked for.
const MAX_ANSWER: usize = MAX_STARTUP;

/// What was learned last.
#[derive(Debug, Default)]
pub struct Dialect {
    learned: Mutex<Option<(Version, Instant)>>,
}

impl Dialect {
    /// The newest version that the server at `socket` speaks. `user` is named in the question; no login follows it. A server
    /// that does not say is taken to speak 3.0, which is never wrong.
    pub async fn newest(&self, socket: &Socket, user: &str) -> Version {
        let learned = *self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((version, _)) = learned.filter(|(_, when)| when.elapsed() < BELIEVED) {
            return version;
        }
        let Ok(Ok(Some(version))) = timeout(ANSWER, ask(socket, user)).await else { return Version::V3_0 };
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, Instant::now()));
        version
    }

    /// Forgets what was learned: Postgres has contradicted it.
    pub fn forget(&self) {
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

async fn ask(socket: &Socket, user: &str) -> io::Result<Option<Version>> {
    let mut stream = socket.connect().await?;
    packets::write(&mut stream, &negotiation::probe(user.as_bytes())).await?;
    let answer = packets::message(&mut stream, &mut BytesMut::new(), MAX_ANSWER).await.map_err(io::Error::other)?;
    Ok(negotiation::named_version(&answer))
}
