//! Real ClientHellos, and ways to cut and break them.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{EchConfig, EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
use rustls::crypto::hpke::Hpke as _;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, EchConfigListBytes, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

/// The post-quantum share first, as current clients do.
const GROUPS: [&dyn SupportedKxGroup; 2] = [aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519];

/// What a client does about encrypted ClientHellos (RFC 9849).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hides {
    /// It has never heard of them.
    Nothing,
    /// It sends an extension of random bytes, so that those who hide something do not stand out.
    NothingButPretends,
    /// It hides its name, and shows [`PUBLIC_NAME`] instead.
    ItsName,
}

/// The name that everybody shows who hides its own.
pub(crate) const PUBLIC_NAME: &str = "public.postern.test";

/// A client that has not sent anything yet.
pub(crate) fn client(name: &'static str) -> ClientConnection {
    client_with(name, &[], &GROUPS, Hides::Nothing)
}

fn client_with(
    name: &'static str,
    alpn: &[&str],
    groups: &[&'static dyn SupportedKxGroup],
    hides: Hides,
) -> ClientConnection {
    let provider = CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() };
    let builder = ClientConfig::builder_with_provider(provider.into());
    let builder = match hides {
        Hides::Nothing => builder.with_protocol_versions(&[&rustls::version::TLS13]),
        Hides::NothingButPretends => builder.with_ech(EchMode::Grease(pretended())),
        Hides::ItsName => builder.with_ech(EchMode::Enable(hidden())),
    };
    let mut config =
        builder.unwrap().dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    ClientConnection::new(config.into(), ServerName::try_from(name).unwrap()).unwrap()
}

fn pretended() -> EchGreaseConfig {
    let (public, _) = DH_KEM_X25519_HKDF_SHA256_AES_128.generate_key_pair().unwrap();
    EchGreaseConfig::new(DH_KEM_X25519_HKDF_SHA256_AES_128, public)
}

/// What a server publishes so that clients can hide their names from everybody else (RFC 9849 section 4).
fn hidden() -> EchConfig {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let (public, _) = DH_KEM_X25519_HKDF_SHA256_AES_128.generate_key_pair().unwrap();
    let (config_id, kem, suite, longest_name, no_extensions) = ([7], [0, 0x20], [0, 1, 0, 1], [64], [0, 0]);
    let name = [&[u8::try_from(PUBLIC_NAME.len()).unwrap()][..], PUBLIC_NAME.as_bytes()].concat();
    let contents =
        [&config_id[..], &kem, &sized(&public.0), &sized(&suite), &longest_name, &name, &no_extensions].concat();
    let list = sized(&[&[0xfe, 0x0d][..], &sized(&contents)].concat());
    EchConfig::new(EchConfigListBytes::from(list), &[DH_KEM_X25519_HKDF_SHA256_AES_128]).unwrap()
}

/// The ClientHello of a client, in one record.
pub(crate) fn hello(name: &'static str) -> Vec<u8> {
    written(client(name))
}

/// The same of a client that hides something, or pretends to.
pub(crate) fn hello_that_hides(name: &'static str, hides: Hides) -> Vec<u8> {
    written(client_with(name, &["postgresql"], &GROUPS, hides))
}

fn written(mut client: ClientConnection) -> Vec<u8> {
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    wire
}

/// ClientHellos of rustls, with and without the post-quantum share, ALPN and a hidden name.
pub(crate) fn hellos() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec![
        "0123456789abcdef0123456789abcdef01234567s.postern.test",
        "a.test",
        "0123456789abcdef0123456789abcdef01234567-5432s.eu-west-1.postern.example.org",
    ]);
    let protocols: [&[&str]; 3] = [&[], &["postgresql"], &["h2", "http/1.1"]];
    let hides = prop::sample::select(vec![Hides::Nothing, Hides::NothingButPretends, Hides::ItsName]);
    (names, prop::sample::select(protocols.to_vec()), any::<bool>(), hides).prop_map(
        |(name, alpn, post_quantum, hides)| {
            written(client_with(name, alpn, if post_quantum { &GROUPS } else { &GROUPS[1..] }, hides))
        },
    )
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

/// Values that mean nothing and that every server has to bear (RFC 8701), where browsers put them: as a cipher suite they are
/// in no hello made by hand, as groups, versions, key shares and extensions they are.
pub(crate) fn grease() -> Vec<(u16, Vec<u8>)> {
    vec![
        (0x1a1a, vec![]),
        (10, vec![0, 4, 0x2a, 0x2a, 0, 29]),
        (43, vec![4, 0x3a, 0x3a, 3, 4]),
        (51, [&[0, 41, 0x2a, 0x2a, 0, 1, 0, 0, 29, 0, 32][..], &[5; 32]].concat()),
        (16, vec![0, 6, 2, 0x4a, 0x4a, 2, b'h', b'2']),
        (0x5a5a, vec![0]),
    ]
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
