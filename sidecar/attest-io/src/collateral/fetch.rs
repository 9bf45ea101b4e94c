use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use postern_attest::{Collateral, CollateralSet, Fmspc, TrustRoot};
use postern_plumbing::backoff::Backoff;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy as Redirects;
use reqwest::{Client, Url};

use super::answers::Answer;
use super::failure::{FetchError, SourceFailure};

/// Intel's own service.
pub const INTEL: &str = "https://api.trustedservices.intel.com";
/// Where Intel publishes its root's revocation list; the service itself does not give it.
const INTEL_ROOT_CRL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";

/// TCB info of a platform with many levels has some 30 KB, and a revocation list grows with the machines that are revoked.
const MAX_DOCUMENT: usize = 1024 * 1024;
const MAX_CHAIN: usize = 32 * 1024;

/// The services that are asked for collateral, in the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(Vec<Url>);

/// A text that names no service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected http:// or https:// with a host, and without a query: {0:?}")]
pub struct NotASource(pub String);

impl Sources {
    /// The services at these addresses, without the path that the API defines (`/tdx/certification/v4/…`).
    ///
    /// Plain HTTP is as good as HTTPS for what is fetched, since all of it is signed; it only tells the network which
    /// platforms are looked at.
    ///
    /// # Errors
    /// When a text is not such an address.
    pub fn new<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Result<Self, NotASource> {
        addresses.into_iter().map(source).collect::<Result<_, _>>().map(Self)
    }
}

fn source(text: &str) -> Result<Url, NotASource> {
    let url = Url::from_str(text.trim_end_matches('/')).map_err(|_| NotASource(text.to_owned()))?;
    let usable = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.password().is_none();
    if usable { Ok(url) } else { Err(NotASource(text.to_owned())) }
}

/// Fetches collateral.
#[derive(Clone)]
pub struct Fetcher {
    client: Client,
    sources: Sources,
    /// How often each source is asked before it is given up.
    attempts: u32,
    /// The first and the longest pause between attempts.
    pauses: (Duration, Duration),
}

impl Fetcher {
    /// A fetcher that gives each request `timeout`, from connecting to the last byte.
    ///
    /// # Errors
    /// When the system's trusted certificates for HTTPS cannot be loaded.
    pub fn new(sources: Sources, timeout: Duration) -> Result<Self, reqwest::Error> {
        // A redirect could lead into the network that we stand in, and none of the services sends one.
        let client = Client::builder().timeout(timeout).redirect(Redirects::none()).no_proxy().build()?;
        Ok(Self { client, sources, attempts: 3, pauses: (Duration::from_millis(500), Duration::from_secs(10)) })
    }

    /// The same fetcher with other attempts, three by default, and other pauses between them: from the first to the longest,
    /// half a second and ten seconds by default.
    #[must_use]
    pub fn with_attempts(self, attempts: u32, first_pause: Duration, longest_pause: Duration) -> Self {
        Self { attempts, pauses: (first_pause, longest_pause), ..self }
    }

    /// Fetches the collateral of one kind of platform from the first source that gives any which verifies under `root`, is in
    /// force at `now`, and which `accept` has nothing against.
    ///
    /// # Errors
    /// When no source does.
    pub async fn fetch(
        &self,
        fmspc: Fmspc,
        root: &TrustRoot,
        now: u64,
        accept: impl Fn(&Collateral) -> Result<(), SourceFailure>,
    ) -> Result<Collateral, FetchError> {
        let mut backoff = Backoff::new(self.pauses.0, self.pauses.1);
        for attempt in 1.. {
            let mut failures = Vec::new();
            for source in &self.sources.0 {
                let fetched = self.fetch_from(source, fmspc).await.and_then(|collateral| {
                    collateral.verify(root, now)?;
                    accept(&collateral)?;
                    Ok(collateral)
                });
                let outcome = fetched.as_ref().map_or_else(SourceFailure::label, |_| "fetched");
                metrics::counter!("collateral_fetches_total", "outcome" => outcome).increment(1);
                match fetched {
                    Ok(collateral) => return Ok(collateral),
                    Err(failure) => failures.push((source.to_string(), failure)),
                }
            }
            let hopeless = !failures.iter().any(|(_, failure)| failure.may_pass());
            if hopeless || attempt >= self.attempts {
                return Err(FetchError::AllFailed { fmspc, failures });
            }
            backoff.wait().await;
        }
        Err(FetchError::AllFailed { fmspc, failures: Vec::new() })
    }

