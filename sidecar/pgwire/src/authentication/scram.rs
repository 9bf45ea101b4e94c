//! The server's side of SCRAM-SHA-256, with and without channel binding, as states that follow each other.
//!
//! Every user gets the same messages and costs the same work, whether there is such a role or not: the salt is made from the
//! name, and the proof is judged by [`crate::roles::Verifiers`].

use bytes::{BufMut as _, Bytes, BytesMut};
use thiserror::Error;

use crate::frame::Message;
use crate::scram::{self, END_POINT, KEY, MECHANISM, MECHANISM_PLUS, NONCE, SALT};
use crate::sqlstate::SqlState;

const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// SHA-256 of a server certificate, which is its channel binding data where it is signed with SHA-256 (RFC 5929, 4.1).
pub type EndPoint = [u8; KEY];

/// The mechanisms that a client is offered.
#[derive(Debug)]
pub struct Offer {
    end_points: Vec<EndPoint>,
}

/// A client that chose a mechanism and was sent a salt.
#[derive(Debug)]
pub struct Challenged {
    /// What the client must repeat in its last message: each of these says the same of the channel.
    bindings: Vec<Vec<u8>>,
    nonce: String,
    /// The client's first message without its header, a comma, and our challenge.
    signed: Vec<u8>,
}

/// What a client shows to prove that it knows a password.
pub struct Proof {
    signed: Vec<u8>,
    proof: scram::Key,
}

/// Why an exchange ends before there is a proof to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ScramError {
    /// Another message came instead.
    #[error("expected SASL response, got message type {0}")]
    Unexpected(u8),
    /// The bytes are no message of SCRAM at this point.
    #[error("malformed SCRAM message")]
    Malformed,
    /// A mechanism that was not offered.
    #[error("client selected an invalid SASL authentication mechanism")]
    Mechanism,
    /// An identity to act for.
    #[error("client uses authorization identity, but it is not supported")]
    Authorization,
    /// An extension that has to be understood, or a channel binding of another kind.
    #[error("client requires an unsupported SCRAM extension")]
    Extension,
    /// The client takes us for a server that cannot bind channels: somebody between us has changed the offer.
    #[error("SCRAM channel binding negotiation error")]
    Negotiation,
    /// The client's TLS session ends somewhere else.
    #[error("SCRAM channel binding check failed")]
    Binding,
    /// The nonce is not the one that was agreed on.
    #[error("invalid SCRAM response")]
    Nonce,
}

impl ScramError {
    /// The code that PostgreSQL has for it.
    #[must_use]
    pub const fn sqlstate(self) -> SqlState {
        match self {
            Self::Negotiation | Self::Binding => SqlState::INVALID_AUTHORIZATION,
            Self::Authorization => SqlState::NOT_SUPPORTED,
            Self::Unexpected(_) | Self::Malformed | Self::Mechanism | Self::Extension | Self::Nonce => {
                SqlState::PROTOCOL_VIOLATION
            }
        }
    }
}

impl Offer {
    /// SCRAM-SHA-256, and SCRAM-SHA-256-PLUS where the client's TLS session ends here. `end_points` are then the certificates
    /// that it may have been shown, all of them ours: there are two while one replaces the other. Where the client's driver
    /// does no TLS itself there must be none, as drivers refuse the offer of what they cannot do.
    #[must_use]
    pub const fn new(end_points: Vec<EndPoint>) -> Self {
        Self { end_points }
    }

    /// AuthenticationSASL.
    #[must_use]
    pub fn request(&self) -> Bytes {
        let plus = (!self.end_points.is_empty()).then_some(MECHANISM_PLUS);
        let names: Vec<_> = plus.into_iter().chain([MECHANISM]).collect();
        request(SASL, format!("{}\0\0", names.join("\0")).as_bytes())
    }

    /// Takes the client's choice and its first message; gives the challenge to send. `nonce` has to be random, and `salt` is
    /// the one that belongs to the user's name.
    ///
    /// # Errors
    /// See [`ScramError`].
    pub fn first(
        self,
        message: &Message,
        salt: &[u8; SALT],
        nonce: &[u8; NONCE],
    ) -> Result<(Challenged, Bytes), ScramError> {
        let (mechanism, data) = initial_response(message)?;
        let (header, bare) = self.header(mechanism, data)?;
        let client_nonce = client_nonce(bare)?;
        let bindings = if header.starts_with(b"p") {
            self.end_points.iter().map(|end_point| [header, end_point].concat()).collect()
        } else {
            vec![header.to_vec()]
        };
        let nonce = format!("{client_nonce}{}", scram::encode(nonce));
        let challenge = scram::challenge(&nonce, salt);
        let signed = [bare, b",", challenge.as_bytes()].concat();
        Ok((Challenged { bindings, nonce, signed }, request(SASL_CONTINUE, challenge.as_bytes())))
    }

