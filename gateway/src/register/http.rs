//! The calls of a registration connection.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use postern_attest::Appraisal;
use postern_attest_io::PeerRefused;
use postern_gateway_core::registration::Link;
use postern_identity::InstanceId;
use postern_plumbing::Io;
use postern_plumbing::shutdown::Shutdown;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::time::{sleep, timeout};

use super::message::RegisterCvm;
use super::problem::Problem;
use super::write_deadline::WriteDeadline;
use super::{Door, Peer, Registrar};
use crate::audit::Audit;
use crate::members::Evidence;
use crate::{metrics, reappraisal};

/// The longest request body, in bytes. A list of every port there is would be longer, and is no policy.
const MAX_BODY: usize = 64 * 1024;
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// How many renewals may be missed before a silent connection counts as dead.
const MISSED: u32 = 3;

/// One registration connection.
struct Session {
    door: Arc<Door>,
    peer: Peer,
    link: Link,
    /// Who asked to be registered here; for whom the end of the connection means something.
    asked: Mutex<Option<InstanceId>>,
}

/// Serves the connection until either side ends it, or the shutdown.
pub(super) async fn serve<S: Io>(door: Arc<Door>, stream: S, peer: Peer, link: Link, shutdown: Shutdown) {
    let (deadline, believed) = (door.deadline, peer.refused.is_none());
    let patience = match peer.refused {
        Some(_) => door.deadline,
        None => door.registrar.refresh * MISSED + door.deadline,
    };
    let session = Arc::new(Session { door, peer, link, asked: Mutex::new(None) });
    let service = service_fn(move |request| {
        let session = Arc::clone(&session);
        async move { Ok::<_, Infallible>(session.respond(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(WriteDeadline::new(stream, deadline)), service);
    let mut connection = std::pin::pin!(connection);
    let mut over = std::pin::pin!(sleep(deadline));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = over.as_mut(), if !believed => Ok(()),
        () = shutdown.triggered() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a registration connection broke");
    }
}

impl Session {
    /// Whoever is not believed is answered once.
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut response = self.answer(request).await;
        if self.peer.refused.is_some() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().strip_prefix("/prpc/").unwrap_or_default();
        // Older guests name the service by its former name.
        let call = path.strip_prefix("Tproxy.").unwrap_or(path);
        match (call, request.method()) {
            ("Info", &Method::GET | &Method::POST) => json(StatusCode::OK, &self.door.registrar.info()),
            ("RegisterCvm", &Method::POST) => self.register(request).await,
            ("Info" | "RegisterCvm", _) => problem(&Problem::new(405, "method", "the call takes POST")),
            _ => problem(&Problem::new(404, "no_such_call", "the calls are /prpc/RegisterCvm and /prpc/Info")),
        }
    }

    async fn register(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match self.try_register(request).await {
            Ok(response) => response,
            Err(refused) => {
                metrics::registration(refused.reason);
                tracing::debug!(reason = refused.reason, status = refused.status, "registration refused");
                problem(&refused)
            }
        }
    }

    async fn try_register(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Problem> {
        let rules = self.door.attestor.changes();
        let unbelieved = |refused| unbelieved(&refused, &self.peer.certificates, &self.door.registrar.audit);
        let appraisal = self.appraise().await.map_err(unbelieved)?;
        let request = self.read(request).await?;
        // It may become a member even where it is refused in the end.
        *self.asked() = Some(appraisal.identity.instance_id);
        let proof = (self.link, Arc::clone(&self.peer.certificates));
        let registered = self.door.registrar.register(&appraisal, &request, proof).await?;
        if rules.has_changed().unwrap_or(true) {
            // Whoever judged the members again may have looked before this one was there.
            self.appraise().await.map_err(unbelieved)?;
        }
        let mut response = json(StatusCode::OK, &registered);
        let refresh = self.door.registrar.refresh.as_secs();
        if appraisal.valid_until < self.door.attestor.now().saturating_add(2 * refresh) {
            // The evidence of this connection will not hold until the renewal after the next.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    /// Judges the evidence by today's rules. A member whose evidence they refuse is one no longer.
    async fn appraise(&self) -> Result<Arc<Appraisal>, PeerRefused> {
        let verdict = self.peer.appraise(&self.door.attestor).await;
        let asked = *self.asked();
        if let (Err(refused), Some(instance)) = (&verdict, asked) {
            let Registrar { members, audit, .. } = &self.door.registrar;
            reappraisal::disbelieve(members, audit, &instance, self.link, refused);
        }
        verdict
    }

    fn asked(&self) -> MutexGuard<'_, Option<InstanceId>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, request: Request<Incoming>) -> Result<RegisterCvm, Problem> {
        let asks_for_json = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "json"));
        let is_json =
            request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        if !asks_for_json && !is_json {
            return Err(Problem::new(415, "not_json", "this gateway takes JSON: POST /prpc/RegisterCvm?json"));
        }
        let body = timeout(self.door.deadline, Limited::new(request.into_body(), MAX_BODY).collect());
        let body = match body.await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(Problem::new(413, "too_long", "the request is longer than 64 KiB"));
            }
            Ok(Err(_)) | Err(_) => return Err(Problem::new(400, "incomplete", "the request did not arrive in full")),
        };
        serde_json::from_slice(&body)
            .map_err(|error| Problem::new(400, "malformed", format!("the request cannot be read: {error}")))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let asked = self.asked.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = asked {
            tracing::debug!(%instance, "the registration connection of an instance ended");
            self.door.registrar.members.unlinked(instance, self.link);
        }
    }
}

fn status(refused: &PeerRefused) -> u16 {
    match refused {
        PeerRefused::NoCertificate | PeerRefused::NoQuote => 401,
        PeerRefused::SourceLimited => 429,
        temporary if temporary.is_temporary() => 503,
        PeerRefused::Certificate(_)
        | PeerRefused::Rejected(_)
        | PeerRefused::NotExpected(_)
        | PeerRefused::Busy
        | PeerRefused::Failed => 403,
    }
}

/// The refusal of a peer whose evidence is not believed.
fn unbelieved(refused: &PeerRefused, shown: &Evidence, audit: &Audit) -> Problem {
    let status = status(refused);
    let fingerprint = shown.first().map(|leaf| Sha256::digest(leaf).into());
    audit.unbelieved(fingerprint.as_ref(), refused.label(), &refused.to_string());
    let mut problem = Problem::new(status, refused.label(), refused.public());
    if status == 401 {
        // dstack's guests look for these words, and come back with the certificate that carries their quote.
        problem.error = format!("no attestation provided: {}", refused.public());
    }
    problem
}

fn problem(problem: &Problem) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, problem);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Some(seconds) = problem.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
