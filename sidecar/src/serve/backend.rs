//! A session's connection to Postgres: opened for it, or left to it by an earlier one.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postern_pgwire::boundary::Boundary;
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::login::LoginError;
use postern_pgwire::negotiation::Agreement;
use postern_pgwire::scram::Password;
use postern_pgwire::tracker::Reported;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::arrival::Arrival;
use super::cancels::Registered;
use super::refusal::Refusal;
use super::server::Server;
use super::upstream::Upstream;
use crate::deadline::Deadline;
use crate::packets;
use crate::postgres::login::{LoginFailed, log_in};
use crate::postgres::pool::{Backend, Origin};
use crate::postgres::supervise::Condition;

/// How long Postgres may take to accept a connection and let us in, so that one that hangs is told from a slow client.
const POSTGRES: Duration = Duration::from_secs(5);
/// ReadyForQuery outside a transaction.
const READY: &[u8] = b"Z\0\0\0\x05I";

/// Postgres, as a session has it.
#[derive(Debug)]
pub struct Attached {
    /// The connection.
    pub upstream: Upstream<UnixStream>,
    /// The client's key to it.
    pub key: Option<Registered>,
    /// Where it comes from, if it may go to another session.
    pub origin: Option<Origin>,
}

/// A connection that Postgres is ready on.
struct Opened {
    upstream: Upstream<UnixStream>,
    key: Option<CancelKey>,
    origin: Option<Origin>,
    /// What the client is told before its cancel key.
    greeting: BytesMut,
    /// And what behind it.
    ready: Bytes,
}

impl Server {
    /// Gets a connection for a session of `role` and passes Postgres' greeting on, with a cancel key of ours in place of its own.
    /// `reusable`: whether it may come from an earlier session and go to a later one.
    pub(super) async fn attach<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        sent_ahead: &mut BytesMut,
        agreement: &Agreement,
        role: &str,
        reusable: bool,
        arrival: &Arrival,
    ) -> Result<Attached, Refusal> {
        match self.postgres.condition() {
            Condition::Starting => return Err(Refusal::PostgresNotReady("Its roles are not provisioned yet.")),
            Condition::Misconfigured => return Err(Refusal::PostgresNotReady("It is not set up to be served.")),
            Condition::Ready | Condition::Away => {}
        }
        let left = if reusable { self.pool.take(&agreement.startup) } else { None };
        let how = if left.is_some() { "reused" } else { "opened" };
        let Opened { mut upstream, key, origin, greeting, ready } = match left {
            Some(left) => again(left),
            None => self.open_backend(agreement, role, reusable).await?,
        };
        metrics::counter!("postern_sidecar_postgres_connections_total", "how" => how).increment(1);
        let key = key.and_then(|real| self.cancels.register(arrival.slot, real));
        let key_data = key.as_ref().map(|registered| registered.key().backend_key_data()).unwrap_or_default();
        packets::write(stream, &[&greeting[..], &key_data, &ready].concat()).await?;
        if !sent_ahead.is_empty() {
            upstream.write_all(&sent_ahead.split()).await.map_err(Refusal::PostgresAway)?;
        }
        Ok(Attached { upstream, key, origin })
    }

    async fn open_backend(&self, agreement: &Agreement, role: &str, reusable: bool) -> Result<Opened, Refusal> {
        // Those that nobody uses must not be what there is no room for.
        self.pool.trim(self.places.left());
        let origin = if reusable { self.pool.origin(&agreement.startup) } else { None };
        let password = self.passwords.get(role).cloned().unwrap_or_else(|| Password::new(b""));
        let answering = Deadline::after(POSTGRES);
        let silent = |_| Refusal::PostgresAway(io::ErrorKind::TimedOut.into());
        let connected = answering.limit(self.socket.connect()).await.map_err(silent)?;
        let mut stream = connected.map_err(Refusal::PostgresAway)?;
        let mut behind = BytesMut::new();
        let logging_in = log_in(&mut stream, &mut behind, &agreement.startup, &password);
        let logged_in = answering.limit(logging_in).await.map_err(silent)?;
        let greeting = logged_in.map_err(|failed| {
            self.doubt_postgres(&failed);
            Refusal::PostgresLogin(failed)
        })?;
        let reported = origin.as_ref().and_then(|_| Reported::of(&greeting.messages));
        let mut upstream = match reported {
            Some(reported) => Upstream::reusable(stream, reported),
            None => Upstream::new(stream, Boundary::default()),
        };
        upstream.received(&behind);
        let ready = [&greeting.ready[..], &behind].concat().into();
        Ok(Opened { upstream, key: greeting.key, origin, greeting: greeting.messages, ready })
    }

    /// Keeps a connection whose session has ended, if it may go to another one.
    pub(super) async fn detach(&self, attached: Attached) {
        let Attached { upstream, key, origin } = attached;
        let key = key.and_then(Registered::retire);
        let (Some((stream, reported)), Some(key), Some(origin)) = (upstream.into_rested(), key, origin) else { return };
        if self.draining.is_triggered() {
            return;
        }
        self.pool.put(Backend { stream, key, reported, origin }).await;
        // The session still has its place, though not its connection.
        self.pool.trim(self.places.left() + 1);
    }

    /// A login that is refused for our password means that Postgres has lost our roles, or is another one.
    fn doubt_postgres(&self, failed: &LoginFailed) {
        let doubtful = match failed {
            LoginFailed::Refused { error, before_login, .. } => *before_login && error.sqlstate.starts_with("28"),
            LoginFailed::Protocol(LoginError::Unexpected(b'v')) => {
                self.dialect.forget();
                true
            }
            LoginFailed::Protocol(_) => true,
            LoginFailed::Read(_) | LoginFailed::TooMuch => false,
        };
        if doubtful {
            self.postgres.doubt();
        }
    }
}

/// A connection that an earlier session has left.
fn again(left: Backend) -> Opened {
    let Backend { stream, key, reported, origin } = left;
    let greeting = reported.greeting();
    let upstream = Upstream::reusable(stream, reported);
    Opened { upstream, key: Some(key), origin: Some(origin), greeting, ready: Bytes::from_static(READY) }
}