    /// Splits the client's first message behind its header, which says what it thinks of channel binding.
    fn header<'a>(&self, mechanism: &[u8], data: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), ScramError> {
        let plus = match mechanism {
            name if name == MECHANISM.as_bytes() => false,
            name if name == MECHANISM_PLUS.as_bytes() && !self.end_points.is_empty() => true,
            _ => return Err(ScramError::Mechanism),
        };
        let (flag, rest) = split(data).ok_or(ScramError::Malformed)?;
        let (authorization, bare) = split(rest).ok_or(ScramError::Malformed)?;
        match (flag, flag.strip_prefix(b"p=")) {
            (_, Some(kind)) if plus && kind != END_POINT.as_bytes() => return Err(ScramError::Extension),
            (_, Some(_)) if plus => {}
            (b"n", None) if !plus => {}
            (b"y", None) if !plus && self.end_points.is_empty() => {}
            (b"y", None) if !plus => return Err(ScramError::Negotiation),
            _ => return Err(ScramError::Malformed),
        }
        if !authorization.is_empty() {
            return Err(ScramError::Authorization);
        }
        data.split_at_checked(data.len() - bare.len()).ok_or(ScramError::Malformed)
    }
}

impl Challenged {
    /// Takes the client's last message. Whether the proof in it is right is for those to say who know the secrets.
    ///
    /// # Errors
    /// See [`ScramError`].
    pub fn proof(self, message: &Message) -> Result<Proof, ScramError> {
        if message.tag() != b'p' {
            return Err(ScramError::Unexpected(message.tag()));
        }
        let end = message.body().iter().rposition(|byte| *byte == b',').ok_or(ScramError::Malformed)?;
        let (unproven, proof) = message.body().split_at_checked(end).ok_or(ScramError::Malformed)?;
        let proof = proof.strip_prefix(b",p=").and_then(scram::decode_key).ok_or(ScramError::Malformed)?;
        let mut attributes = unproven.split(|byte| *byte == b',');
        let mut named = |name: &[u8]| attributes.next().and_then(|attribute| attribute.strip_prefix(name));
        let (binding, nonce) = named(b"c=").zip(named(b"r=")).ok_or(ScramError::Malformed)?;
        let binding = scram::decode(binding).ok_or(ScramError::Malformed)?;
        if !self.bindings.contains(&*binding) {
            return Err(ScramError::Binding);
        }
        if nonce != self.nonce.as_bytes() {
            return Err(ScramError::Nonce);
        }
        Ok(Proof { signed: [&self.signed, b",".as_slice(), unproven].concat(), proof })
    }
}

impl Proof {
    /// What both sides sign.
    pub(crate) fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// The client's key, hidden under its signature.
    pub(crate) fn bytes(&self) -> &[u8; KEY] {
        &self.proof
    }
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof([redacted])")
    }
}

/// AuthenticationSASLFinal, by which the client knows us. AuthenticationOk follows.
#[must_use]
pub fn conclusion(signature: &[u8; KEY]) -> Bytes {
    request(SASL_FINAL, format!("v={}", scram::encode(signature)).as_bytes())
}

/// The mechanism and the data of a SASLInitialResponse.
fn initial_response(message: &Message) -> Result<(&[u8], &[u8]), ScramError> {
    if message.tag() != b'p' {
        return Err(ScramError::Unexpected(message.tag()));
    }
    let body = message.body();
    let end = body.iter().position(|byte| *byte == 0).ok_or(ScramError::Malformed)?;
    let (mechanism, rest) = body.split_at_checked(end).ok_or(ScramError::Malformed)?;
    let (length, data) = rest.get(1..).and_then(<[u8]>::split_first_chunk).ok_or(ScramError::Malformed)?;
    // A client that sends no data at once says so with -1.
    if usize::try_from(i32::from_be_bytes(*length)) != Ok(data.len()) {
        return Err(ScramError::Malformed);
    }
    Ok((mechanism, data))
}

/// The nonce in the client's first message. The user's name there is not used: it stands in the startup packet.
fn client_nonce(bare: &[u8]) -> Result<&str, ScramError> {
    let mut attributes = bare.split(|byte| *byte == b',');
    let name = attributes.next().unwrap_or_default();
    if name.starts_with(b"m=") {
        return Err(ScramError::Extension);
    }
    let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix(b"r=")).filter(|nonce| scram::is_nonce(nonce));
    let nonce = nonce.and_then(|nonce| std::str::from_utf8(nonce).ok());
    nonce.filter(|_| name.starts_with(b"n=")).ok_or(ScramError::Malformed)
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let comma = bytes.iter().position(|byte| *byte == b',')?;
    Some((bytes.get(..comma)?, bytes.get(comma + 1..)?))
}

fn request(method: u32, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(data.len() + 9);
    message.put_u8(b'R');
    message.put_u32(u32::try_from(data.len() + 8).unwrap_or(u32::MAX));
    message.put_u32(method);
    message.put_slice(data);
    message.freeze()
}

#[cfg(test)]
mod tests;
