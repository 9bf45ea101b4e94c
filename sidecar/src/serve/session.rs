//! One connection in serve mode, from its first byte to the session that it becomes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postern_attest::Appraisal;
use postern_attest_io::{Accepted, Identity, PeerRefused, TlsRefused};
use postern_pgwire::authentication::scram::EndPoint;
use postern_pgwire::boundary::Boundary;
use postern_pgwire::login::LoginError;
use postern_pgwire::negotiation::{Agreement, Version, agree};
use postern_pgwire::scram::Password;
use postern_pgwire::startup::Startup;
use postern_plumbing::Io;
use postern_plumbing::prefixed::Prefixed;
use postern_plumbing::relay::RelayEnd;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_rustls::TlsStream;

use super::arrival::Arrival;
use super::assemble::{FORWARDED, POSTGRES as POSTGRES_ALPN};
use super::cancels::Registered;
use super::handshakes::Room;
use super::live::{Cut, Live, Session};
use super::preamble::{Preamble, preamble};
use super::reappraisal::Evidence;
use super::refusal::Refusal;
use super::server::Server;
use super::upstream::{Severed, Upstream};
use crate::deadline::Deadline;
use crate::opening::{self, Request};
use crate::packets;
use crate::postgres::login::{LoginFailed, log_in};
use crate::postgres::supervise::Condition;

/// How long Postgres may take to accept a connection and let us in, so that one that hangs is told from a slow client.
const POSTGRES: Duration = Duration::from_secs(5);

/// What a client's certificate proved: nothing where evidence is optional.
pub type Verdict = Result<Option<Arc<Appraisal>>, PeerRefused>;

/// What is known of a client when its TLS session begins.
#[derive(Debug)]
pub struct Shown {
    /// What its certificate proved, or why it may not go on.
    pub verdict: Result<Verdict, Refusal>,
    /// What it proved that with.
    pub evidence: Evidence,
    /// Our certificates that its driver may bind a proof to: none where the driver does no TLS itself.
    pub end_points: Vec<EndPoint>,
}

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
        end: Result<RelayEnd, Severed<Cut>>,
    },
}

impl Server {
    /// Serves one connection until it ends. `room` is held for as long as it is no session.
    ///
    /// # Errors
    /// The reason for which it came to no session. The client has been told.
    pub async fn connection<S: Io>(&self, stream: S, arrival: &Arrival, room: Room) -> Result<Ended, Refusal> {
        // Each phase is on the heap by itself: an idle session does not hold the space that its beginning needed.
        let opened = Box::pin(self.open(stream, arrival)).await?;
        drop(room);
        match opened {
            Some(live) => Ok(Box::pin(live.relay(self)).await),
            None => Ok(Ended::Cancel),
        }
    }

