//! One registration connection: mutual RA-TLS, then `RegisterCvm` again and again over the same HTTP connection.

use std::sync::Arc;
use std::time::Duration;

use postern_attest::{Appraisal, PeerPolicy};
use postern_attest_io::{Attestor, ConnectRefused, Connector, Identity, IdentityKeeper, PeerRefused};
use postern_identity::AppId;
use postern_plumbing::http::{Connection, HttpError, Request};
use thiserror::Error;

use super::message::{self, Problem, Response};
use crate::deadline::{Deadline, Late};
use crate::dial::Place;
use crate::serve::reappraisal::Evidence;

/// How long opening the connection may take, and how long one registration: the gateway asks the chain meanwhile.
const DEADLINE: Duration = Duration::from_secs(15);
/// Largest response that is read.
const MAX_RESPONSE: usize = 256 * 1024;

/// A gateway to register with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Where it is.
    pub place: Place,
    /// The path in front of `/prpc/`, without a slash at its end.
    pub base: String,
    /// The app that it must prove to be.
    pub app_id: AppId,
    /// Bytes in an inner packet, where the path to it takes others than those to the rest.
    pub mtu: Option<u16>,
}

/// Why a registration failed.
#[derive(Debug, Error)]
pub enum RegistrationError {
    /// The gateway cannot be reached.
    #[error("cannot be reached: {0}")]
    Unreachable(#[from] std::io::Error),
    /// No answer in time.
    #[error(transparent)]
    Late(#[from] Late),
    /// The gateway is not what it must prove to be, or TLS failed.
    #[error(transparent)]
    Tls(#[from] ConnectRefused),
    /// HTTP failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The gateway refused us.
    #[error("refused with status {status}: {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The gateway's words.
        reason: String,
    },
    /// The response is not what dstack's gateways send.
    #[error("unreadable response: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// An open registration connection.
#[derive(Debug)]
pub struct Registration {
    http: Connection,
    shown: Arc<Identity>,
    /// What the gateway proved, and by what, until somebody watches over it.
    proof: Option<(Evidence, Arc<Appraisal>)>,
}

impl Registration {
    /// Connects to the gateway and verifies it, before anything is said.
    ///
    /// # Errors
    /// See [`RegistrationError`].
    pub async fn open(
        gateway: &Gateway,
        connector: &Connector,
        attestor: &Arc<Attestor>,
        keeper: &IdentityKeeper,
    ) -> Result<Self, RegistrationError> {
        let deadline = Deadline::after(DEADLINE);
        let evidence = Evidence::awaited(attestor);
        let shown = keeper.current();
        let stream = deadline.limit(gateway.place.connect()).await??;
        let expected = PeerPolicy::app(gateway.app_id);
        let attested = connector.connect(stream, &gateway.place.host, &expected, deadline.left()).await?;
        let evidence = evidence.shown(attested.stream.get_ref().1);
        let proof = attested.peer.map(|peer| (evidence, peer));
        let http = deadline.limit(Connection::open(attested.stream)).await??;
        Ok(Self { http, shown, proof })
    }

    /// Waits until the gateway, judged again, is no longer believed. To be asked for once, and to be waited for as long as
    /// the connection is held.
    pub fn disbelieved(&mut self, gateway: &Gateway) -> impl Future<Output = PeerRefused> + use<> {
        let (proof, expected) = (self.proof.take(), PeerPolicy::app(gateway.app_id));
        async move {
            match proof {
                Some((evidence, peer)) => evidence.disbelieved(Some(&peer), &expected).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Registers, or registers again.
    ///
    /// # Errors
    /// See [`RegistrationError`].
    pub async fn register(
        &mut self,
        gateway: &Gateway,
        request: &message::Request,
    ) -> Result<Response, RegistrationError> {
        let path = format!("{}/prpc/RegisterCvm?json", gateway.base);
        let host = gateway.place.to_string();
        let request = Request::post(&host, &path, serde_json::to_vec(request)?);
        let response = self.http.send(request, MAX_RESPONSE, DEADLINE).await?;
        if response.is_success() {
            return Ok(serde_json::from_slice(&response.body)?);
        }
        let reason = serde_json::from_slice::<Problem>(&response.body).unwrap_or_default().error;
        Err(RegistrationError::Refused { status: response.status, reason: reason.chars().take(300).collect() })
    }

    /// Waits until the gateway closes the connection.
    pub async fn closed(&mut self) {
        self.http.closed().await;
    }

    /// Whether our certificate was renewed since the connection was opened, so that the evidence that the gateway has seen
    /// is about to end.
    #[must_use]
    pub fn is_outdated(&self, keeper: &IdentityKeeper) -> bool {
        !Arc::ptr_eq(&self.shown, &keeper.current())
    }
}
