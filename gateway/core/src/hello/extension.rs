//! The shapes of the ClientHello extensions that a TLS 1.3 server parses.
//!
//! A gateway that is laxer than the server behind it would route by a name which the server never sees. Every extension
//! known to the server is therefore checked in full; unknown ones pass, whatever they hold.

use super::reader::{Reader, Short};

/// `server_name` (RFC 6066 section 3).
pub(super) const SERVER_NAME: u16 = 0;
/// `signature_algorithms` (RFC 8446 section 4.2.3).
pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
/// `application_layer_protocol_negotiation` (RFC 7301).
pub(super) const ALPN: u16 = 16;
/// `pre_shared_key` (RFC 8446 section 4.2.11).
pub(super) const PRE_SHARED_KEY: u16 = 41;
/// `encrypted_client_hello` (RFC 9849).
pub(super) const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// Succeeds when the body of an extension has the form its type prescribes.
pub(super) fn check(kind: u16, body: &[u8]) -> Result<(), Short> {
    let mut body = Reader::new(body);
    match kind {
        5 => status_request(&mut body)?,
        10 | SIGNATURE_ALGORITHMS => body.filled16()?.each(|list| list.u16().map(drop))?,
        11 | 19 | 20 | 45 => drop(body.filled8()?),
        ALPN => body.filled16()?.each(|list| list.filled8().map(drop))?,
        23 | 42 => {}
        27 | 43 | 0xfd00 => body.filled8()?.each(|list| list.u16().map(drop))?,
        PRE_SHARED_KEY => pre_shared_key(&mut body)?,
        44 => drop(body.filled16()?),
        47 => body.filled16()?.each(|list| list.filled16().map(drop))?,
        51 => body.vec16()?.each(|list| list.u16().and_then(|_group| list.filled16()).map(drop))?,
        58 => drop(body.take(2)?),
        0xff01 => drop(body.vec8()?),
        ENCRYPTED_CLIENT_HELLO => encrypted_client_hello(&mut body)?,
        _ => drop(body.rest()),
    }
    body.end()
}

/// `CertificateStatusRequest` (RFC 6066 section 8).
fn status_request(body: &mut Reader<'_>) -> Result<(), Short> {
    const OCSP: u8 = 1;
    if body.u8()? == OCSP {
        body.vec16()?.each(|responders| responders.vec16().map(drop))?;
        body.vec16()?;
    } else {
        body.rest();
    }
    Ok(())
}

/// `OfferedPsks` (RFC 8446 section 4.2.11).
fn pre_shared_key(body: &mut Reader<'_>) -> Result<(), Short> {
    body.filled16()?.each(|identities| identities.filled16().and_then(|_identity| identities.take(4)).map(drop))?;
    body.filled16()?.each(|binders| binders.filled8().map(drop))
}

/// `ECHClientHello` (RFC 9849 section 5): only its form; its content is for the server that holds the key.
fn encrypted_client_hello(body: &mut Reader<'_>) -> Result<(), Short> {
    const OUTER: u8 = 0;
    const INNER: u8 = 1;
    match body.u8()? {
        OUTER => {
            let _suite_and_config = body.take(5)?;
            body.vec16()?;
            body.filled16().map(drop)
        }
        INNER => Ok(()),
        _ => Err(Short),
    }
}
