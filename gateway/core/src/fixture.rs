//! Real ClientHellos, and ways to cut and break them.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

/// The post-quantum share first, as current clients do.
const GROUPS: [&dyn SupportedKxGroup; 2] = [aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519];

/// A client that has not sent anything yet.
pub(crate) fn client(name: &'static str) -> ClientConnection {
    client_with(name, &[], &GROUPS)
}

fn client_with(name: &'static str, alpn: &[&str], groups: &[&'static dyn SupportedKxGroup]) -> ClientConnection {
    let provider = CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() };
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    ClientConnection::new(config.into(), ServerName::try_from(name).unwrap()).unwrap()
}

/// The ClientHello of a client, in one record.
pub(crate) fn hello(name: &'static str) -> Vec<u8> {
    written(client(name))
}

fn written(mut client: ClientConnection) -> Vec<u8> {
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    wire
}

/// ClientHellos of rustls, with and without the post-quantum share and ALPN.
pub(crate) fn hellos() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec![
        "0123456789abcdef0123456789abcdef01234567s.postern.test",
        "a.test",
        "0123456789abcdef0123456789abcdef01234567-5432s.eu-west-1.postern.example.org",
    ]);
    let protocols: [&[&str]; 3] = [&[], &["postgresql"], &["h2", "http/1.1"]];
    (names, prop::sample::select(protocols.to_vec()), any::<bool>()).prop_map(|(name, alpn, post_quantum)| {
        written(client_with(name, alpn, if post_quantum { &GROUPS } else { &GROUPS[1..] }))
    })
}

/// The handshake message inside one record.
pub(crate) fn message(record: &[u8]) -> Vec<u8> {
    record[5..].to_vec()
}

/// A handshake message in records of at most `size` bytes each.
pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(record).collect()
}

fn record(fragment: &[u8]) -> Vec<u8> {
    let mut wire = vec![22, 3, 1];
    wire.extend(u16::try_from(fragment.len()).unwrap().to_be_bytes());
    wire.extend(fragment);
    wire
}

/// A ClientHello made by hand, of nothing but these extensions.
pub(crate) fn handmade(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, body) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        list.extend(body);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
    body.extend(list);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let mut message = vec![1, length[1], length[2], length[3]];
    message.extend(body);
    records(&message, 1 << 14)
}

/// The body of a `server_name` extension with these entries.
pub(crate) fn server_names(entries: &[(u8, &[u8])]) -> (u16, Vec<u8>) {
    let mut list = Vec::new();
    for (kind, name) in entries {
        list.push(*kind);
        list.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
        list.extend(*name);
    }
    let mut body = u16::try_from(list.len()).unwrap().to_be_bytes().to_vec();
    body.extend(list);
    (0, body)
}

/// A `signature_algorithms` extension that every server understands.
pub(crate) fn signature_algorithms() -> (u16, Vec<u8>) {
    (13, vec![0, 2, 4, 3])
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
