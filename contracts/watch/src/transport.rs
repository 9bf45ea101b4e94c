//! JSON-RPC over HTTP with a deadline and a limit on what is read, neither of which alloy's own transport has.

use std::task::{Context, Poll};
use std::time::Duration;

use alloy::providers::RootProvider;
use alloy::rpc::client::RpcClient;
use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::http::reqwest::header::{CONTENT_TYPE, HeaderValue};
use alloy::transports::http::reqwest::{Client, redirect};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use tower_service::Service;
use url::{Host, Url};

/// The longest answer that is read, in bytes.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// An answer has more than [`MAX_BODY`] bytes.
#[derive(Debug, thiserror::Error)]
#[error("the answer is too long")]
pub(crate) struct TooLong;

/// Whether a request failed because its time was up.
pub(crate) fn timed_out(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<alloy::transports::http::reqwest::Error>().is_some_and(|error| error.is_timeout())
}

/// Why no client can be made for an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Only HTTP is spoken.
    #[error("an endpoint must be an http or https URL")]
    Scheme,
    /// The client cannot be built, as when the system's root certificates cannot be read.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
}

/// A client of one endpoint that gives each request until `deadline`. Nothing is sent yet.
///
/// # Errors
/// When the URL is not HTTP, or no client can be built.
pub fn client(url: &Url, deadline: Duration) -> Result<RpcClient, ConnectError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ConnectError::Scheme);
    }
    let builder = Client::builder().timeout(deadline).connect_timeout(deadline).redirect(redirect::Policy::none());
    let builder = if is_loopback(url) { builder.no_proxy() } else { builder };
    let client = builder.build().map_err(|error| ConnectError::Client(error.without_url().to_string()))?;
    Ok(RpcClient::new(Http { client, url: url.clone() }, is_loopback(url)))
}

/// As [`client`], for reading.
///
/// # Errors
/// As [`client`].
pub fn provider(url: &Url, deadline: Duration) -> Result<RootProvider, ConnectError> {
    client(url, deadline).map(RootProvider::new)
}

/// What to call an endpoint where others can read it: its host and port. The rest of the URL often holds a key.
#[must_use]
pub fn public_name(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether an endpoint is on this machine, so that nobody is on the way to it.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[derive(Clone)]
struct Http {
    client: Client,
    url: Url,
}

impl Http {
    async fn send(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let body = serde_json::to_vec(&request).map_err(TransportError::ser_err)?;
        let json = HeaderValue::from_static("application/json");
        let request = self.client.post(self.url).header(CONTENT_TYPE, json).body(body);
        // The URL stays out of every error, as it may hold a key.
        let failed = |error: alloy::transports::http::reqwest::Error| TransportErrorKind::custom(error.without_url());
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(TransportErrorKind::custom(TooLong));
            }
            body.extend_from_slice(&chunk);
        }
        match serde_json::from_slice(&body) {
            Ok(packet) => Ok(packet),
            Err(_) if !status.is_success() => Err(TransportErrorKind::http_error(status.as_u16(), String::new())),
            Err(error) => Err(TransportError::deser_err(error, "")),
        }
    }
}

impl Service<RequestPacket> for Http {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> TransportFut<'static> {
        Box::pin(self.clone().send(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_is_spoken() {
        for url in ["ws://localhost:1", "file:///tmp/x", "ftp://host/"] {
            let refused = client(&url.parse().unwrap(), Duration::from_secs(1)).unwrap_err();
            assert!(matches!(refused, ConnectError::Scheme), "{url}");
        }
    }

    #[test]
    fn the_key_in_a_url_is_not_part_of_its_name() {
        let url: Url = "https://user:secret@node.example/v3/0123456789abcdef?key=secret".parse().unwrap();
        assert_eq!(public_name(&url), "node.example:443");
    }

    #[tokio::test]
    async fn an_error_does_not_repeat_the_url() {
        let url = "http://127.0.0.1:1/v3/secret".parse().unwrap();
        let client = client(&url, Duration::from_secs(1)).unwrap();
        let error = client.request_noparams::<String>("eth_chainId").await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
