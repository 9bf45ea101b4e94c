//! dstack's guest-agent API for one simulated CVM.
//!
//! `GET` or `POST /<Method>`, JSON in and out, snake_case names, byte strings as lower-case hex, errors as status 400 with
//! `{"error": "..."}`. Request targets may be in absolute form, and responses always carry a `Content-Length`, because
//! clients exist that send the one and cannot read a chunked body.

mod methods;
mod parameters;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, get};
use tokio::net::UnixListener;

use crate::Cvm;

/// The largest request body that is read, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// What the methods work with.
#[derive(Clone)]
struct Agent {
    cvm: Arc<Cvm>,
    clock: fn() -> u64,
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
        .route("/GetKey", both(methods::key))
        .route("/GetQuote", both(methods::quote))
        .route("/Info", both(methods::info))
        .route("/Version", both(methods::version))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Agent { cvm, clock })
}

/// Serves the API of one CVM until `stop` ends.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: UnixListener,
    cvm: Arc<Cvm>,
    clock: fn() -> u64,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(cvm, clock)).with_graceful_shutdown(stop).await
}
