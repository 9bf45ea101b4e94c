//! The client of Intel Trust Authority.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_attest::{MAX_JWKS_BYTES, MAX_TOKEN_BYTES, Opinion, TokenError, TokenKeys};
use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::redirect::Policy as Redirects;
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

/// The address of a service: HTTPS, or HTTP on this machine. What is asked goes with a key that is worth money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityUrl(Url);

/// A text that is no such address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected https:// with a host (http:// on a loopback address), without a query: {0:?}")]
pub struct NotAnAuthorityUrl(pub String);

impl FromStr for AuthorityUrl {
    type Err = NotAnAuthorityUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || NotAnAuthorityUrl(text.to_owned());
        let url = Url::from_str(text).map_err(|_| refused())?;
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let on_this_machine = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        let secret = url.scheme() == "https" || (url.scheme() == "http" && on_this_machine);
        let plain = url.query().is_none() && url.fragment().is_none() && url.password().is_none();
        if secret && plain && !host.is_empty() { Ok(Self(url)) } else { Err(refused()) }
    }
}

/// Where the pinned keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinnedKeys {
    /// At an address that the operator chose. A token's own `jku` is never followed.
    Url(AuthorityUrl),
    /// In a file.
    File(PathBuf),
}

/// Why there is no second opinion.
#[derive(Debug, thiserror::Error)]
pub enum OpinionError {
    /// The service cannot be asked, or gives no usable answer.
    #[error("{what}: {detail}")]
    Unavailable {
        /// What was asked for.
        what: &'static str,
        /// What came instead.
        detail: String,
    },
    /// It answers with a token that is not believed.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Intel Trust Authority, as one customer asks it.
#[derive(Clone, Debug)]
pub struct TrustAuthority {
    client: Client,
    base: AuthorityUrl,
    key: HeaderValue,
    keys: PinnedKeys,
}

/// What the authority answers.
#[derive(Deserialize)]
struct Answer {
    token: String,
}

const KEYS: &str = "the pinned keys of Intel Trust Authority";
const TOKEN: &str = "Intel Trust Authority";

impl TrustAuthority {
    /// A client that gives each request `timeout`, from connecting to the last byte. `api_key` is what the customer was given.
    ///
    /// # Errors
    /// When the key cannot be sent, or the system's trusted certificates for HTTPS cannot be loaded.
    pub fn new(base: AuthorityUrl, api_key: &str, keys: PinnedKeys, timeout: Duration) -> Result<Self, OpinionError> {
        let unusable = |detail: String| OpinionError::Unavailable { what: TOKEN, detail };
        let mut key = HeaderValue::from_str(api_key.trim()).map_err(|error| unusable(error.to_string()))?;
        key.set_sensitive(true);
        let client = Client::builder().timeout(timeout).redirect(Redirects::none()).no_proxy().build();
        Ok(Self { client: client.map_err(|error| unusable(error.to_string()))?, base, key, keys })
    }

    /// Has the authority look at a quote, and believes what the pinned keys signed.
    ///
    /// # Errors
    /// When it gives no opinion, or one that is not believed.
    pub async fn opinion(&self, quote: &[u8], now: u64) -> Result<Opinion, OpinionError> {
        let keys = TokenKeys::from_json(&self.pinned_keys().await?);
        let keys = keys.map_err(|error| OpinionError::Unavailable { what: KEYS, detail: error.to_string() })?;
        let address = format!("{}/appraisal/v2/attest", self.base.0.as_str().trim_end_matches('/'));
        let question = serde_json::json!({ "quote": STANDARD.encode(quote), "token_signing_alg": "PS384" });
        let request = self.client.post(address).header("x-api-key", self.key.clone());
        let request = request.header("content-type", "application/json").body(question.to_string());
        // The token stands in JSON, without anything to escape.
        let answer = bounded(request, TOKEN, MAX_TOKEN_BYTES + 1024).await?;
        let read: Result<Answer, _> = serde_json::from_slice(&answer);
        let read = read.map_err(|error| OpinionError::Unavailable { what: TOKEN, detail: error.to_string() })?;
        Ok(keys.read(&read.token, now)?)
    }

    async fn pinned_keys(&self) -> Result<Vec<u8>, OpinionError> {
        let unreadable = |detail: String| OpinionError::Unavailable { what: KEYS, detail };
        match &self.keys {
            PinnedKeys::Url(url) => bounded(self.client.get(url.0.clone()), KEYS, MAX_JWKS_BYTES).await,
            PinnedKeys::File(path) => {
                let name = path.display();
                let broken = |error: std::io::Error| unreadable(format!("{name}: {error}"));
                let limit = u64::try_from(MAX_JWKS_BYTES).unwrap_or(u64::MAX).saturating_add(1);
                let (file, mut json) = (File::open(path).await.map_err(broken)?, Vec::new());
                file.take(limit).read_to_end(&mut json).await.map_err(broken)?;
                if json.len() > MAX_JWKS_BYTES {
                    return Err(unreadable(format!("{name} has more than {MAX_JWKS_BYTES} bytes")));
                }
                Ok(json)
            }
        }
    }
}

/// The body of a good answer, of which no more than `limit` bytes are read.
async fn bounded(request: RequestBuilder, what: &'static str, limit: usize) -> Result<Vec<u8>, OpinionError> {
    let unavailable = |detail: String| OpinionError::Unavailable { what, detail };
    let broken = |error: reqwest::Error| unavailable(crate::collateral::causes(&error));
    let mut response = request.header(ACCEPT, "application/json").send().await.map_err(broken)?;
    let status = response.status();
    if !status.is_success() {
        return Err(unavailable(format!("it answers with status {}", status.as_u16())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len().saturating_add(chunk.len()) > limit {
            return Err(unavailable(format!("its answer has more than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_sent_in_clear_beyond_this_machine() {
        for good in ["https://api.trustauthority.intel.com", "http://127.0.0.1:8080/base/", "http://[::1]:1"] {
            assert!(AuthorityUrl::from_str(good).is_ok(), "{good}");
        }
        for bad in
            ["http://api.trustauthority.intel.com", "http://localhost:1", "ftp://127.0.0.1", "https://a/?b", "a", ""]
        {
            assert_eq!(AuthorityUrl::from_str(bad), Err(NotAnAuthorityUrl(bad.to_owned())));
        }
    }
}
