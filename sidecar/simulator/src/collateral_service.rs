//! The service from which verifiers fetch collateral: Intel's "PCK Certificate and Attestation Collateral" API, version 4, as
//! a PCCS offers it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use dcap_qvl::QuoteCollateralV3;
use tokio::net::TcpListener;

use crate::Tee;
use crate::pki::FMSPC;

/// One document of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The header with the chain of whoever issued it, and that chain, percent-encoded. The root's list has none.
    pub issuer_chain: Option<(&'static str, String)>,
    /// What was issued.
    pub body: Vec<u8>,
}

/// A platform, and what tells the time.
type Issuer = (Arc<Tee>, fn() -> u64);

/// What the API answers to a request for `target`; `None` when there is no such document.
#[must_use]
pub fn document(target: &str, set: &QuoteCollateralV3) -> Option<Document> {
    let tcb_info = format!("/tdx/certification/v4/tcb?fmspc={}", hex::encode_upper(FMSPC));
    let (issuer_chain, body) = match target {
        _ if target == tcb_info => (
            Some(("tcb-info-issuer-chain", &set.tcb_info_issuer_chain)),
            signed("tcbInfo", &set.tcb_info, &set.tcb_info_signature),
        ),
        "/tdx/certification/v4/qe/identity" => (
            Some(("sgx-enclave-identity-issuer-chain", &set.qe_identity_issuer_chain)),
            signed("enclaveIdentity", &set.qe_identity, &set.qe_identity_signature),
        ),
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der" => {
            (Some(("sgx-pck-crl-issuer-chain", &set.pck_crl_issuer_chain)), set.pck_crl.clone())
        }
        // A PCCS writes it in hexadecimal.
        "/sgx/certification/v4/rootcacrl" => (None, hex::encode(&set.root_ca_crl).into_bytes()),
        _ => return None,
    };
    Some(Document { issuer_chain: issuer_chain.map(|(name, pem)| (name, percent_encoded(pem))), body })
}

/// Serves the collateral of a platform, issued anew at each request, until `shutdown` resolves. `now` tells the time in
/// seconds since 1970.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    tee: Arc<Tee>,
    now: fn() -> u64,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new().fallback(answer).with_state((tee, now));
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

async fn answer(State((tee, now)): State<Issuer>, uri: Uri) -> Result<(HeaderMap, Vec<u8>), StatusCode> {
    let set = tee.collateral(now()).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let Document { issuer_chain, body } = document(target, &set).ok_or(StatusCode::NOT_FOUND)?;
    let mut headers = HeaderMap::new();
    if let Some((name, chain)) = issuer_chain {
        let chain = HeaderValue::try_from(chain).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        headers.insert(HeaderName::from_static(name), chain);
    }
    Ok((headers, body))
}

fn signed(name: &str, text: &str, signature: &[u8]) -> Vec<u8> {
    format!(r#"{{"{name}":{text},"signature":"{}"}}"#, hex::encode(signature)).into_bytes()
}

/// Everything but letters and digits, which is more than is needed.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
        encoded
    })
}
