//! How a client shows which role it may log in as: by what it is, by a secret, or by a proof that it knows the secret.

use bytes::BytesMut;
use postern_attest::Appraisal;
use postern_pgwire::authentication::scram::{EndPoint, Offer, conclusion};
use postern_pgwire::authentication::{self, CLEARTEXT_REQUEST, MAX_PASSWORD_MESSAGE};
use postern_pgwire::frame::Message;
use postern_pgwire::roles::{RoleMap, Verifiers};
use postern_pgwire::startup::Startup;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroize as _;

use super::arrival::Arrival;
use super::refusal::Refusal;
use super::server::Server;
use crate::packets;

/// Room for one answer, and for what [`packets::message`] reads at a time: the buffer must not grow, as that would leave a copy
/// behind that nobody wipes.
const ROOM: usize = 4 * MAX_PASSWORD_MESSAGE;

/// What clients that need a secret are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authentication {
    /// The secret, inside TLS.
    #[default]
    Password,
    /// A proof by SCRAM-SHA-256 that they know it, bound to our certificate where the client can.
    Scram,
}

impl std::str::FromStr for Authentication {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "password" => Ok(Self::Password),
            "scram-sha-256" => Ok(Self::Scram),
            _ => Err("expected \"password\" or \"scram-sha-256\"".to_owned()),
        }
    }
}

impl Authentication {
    const fn label(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Scram => "scram",
        }
    }
}

/// A client's end of the conversation.
struct Conversation<'a, S> {
    stream: &'a mut S,
    buf: &'a mut BytesMut,
}

impl Server {
    /// The role that the client may log in as. `end_points` are our certificates that it may bind its proof to.
    ///
    /// An unknown role and a wrong secret get the same answers after the same work.
    pub(super) async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        buf: &mut BytesMut,
        startup: &Startup,
        arrival: &Arrival,
        peer: Option<&Appraisal>,
        end_points: Vec<EndPoint>,
    ) -> Result<String, Refusal> {
        let user = startup.user();
        if let (Some(role), Some(peer)) = (self.identities.role(peer, user), peer) {
            let (app_id, compose_hash) = (peer.identity.app_id, peer.identity.compose_hash);
            let instance_id = peer.identity.instance_id;
            tracing::info!(role, %app_id, %compose_hash, %instance_id, "a client is let in by its identity");
            count("identity", "accepted");
            return Ok(role.to_owned());
        }
        let roles = self.roles.current();
        if roles.map.is_without_secret(user) {
            count("identity", "refused");
            return Err(Refusal::NoRule { user: lossy(user) });
        }
        let mut client = Conversation { stream, buf };
        let role = match self.authentication {
            Authentication::Password => client.password(&roles.map, user).await?,
            Authentication::Scram => client.scram(&roles.verifiers, user, Offer::new(end_points)).await?,
        };
        let method = self.authentication.label();
        if let Some(role) = role {
            self.throttle.succeeded(arrival.source());
            count(method, "accepted");
            return Ok(role);
        }
        count(method, "refused");
        tokio::time::sleep(self.throttle.failed(arrival.source(), user)).await;
        Err(Refusal::Credentials { user: lossy(user) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<'_, S> {
    async fn password(&mut self, map: &RoleMap, user: &[u8]) -> Result<Option<String>, Refusal> {
        packets::write(self.stream, CLEARTEXT_REQUEST).await?;
        let answer = self.answer().await?;
        let role = authentication::password(&answer).map(|password| map.admit(user, password).map(str::to_owned));
        answer.wipe();
        Ok(role?)
    }

    async fn scram(&mut self, verifiers: &Verifiers, user: &[u8], offer: Offer) -> Result<Option<String>, Refusal> {
        packets::write(self.stream, &offer.request()).await?;
        let first = self.answer().await?;
        let (challenged, challenge) = offer.first(&first, &verifiers.salt(user), &rand::random())?;
        packets::write(self.stream, &challenge).await?;
        let proof = challenged.proof(&self.answer().await?)?;
        let Some(proven) = verifiers.prove(user, &proof) else { return Ok(None) };
        packets::write(self.stream, &conclusion(&proven.signature)).await?;
        Ok(Some(proven.role.to_owned()))
    }

    /// Reads one message, which may be a secret. Of what it was read into, only the message is left.
    async fn answer(&mut self) -> Result<Message, Refusal> {
        let mut own = BytesMut::with_capacity(self.buf.len() + ROOM);
        own.extend_from_slice(self.buf);
        self.buf.zeroize();
        self.buf.clear();
        let answer = packets::message(self.stream, &mut own, MAX_PASSWORD_MESSAGE).await;
        if answer.is_ok() {
            self.buf.extend_from_slice(&own);
        }
        own.zeroize();
        answer.map_err(Refusal::PasswordRead)
    }
}

fn count(method: &'static str, outcome: &'static str) {
    metrics::counter!("postern_sidecar_authentications_total", "method" => method, "outcome" => outcome).increment(1);
}

fn lossy(user: &[u8]) -> String {
    String::from_utf8_lossy(user).into_owned()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::io::AsyncWriteExt as _;

    use super::Conversation;

    #[tokio::test]
    async fn a_secret_is_read_into_memory_that_can_be_wiped() {
        let (mut near, mut far) = tokio::io::duplex(100);
        // A part came with the startup packet, and the first query comes with the rest.
        let mut buf = BytesMut::from(&b"p\0\0\0\x0bse"[..]);
        far.write_all(b"cret\0Q\0\0").await.unwrap();
        let answer = Conversation { stream: &mut near, buf: &mut buf }.answer().await.unwrap();
        assert_eq!((answer.body(), &buf[..]), (&b"secret\0"[..], &b"Q\0\0"[..]));
        assert!(answer.raw().is_unique(), "nothing else holds on to the bytes");
    }
}
