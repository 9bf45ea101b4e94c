//! Reads the whole body of a request before anything answers it.
//!
//! hyper closes a connection whose request was answered before its body had come. Clients exist that write head and body in
//! several parts, and that fail on a closed connection although the answer is there.

use std::time::Duration;

use axum::body::{HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::parameters::Refusal;

/// The largest body that is read, in bytes; dstack's own limit.
const MAX_BODY: usize = 10 << 20;

/// How long a client may take to send a body.
const DEADLINE: Duration = Duration::from_secs(10);

/// Passes a request on when its body is there.
pub(super) async fn read_first(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > MAX_BODY as u64 {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {MAX_BODY} bytes"));
    }
    match tokio::time::timeout(DEADLINE, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, body.into())).await,
        Ok(Err(error)) => refusal(StatusCode::BAD_REQUEST, error.to_string()),
        Err(_) => refusal(StatusCode::REQUEST_TIMEOUT, "the body did not arrive".to_owned()),
    }
}

fn refusal(status: StatusCode, error: String) -> Response {
    Refusal { status, error }.into_response()
}
