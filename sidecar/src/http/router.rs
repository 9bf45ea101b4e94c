use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use postern_attest::{MAX_NONCE, MIN_NONCE};
use postern_plumbing::admin::Readiness;
use postern_plumbing::http::server::Peer;
use postern_plumbing::telemetry::Metrics;
use serde::Deserialize;

use super::problem::Problem;
use super::witness::{Nonce, Witness};

const NOT_FOUND: Problem = Problem::new(StatusCode::NOT_FOUND, "there is no such page");
const NOT_ALLOWED: Problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this page can only be read");
const BAD_NONCE: Problem =
    Problem::new(StatusCode::BAD_REQUEST, "the nonce must be 16 to 64 bytes, as hex, and be given once");

/// The pages. Without `metrics` there is no page with them.
pub fn router(witness: Witness, readiness: Readiness, metrics: Option<Metrics>) -> Router {
    let mut router = Router::new()
        .route("/health", get(async || axum::Json(serde_json::json!({ "status": "ok" }))))
        .route("/ready", get(ready).with_state(readiness))
        .route("/attestation", get(attestation).with_state(Arc::new(witness)));
    if let Some(metrics) = metrics {
        let page = async move || ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render());
        router = router.route("/metrics", get(page));
    }
    router.fallback(async || NOT_FOUND).method_not_allowed_fallback(async || NOT_ALLOWED)
}

/// Why it is not ready is told in general terms: the details name files and roles, and stand on the admin port.
async fn ready(State(readiness): State<Readiness>) -> Response {
    let failing = readiness.failing();
    let reasons: Vec<_> =
        failing.iter().map(|name| serde_json::json!({ "check": name, "reason": reason(name) })).collect();
    let status = if failing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": failing.is_empty(), "reasons": reasons });
    (status, axum::Json(body)).into_response()
}

fn reason(check: &str) -> &'static str {
    match check {
        "start" => "the sidecar is starting",
        "identity" => "there is no valid certificate",
        "postgres" => "Postgres is away, or its roles are not set up",
        "chain" => "the view of the chain is too old",
        "gateways" => "no gateway has the sidecar registered",
        "draining" => "the sidecar is stopping",
        _ => "not ready",
    }
}

#[derive(Debug, Deserialize)]
struct Asked {
    nonce: Option<String>,
}

async fn attestation(
    State(witness): State<Arc<Witness>>,
    Extension(Peer(peer)): Extension<Peer>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Asked { nonce }) = asked.map_err(|_| BAD_NONCE)?;
    let answer = match nonce.as_deref().map(read_nonce).transpose()? {
        Some(nonce) => witness.fresh(peer.ip(), &nonce).await?,
        None => witness.latest().await?,
    };
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], answer).into_response())
}

fn read_nonce(text: &str) -> Result<Nonce, Problem> {
    let bytes = hex::decode(text).map_err(|_| BAD_NONCE)?;
    if !(MIN_NONCE..=MAX_NONCE).contains(&bytes.len()) {
        return Err(BAD_NONCE);
    }
    Ok(Nonce(hex::encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::read_nonce;

    #[test]
    fn a_nonce_is_16_to_64_bytes_in_hex_of_either_case() {
        assert_eq!(read_nonce(&"AB".repeat(16)).unwrap().0, "ab".repeat(16));
        assert!(read_nonce(&"00".repeat(64)).is_ok());
        for bad in ["", "ab", &"ab".repeat(15), &"ab".repeat(65), &"g0".repeat(16), &"a".repeat(33)] {
            assert!(read_nonce(bad).is_err(), "{bad}");
        }
    }
}
