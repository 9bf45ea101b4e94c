//! dstack's guest-agent API for one simulated CVM.
//!
//! `GET` or `POST /<Method>`, JSON in and out, snake_case names, byte strings as lower-case hex, errors as status 400 (404 for
//! a method that does not exist, 413 for a body that is too large) with `{"error": "..."}`. Request targets may be in absolute
//! form, and responses always carry a `Content-Length`, because clients exist that send the one and cannot read a chunked
//! body.
//!
//! These are the methods of dstack 0.5.11, which later releases serve unchanged. Not simulated: the older `Tappd` service, the
//! newer one below `/v1`, and bodies in protobuf.

mod body;
mod info;
mod methods;
mod parameters;
mod signatures;

use std::sync::{Arc, OnceLock};

use axum::extract::DefaultBodyLimit;
use axum::http::Uri;
use axum::routing::{MethodRouter, get};
use axum::serve::Listener;
use axum::{Router, middleware};

use self::parameters::Refusal;
use crate::Cvm;

/// What the methods work with.
#[derive(Clone)]
struct Agent {
    cvm: Arc<Cvm>,
    clock: fn() -> u64,
    /// The certificate that `Info` shows, made when it is first asked for.
    shown: Arc<OnceLock<String>>,
}

/// The API of one CVM. `clock` gives unix seconds and dates the certificates.
pub fn router(cvm: Arc<Cvm>, clock: fn() -> u64) -> Router {
    fn both<H, T>(handler: H) -> MethodRouter<Agent>
    where
        H: axum::handler::Handler<T, Agent> + Clone,
        T: 'static,
    {
        get(handler.clone()).post(handler)
    }
    Router::new()
        .route("/GetTlsKey", both(methods::tls_key))
        .route("/GetKey", both(signatures::key))
        .route("/GetQuote", both(methods::quote))
        .route("/Attest", both(methods::attest))
        .route("/EmitEvent", both(methods::emit_event))
        .route("/Info", both(info::info))
        .route("/Sign", both(signatures::sign))
        .route("/Verify", both(signatures::verify))
        .route("/Version", both(methods::version))
        .fallback(no_method)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(body::read_first))
        .with_state(Agent { cvm, clock, shown: Arc::default() })
}

/// Serves the API of one CVM on a Unix socket or a TCP port until `stop` ends.
///
/// # Errors
/// When the listener fails.
pub async fn serve<L: Listener<Addr: std::fmt::Debug>>(
    listener: L,
    cvm: Arc<Cvm>,
    clock: fn() -> u64,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(cvm, clock)).with_graceful_shutdown(stop).await
}

async fn no_method(uri: Uri) -> Refusal {
    Refusal::no_method(uri.path().trim_start_matches('/'))
}
