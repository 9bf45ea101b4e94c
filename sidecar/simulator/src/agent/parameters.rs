//! Reads a method's parameters: a JSON body, or a query string.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

/// The parameters of a method, all of which have defaults.
pub(super) struct Parameters<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if request.method() == Method::GET {
            let Query(parameters) = Query::try_from_uri(request.uri()).map_err(|error| Refusal::new(&error))?;
            return Ok(Self(parameters));
        }
        if !is_json(&request) {
            return Err(Refusal::new(&"dstack reads a body that is not application/json as protobuf: not simulated"));
        }
        let body = Bytes::from_request(request, state).await.map_err(|error| Refusal::new(&error))?;
        // An empty body stands for no parameters.
        let body = if body.is_empty() { b"{}" } else { body.as_ref() };
        serde_json::from_slice(body).map(Self).map_err(|error| Refusal::new(&error))
    }
}

/// Whether a body is JSON: because its type says so, or because the query asks for it.
fn is_json(request: &Request) -> bool {
    let named = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = named.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let asked = |query: &str| query.split('&').any(|field| matches!(field, "json" | "json=" | "json=1" | "json=true"));
    essence.eq_ignore_ascii_case("application/json") || request.uri().query().is_some_and(asked)
}

/// A byte string, in hex.
#[derive(Default)]
pub(super) struct HexBytes(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Why a request was not served, as the client reads it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) error: String,
}

impl Refusal {
    pub(super) fn new(error: &dyn std::fmt::Display) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: error.to_string() }
    }

    pub(super) fn no_method(name: &str) -> Self {
        Self { status: StatusCode::NOT_FOUND, error: format!("Service not found: {name}") }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: String,
        }
        (self.status, Json(Body { error: self.error })).into_response()
    }
}
