//! One connection in serve mode, from its first byte to its last.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postern_attest::Appraisal;
use postern_attest_io::{Accepted, PeerRefused, TlsRefused};
use postern_pgwire::authentication::{self, CLEARTEXT_REQUEST, MAX_PASSWORD_MESSAGE};
use postern_pgwire::startup::Startup;
use postern_plumbing::Io;
use postern_plumbing::prefixed::Prefixed;
use postern_plumbing::relay::{self, RelayEnd};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;

use super::arrival::Arrival;
use super::cancels::Registered;
use super::preamble::{Preamble, preamble};
use super::reappraisal::Evidence;
use super::refusal::Refusal;
use super::server::Server;
use crate::deadline::Deadline;
use crate::meter::Meter;
use crate::opening::{self, Request};
use crate::packets;
use crate::postgres::login::{LoginFailed, log_in};
use crate::postgres::supervise::Condition;

/// How long Postgres may take to accept a connection and let us in, so that one that hangs is told from a slow client.
const POSTGRES: Duration = Duration::from_secs(5);

/// What a client's certificate proved: nothing where evidence is optional.
pub type Verdict = Result<Option<Arc<Appraisal>>, PeerRefused>;

/// How a connection ended that was not refused.
#[derive(Debug)]
pub enum Ended {
    /// It brought a cancel request.
    Cancel,
    /// It was a session.
    Session {
        /// The role it logged in as.
        role: String,
        /// What was relayed, or why the session was cut.
        end: Result<RelayEnd, Cut>,
    },
}

/// Why a session was cut that was allowed to begin.
#[derive(Debug, Error)]
pub enum Cut {
    /// The chain took its permission back.
    #[error("the chain no longer allows the client")]
    Chain,
    /// Judged again, the client was refused.
    #[error("the client's evidence is no longer good enough: {0}")]
    Evidence(PeerRefused),
}

impl Cut {
    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Evidence(refused) => refused.label(),
        }
    }
}

/// A session that is ready for queries.
#[derive(Debug)]
struct Session {
    role: String,
    peer: Option<Arc<Appraisal>>,
    upstream: UnixStream,
    _key: Option<Registered>,
    _room: OwnedSemaphorePermit,
}

impl Server {
    /// Serves one connection until it ends. `room` is held for as long as it is no session.
    ///
    /// # Errors
    /// The reason for which it came to no session. The client has been told.
    pub async fn connection<S: Io>(
        &self,
        mut stream: S,
        arrival: &Arrival,
        room: OwnedSemaphorePermit,
    ) -> Result<Ended, Refusal> {
        let deadline = Deadline::after(self.limits.handshake);
        let mut buf = BytesMut::new();
        let wanted = deadline.limit(preamble(&mut stream, &mut buf)).await.unwrap_or(Err(Refusal::Deadline));
        match wanted {
            Err(refusal) => {
                packets::refuse(&mut stream, refusal.response().as_deref()).await;
                Err(refusal)
            }
            Ok(Preamble::Cancel(key)) => {
                self.cancel(&key).await;
                Ok(Ended::Cancel)
            }
            Ok(Preamble::Tls { negotiated }) => {
                let stream = Prefixed::new(buf.freeze(), stream);
                let evidence = Evidence::awaited(&self.attestor);
                let accepted = Box::pin(self.accept(stream, arrival, deadline)).await.map_err(Refusal::Tls)?;
                let named = accepted.alpn.is_some() || negotiated || arrival.negotiated;
                let alpn = if named || !self.limits.require_alpn { Ok(()) } else { Err(Refusal::Alpn) };
                let evidence = evidence.shown(accepted.stream.get_ref().1);
                let verdict = alpn.map(|()| accepted.verdict);
                self.secured(accepted.stream, verdict, evidence, arrival, deadline, room).await
            }
        }
    }

    /// TLS with a client whose network may cause only so much work, where it is known.
    async fn accept<S: Io>(
        &self,
        stream: Prefixed<S>,
        arrival: &Arrival,
        deadline: Deadline,
    ) -> Result<Accepted<Prefixed<S>>, TlsRefused> {
        match arrival.source() {
            Some(source) => self.acceptor.accept_from(stream, source, deadline.left()).await,
            None => self.acceptor.accept(stream, deadline.left()).await,
        }
    }

    /// Serves one connection inside TLS.
    ///
    /// # Errors
    /// As [`Server::connection`].
    pub async fn secured<S: Io>(
        &self,
        mut stream: S,
        verdict: Result<Verdict, Refusal>,
        evidence: Evidence,
        arrival: &Arrival,
        deadline: Deadline,
        room: OwnedSemaphorePermit,
    ) -> Result<Ended, Refusal> {
        let establish = Box::pin(self.establish(&mut stream, verdict, arrival, deadline));
        match deadline.limit(establish).await.unwrap_or(Err(Refusal::Deadline)) {
            Ok(Some(session)) => {
                drop(room);
                Ok(self.relay(stream, session, evidence).await)
            }
            Ok(None) => {
                packets::close(&mut stream).await;
                Ok(Ended::Cancel)
            }
            Err(refusal) => {
                packets::refuse(&mut stream, refusal.response().as_deref()).await;
                Err(refusal)
            }
        }
    }

