//! TLS 1.3 with evidence instead of certificate authorities.
//!
//! The handshake itself proves only that each side holds the key of the certificate it showed. The appraisal follows at
//! once, before the first application byte is read or written, away from the threads that move bytes. A server can then
//! tell a refused client why, in the protocol that the client speaks.
//!
//! Sessions are never resumed: a resumed handshake would skip both the proof and the appraisal.

mod acceptor;
mod connector;
mod verifier;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::CertificateDer;

pub use acceptor::{Accepted, Acceptor, Attested, ClientRule, TlsRefused};
pub use connector::{ConnectRefused, Connector};

/// The one set of algorithms: a hybrid post-quantum key exchange first, and X25519 for those who lack it.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

fn alpn_protocols(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

fn peer_certificates(connection: &rustls::CommonState) -> &[CertificateDer<'static>] {
    connection.peer_certificates().unwrap_or_default()
}

fn alpn_of(connection: &rustls::CommonState) -> Option<Vec<u8>> {
    connection.alpn_protocol().map(<[u8]>::to_vec)
}

fn was_resumed(connection: &rustls::CommonState) -> bool {
    // Anything but a full handshake, or one with a retry of the key share, has skipped the verifier.
    !matches!(
        connection.handshake_kind(),
        Some(rustls::HandshakeKind::Full | rustls::HandshakeKind::FullWithHelloRetryRequest)
    )
}

fn shared_provider() -> Arc<CryptoProvider> {
    Arc::new(provider())
}
