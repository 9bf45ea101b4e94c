//! One connection in serve mode, from its first byte to the session that it becomes.

use std::sync::Arc;

use bytes::BytesMut;
use postern_attest::Appraisal;
use postern_attest_io::{Accepted, Identity, PeerRefused, TlsRefused};
use postern_pgwire::authentication::scram::EndPoint;
use postern_pgwire::negotiation::{Agreement, Version, agree};
use postern_pgwire::startup::Startup;
use postern_plumbing::Io;
use postern_plumbing::prefixed::Prefixed;
use postern_plumbing::relay::RelayEnd;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsStream;

use super::arrival::Arrival;
use super::assemble::{FORWARDED, POSTGRES as POSTGRES_ALPN};
use super::handshakes::Room;
use super::live::{Cut, Live, Session};
use super::preamble::{Preamble, preamble};
use super::reappraisal::Evidence;
use super::refusal::Refusal;
use super::server::Server;
use super::upstream::Severed;
use crate::deadline::Deadline;
use crate::opening::{self, Request};
use crate::packets;
use crate::postgres::supervise::Condition;

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
        // Who has begun to log in is let in, as who came a moment before: in the middle of it no forwarder could ask again.
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
        let place = self.places.take(&role).map_err(|full| Refusal::full(full, &role))?;
        let reusable = !startup.is_replication();
        let attached = self.attach(stream, &mut buf, &agreement, &role, reusable, arrival).await?;
        Ok(Some(Session { role, peer, attached, place }))
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