    /// Every TDX server's certificates come from the platform authority; the processor authority issues for machines with
    /// one package of earlier kinds.
    async fn fetch_from(&self, source: &Url, fmspc: Fmspc) -> Result<Collateral, SourceFailure> {
        let base = source.as_str().trim_end_matches('/');
        let tcb_chains = ["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"];
        let (tcb_info, qe_identity, pck_crl, root_crl) = tokio::try_join!(
            self.get("TCB info", format!("{base}/tdx/certification/v4/tcb?fmspc={fmspc}"), &tcb_chains),
            self.get(
                "QE identity",
                format!("{base}/tdx/certification/v4/qe/identity"),
                &["SGX-Enclave-Identity-Issuer-Chain"],
            ),
            self.get(
                "PCK CRL",
                format!("{base}/sgx/certification/v4/pckcrl?ca=platform&encoding=der"),
                &["SGX-PCK-CRL-Issuer-Chain"],
            ),
            self.get("root CRL", root_crl_address(base), &[]),
        )?;
        let (tcb, qe) = (tcb_info.tcb_info()?, qe_identity.qe_identity()?);
        let set = CollateralSet {
            pck_crl_issuer_chain: pck_crl.issuer_chain()?,
            root_ca_crl: root_crl.crl()?,
            pck_crl: pck_crl.crl()?,
            tcb_info_issuer_chain: tcb_info.issuer_chain()?,
            tcb_info: tcb.text,
            tcb_info_signature: tcb.signature,
            qe_identity_issuer_chain: qe_identity.issuer_chain()?,
            qe_identity: qe.text,
            qe_identity_signature: qe.signature,
            pck_certificate_chain: None,
        };
        let mut collateral = Collateral::default();
        match collateral.insert(set)? {
            given if given == fmspc => Ok(collateral),
            other => Err(SourceFailure::OtherPlatform(other)),
        }
    }

    async fn get(&self, what: &'static str, url: String, chains: &[&str]) -> Result<Answer, SourceFailure> {
        let broken = |error: reqwest::Error| SourceFailure::Transport(format!("{what}: {}", causes(&error)));
        let mut response = self.client.get(url).send().await.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            return Err(SourceFailure::Status { what, status: status.as_u16() });
        }
        let chain = chain(what, response.headers(), chains)?;
        let too_large = SourceFailure::TooLarge { what, limit: MAX_DOCUMENT };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len().saturating_add(chunk.len()) > MAX_DOCUMENT {
                return Err(too_large);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { what, chain, body })
    }
}

/// A PCCS gives the root's list, and Intel's own service leaves it to another host.
fn root_crl_address(base: &str) -> String {
    if base == INTEL { INTEL_ROOT_CRL.to_owned() } else { format!("{base}/sgx/certification/v4/rootcacrl") }
}

fn chain(what: &'static str, headers: &HeaderMap, names: &[&str]) -> Result<Option<String>, SourceFailure> {
    let Some(value) = names.iter().find_map(|name| headers.get(*name)) else { return Ok(None) };
    if value.len() > MAX_CHAIN {
        return Err(SourceFailure::TooLarge { what, limit: MAX_CHAIN });
    }
    let text = value.to_str().map_err(|error| SourceFailure::Malformed { what, detail: error.to_string() })?;
    Ok(Some(text.to_owned()))
}

/// An error with everything that led to it, without the address, which stands elsewhere.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no complete answer in time".to_owned() } else { error.to_string() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("sources", &self.sources).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_with_and_without_a_slash() {
        let sources = Sources::new([INTEL, "http://pccs.internal:8081/base/"]).unwrap();
        assert_eq!(sources.0[0].as_str().trim_end_matches('/'), INTEL);
        assert_eq!(sources.0[1].as_str(), "http://pccs.internal:8081/base");
        assert_eq!(root_crl_address(INTEL), INTEL_ROOT_CRL);
        assert_eq!(root_crl_address("http://pccs"), "http://pccs/sgx/certification/v4/rootcacrl");
    }

    #[test]
    fn what_is_no_address_of_a_service_is_refused() {
        for text in ["", "pccs", "ftp://pccs", "https://pccs/?fmspc=1", "https://pccs/#x", "https://u:p@pccs/"] {
            assert_eq!(Sources::new([text]), Err(NotASource(text.to_owned())));
        }
    }
}
