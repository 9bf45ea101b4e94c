//! The opening of a client connection: an introduction where one is due, Postgres' preamble, then a ClientHello.

#[cfg(test)]
mod tests;

use std::fmt;

use postern_pgwire::cancel::CancelKey;
use postern_pgwire::opening::{self as packet, Opening as Packet};

use crate::hello::{self, Assembly, ClientHello};
use crate::introduction::{self, Endpoints};
use crate::refusal::{Refusal, Speaking};

/// One connection's opening. It is fed what the client sends and says what to do next.
///
/// It holds at most the limit for a ClientHello and one feed, and answers each of SSLRequest and GSSENCRequest once, so
/// the whole opening is bounded; its deadline is the caller's. However small the pieces, the work grows with their sum.
pub struct Opening {
    received: Vec<u8>,
    assembly: Assembly,
    max_hello: usize,
    awaits_introduction: bool,
    ssl_answered: bool,
    gss_answered: bool,
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read more bytes and feed them.
    NeedMore,
    /// Take these for the ends of the connection, if any are named, and feed what comes next, or nothing at first: the bytes
    /// behind the introduction are here already.
    Introduced(Option<Endpoints>),
    /// Write this byte, then go on reading.
    Reply(u8),
    /// Route by this ClientHello; its bytes are in [`Opening::into_received`].
    Hello(ClientHello),
    /// Pass this cancel request to the instance that its key names, and answer nothing.
    Cancel(CancelKey),
    /// Write [`Refusal::wire`] for [`Opening::speaking`] and close.
    Refuse(Refusal),
}

impl Opening {
    /// An opening of which nothing was received yet; `max_hello` limits the ClientHello, in bytes on the wire.
    #[must_use]
    pub fn new(max_hello: usize) -> Self {
        Self {
            received: Vec::new(),
            assembly: Assembly::default(),
            max_hello,
            awaits_introduction: false,
            ssl_answered: false,
            gss_answered: false,
        }
    }

    /// The same of a connection that comes through a load balancer: a PROXY protocol header has to come first.
    #[must_use]
    pub fn introduced(max_hello: usize) -> Self {
        Self { awaits_introduction: true, ..Self::new(max_hello) }
    }

    /// Takes the next bytes from the client, which may be cut anywhere.
    ///
    /// After [`Step::NeedMore`], [`Step::Introduced`] and [`Step::Reply`] the opening goes on; any other step ends it.
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        self.received.extend_from_slice(bytes);
        if self.awaits_introduction {
            return self.introduction();
        }
        if self.ssl_answered || self.received.first() == Some(&hello::FIRST_BYTE) {
            return self.hello();
        }
        match packet::parse(&self.received) {
            Ok(None) => Step::NeedMore,
            Ok(Some((Packet::Tls, _))) => self.hello(),
            Ok(Some((Packet::SslRequest, length))) => self.answer(length, b'S'),
            Ok(Some((Packet::GssEncRequest, length))) => self.answer(length, b'N'),
            Ok(Some((Packet::Cancel(key), length))) if length == self.received.len() => Step::Cancel(key),
            Ok(Some((Packet::Cancel(_), _))) => Step::Refuse(Refusal::TrailingCancel),
            Ok(Some((Packet::Startup(_), _))) => Step::Refuse(Refusal::PlaintextStartup),
            Err(_) => Step::Refuse(Refusal::UnknownProtocol),
        }
    }

    /// What the client speaks, so that a refusal is told in its language.
    #[must_use]
    pub fn speaking(&self) -> Speaking {
        if self.ssl_answered || self.received.first() == Some(&hello::FIRST_BYTE) {
            Speaking::Tls
        } else if self.gss_answered || !self.received.is_empty() {
            Speaking::Postgres
        } else {
            Speaking::Nothing
        }
    }

    /// Whether TLS was agreed on by SSLRequest rather than begun at once.
    #[must_use]
    pub fn negotiated(&self) -> bool {
        self.ssl_answered
    }

    /// The bytes received since the preamble, to be replayed to the server as they came.
    #[must_use]
    pub fn into_received(self) -> Vec<u8> {
        self.received
    }

    fn introduction(&mut self) -> Step {
        match introduction::peek(&self.received) {
            Ok(None) => Step::NeedMore,
            Ok(Some(found)) => {
                self.awaits_introduction = false;
                self.received.drain(..found.length);
                Step::Introduced(found.endpoints)
            }
            Err(_) => Step::Refuse(Refusal::NotIntroduced),
        }
    }

    fn hello(&mut self) -> Step {
        match self.assembly.peek(&self.received, self.max_hello) {
            Ok(None) => Step::NeedMore,
            Ok(Some(hello)) => Step::Hello(hello),
            Err(error) => Step::Refuse(error.into()),
        }
    }

    fn answer(&mut self, length: usize, reply: u8) -> Step {
        // The client must wait for the answer, so anything behind the request was not written by it, or in ignorance of
        // whether it would be encrypted.
        if self.received.len() > length {
            return Step::Refuse(Refusal::GluedBytes);
        }
        let answered = if reply == b'S' { &mut self.ssl_answered } else { &mut self.gss_answered };
        if std::mem::replace(answered, true) {
            return Step::Refuse(Refusal::RepeatedRequest);
        }
        self.received.clear();
        Step::Reply(reply)
    }
}

impl fmt::Debug for Opening {
    /// Without the bytes: they may hold the secret of a cancel key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Opening");
        debug.field("received", &self.received.len()).field("speaking", &self.speaking()).finish_non_exhaustive()
    }
}
