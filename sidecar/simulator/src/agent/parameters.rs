//! Reads a method's parameters: a JSON body, or a query string.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Query, Request};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The parameters of a method, all of which have defaults.
pub(super) struct Parameters<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if request.method() == Method::GET {
            let Query(parameters) = Query::try_from_uri(request.uri()).map_err(|error| Refusal::new(&error))?;
            return Ok(Self(parameters));
        }
        // The body is JSON whatever its content type says, as in dstack; an empty one stands for no parameters.
        let body = Bytes::from_request(request, state).await.map_err(|error| Refusal::new(&error))?;
        let body = if body.is_empty() { b"{}" } else { body.as_ref() };
        serde_json::from_slice(body).map(Self).map_err(|error| Refusal::new(&error))
    }
}

/// Why a request was not served, as the client reads it.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    error: String,
}

impl Refusal {
    pub(super) fn new(error: &dyn std::fmt::Display) -> Self {
        Self { error: error.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(self)).into_response()
    }
}