    /// The session that a connection becomes; `None` after a cancel request.
    async fn open<S: Io>(
        &self,
        mut stream: S,
        arrival: &Arrival,
    ) -> Result<Option<Box<Live<TlsStream<Prefixed<S>>>>>, Refusal> {
        let deadline = Deadline::after(self.limits.handshake);
        let mut buf = BytesMut::new();
        let wanted = deadline.limit(preamble(&mut stream, &mut buf)).await.unwrap_or(Err(Refusal::Deadline));
        match wanted {
            Err(refusal) => {
                packets::refuse(&mut stream, refusal.response().as_deref()).await;
                Err(refusal)
            }
            Ok(Preamble::Cancel(key)) => {
                self.cancel(&key, arrival.source()).await;
                Ok(None)
            }
            Ok(Preamble::Tls { negotiated }) => {
                let stream = Prefixed::new(buf.freeze(), stream);
                let evidence = Evidence::awaited(&self.attestor);
                let before = self.keeper.current();
                let accepted = self.accept(stream, arrival, deadline).await.map_err(Refusal::Tls)?;
                let asked = negotiated || arrival.negotiated;
                let named = accepted.alpn.is_some() || asked;
                let alpn = if named || !self.limits.require_alpn { Ok(()) } else { Err(Refusal::Alpn) };
                let shown = Shown {
                    verdict: alpn.map(|()| accepted.verdict),
                    evidence: evidence.shown(accepted.stream.get_ref().1),
                    end_points: end_points(asked, accepted.alpn.as_deref(), &[before, self.keeper.current()]),
                };
                self.secured(accepted.stream, shown, arrival, deadline).await
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

    /// The session that a connection becomes inside TLS; `None` after a cancel request.
    async fn secured<S: Io>(
        &self,
        mut stream: S,
        shown: Shown,
        arrival: &Arrival,
        deadline: Deadline,
    ) -> Result<Option<Box<Live<S>>>, Refusal> {
        let Shown { verdict, evidence, end_points } = shown;
        let establish = self.establish(&mut stream, verdict, end_points, arrival, deadline);
        match deadline.limit(establish).await.unwrap_or(Err(Refusal::Deadline)) {
            Ok(Some(session)) => Ok(Some(Box::new(Live { client: stream, session, evidence }))),
            Ok(None) => {
                packets::close(&mut stream).await;
                Ok(None)
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
        end_points: Vec<EndPoint>,
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
                self.cancel(&key, arrival.source()).await;
                return Ok(None);
            }
        };
        if self.draining.is_triggered() {
            return Err(Refusal::Draining);
        }
        self.clients.check(peer.as_deref(), deadline.left()).await?;
        let agreement = self.agree(&startup).await;
        if let Some(answer) = &agreement.answer {
            stream.write_all(answer).await?;
        }
        let role = self.authenticate(stream, &mut buf, &startup, arrival, peer.as_deref(), end_points).await?;
        if startup.is_replication() && !self.replicators.contains(&role) {
            return Err(Refusal::Replication);
        }
        if self.draining.is_triggered() {
            return Err(Refusal::Draining);
        }
        let place = self.places.take(&role).map_err(|full| Refusal::full(full, &role))?;
        let (upstream, key) = self.log_in(stream, &mut buf, &agreement, &role, arrival).await?;
        Ok(Some(Session::new(role, peer, upstream, key, place)))
    }

    /// What the session will speak. Postgres is asked what it has only where that matters, and where it may be spoken to.
    async fn agree(&self, startup: &Startup) -> Agreement {
        let served = matches!(self.postgres.condition(), Condition::Ready | Condition::Away);
        let newest = match self.passwords.first_key_value() {
            Some((user, _)) if served && startup.version() > Version::V3_0 => {
                self.dialect.newest(&self.socket, user).await
            }
            _ => Version::V3_0,
        };
        agree(startup, newest)
    }

    /// Logs in to Postgres as `role` and passes its greeting on, with a cancel key of ours in place of its own.
    async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        sent_ahead: &mut BytesMut,
        agreement: &Agreement,
        role: &str,
        arrival: &Arrival,
    ) -> Result<(Upstream<UnixStream>, Option<Registered>), Refusal> {
        match self.postgres.condition() {
            Condition::Starting => return Err(Refusal::PostgresNotReady("Its roles are not provisioned yet.")),
            Condition::Misconfigured => return Err(Refusal::PostgresNotReady("It is not set up to be served.")),
            Condition::Ready | Condition::Away => {}
        }
        let password = self.passwords.get(role).cloned().unwrap_or_else(|| Password::new(b""));
        let answering = Deadline::after(POSTGRES);
        let silent = |_| Refusal::PostgresAway(io::ErrorKind::TimedOut.into());
        let connected = answering.limit(self.socket.connect()).await.map_err(silent)?;
        let mut upstream = connected.map_err(Refusal::PostgresAway)?;
        let mut buf = BytesMut::new();
        let logging_in = log_in(&mut upstream, &mut buf, &agreement.startup, &password);
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
        Ok((Upstream::new(upstream, Boundary::after(&buf)), key))
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

/// What a client may bind a proof to. A driver behind a forwarder, a sidecar or another, has no TLS of its own and refuses the
/// offer of a binding; that it does TLS itself is known when it asked for it, or named Postgres in its ALPN. Which of `shown`
/// the handshake had is not known when one was renewed meanwhile. Both are ours.
fn end_points(asked: bool, alpn: Option<&[u8]>, shown: &[Arc<Identity>; 2]) -> Vec<EndPoint> {
    let forwarded = alpn == Some(FORWARDED.as_bytes());
    if forwarded || !(asked || alpn == Some(POSTGRES_ALPN.as_bytes())) {
        return Vec::new();
    }
    shown.iter().map(|identity| *identity.end_point()).collect()
}