    /// `None` after a cancel request.
    async fn establish<S: Io>(
        &self,
        stream: &mut S,
        verdict: Result<Verdict, Refusal>,
        arrival: &Arrival,
        deadline: Deadline,
    ) -> Result<Option<Session>, Refusal> {
        let mut buf = BytesMut::new();
        // The client's first words are read before it is refused, so that it is listening when the refusal comes.
        let request = opening::request(stream, &mut buf).await?;
        let peer = verdict?.map_err(Refusal::Peer)?;
        let startup = match request {
            Request::Startup(startup) => startup,
            Request::Cancel(key) => {
                self.cancel(&key).await;
                return Ok(None);
            }
        };
        self.clients.check(peer.as_deref(), deadline.left()).await?;
        if startup.is_replication() {
            return Err(Refusal::Replication);
        }
        let role = self.authenticate(stream, &mut buf, &startup, arrival).await?;
        if self.draining.is_triggered() {
            return Err(Refusal::Draining);
        }
        let room = Arc::clone(&self.sessions).try_acquire_owned().map_err(|_| Refusal::TooManySessions)?;
        let (upstream, key) = self.log_in(stream, &mut buf, &startup, role, arrival).await?;
        Ok(Some(Session { role: role.to_owned(), peer, upstream, _key: key, _room: room }))
    }

    /// Asks for the secret and returns the role that it opens.
    async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        buf: &mut BytesMut,
        startup: &Startup,
        arrival: &Arrival,
    ) -> Result<&str, Refusal> {
        packets::write(stream, CLEARTEXT_REQUEST).await?;
        let answer = packets::message(stream, buf, MAX_PASSWORD_MESSAGE).await.map_err(Refusal::PasswordRead)?;
        let password = authentication::password(&answer)?;
        if let Some(role) = self.roles.admit(startup.user(), password) {
            self.throttle.succeeded(arrival.source());
            return Ok(role);
        }
        let named = self.passwords.keys().find(|role| role.as_bytes() == startup.user());
        tokio::time::sleep(self.throttle.failed(arrival.source(), named.map(String::as_str))).await;
        Err(Refusal::Credentials { user: String::from_utf8_lossy(startup.user()).into_owned() })
    }

    /// Logs in to Postgres as `role` and passes its greeting on, with a cancel key of ours in place of its own.
    async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        sent_ahead: &mut BytesMut,
        startup: &Startup,
        role: &str,
        arrival: &Arrival,
    ) -> Result<(UnixStream, Option<Registered>), Refusal> {
        match self.postgres.condition() {
            Condition::Starting => return Err(Refusal::PostgresNotReady("Its roles are not provisioned yet.")),
            Condition::Misconfigured => return Err(Refusal::PostgresNotReady("It is not set up to be served.")),
            Condition::Ready | Condition::Away => {}
        }
        let password = self.passwords.get(role).map(|password| password.expose().as_bytes()).unwrap_or_default();
        let answering = Deadline::after(POSTGRES);
        let silent = |_| Refusal::PostgresAway(io::ErrorKind::TimedOut.into());
        let connected = answering.limit(self.socket.connect()).await.map_err(silent)?;
        let mut upstream = connected.map_err(Refusal::PostgresAway)?;
        let mut buf = BytesMut::new();
        let logging_in = log_in(&mut upstream, &mut buf, startup.raw(), password);
        let logged_in = answering.limit(logging_in).await.map_err(silent)?;
        let greeting = logged_in.map_err(|failed| {
            self.doubt_postgres(&failed);
            Refusal::PostgresLogin(failed)
        })?;
        let key = greeting.key.and_then(|real| self.cancels.register(arrival.slot, real));
        let key_data = key.as_ref().map(|registered| registered.key().backend_key_data()).unwrap_or_default();
        let greeting = [&greeting.messages[..], &key_data, &greeting.ready, &buf].concat();
        packets::write(stream, &greeting).await?;
        if !sent_ahead.is_empty() {
            upstream.write_all(&sent_ahead.split()).await.map_err(Refusal::PostgresAway)?;
        }
        Ok((upstream, key))
    }

    /// A login that is refused for our password means that Postgres has lost our roles, or is another one.
    fn doubt_postgres(&self, failed: &LoginFailed) {
        let doubtful = match failed {
            LoginFailed::Refused { error, before_login, .. } => *before_login && error.sqlstate.starts_with("28"),
            LoginFailed::Protocol(_) => true,
            LoginFailed::Read(_) | LoginFailed::TooMuch => false,
        };
        if doubtful {
            self.postgres.doubt();
        }
    }

    async fn relay<S: Io>(&self, mut client: S, mut session: Session, evidence: Evidence) -> Ended {
        let meter = Meter::start(["to_postgres", "to_client"]);
        tracing::debug!(role = session.role, "session established");
        let end = tokio::select! {
            end = relay::relay(&mut client, &mut session.upstream, &meter.progress) => Ok(end),
            () = self.clients.revoked(session.peer.as_deref()) => Err(Cut::Chain),
            refused = evidence.disbelieved(session.peer.as_deref(), self.clients.policy()) => Err(Cut::Evidence(refused)),
        };
        if end.is_err() {
            // Postgres sees its connection close; the client gets TLS' own farewell, as the state of the protocol between
            // them is not known here.
            packets::close(&mut client).await;
        }
        Ended::Session { role: session.role, end }
    }
}
