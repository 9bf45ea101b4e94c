use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use postern_attest::event_log::{EventLog, MAX_JSON_BYTES};
use postern_attest::{Collateral, CollateralError, CollateralSet, KmsRoot, MAX_BUNDLE_BYTES, TrustRoot};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::not_accepted::NotAccepted;

/// A chain of the largest certificates that are read at all, as PEM.
const MAX_CERTIFICATE_FILE: usize = 256 * 1024;
/// A quote has some 5 KB, of which most is the platform's certificates.
const MAX_QUOTE_FILE: usize = 128 * 1024;
/// A quote, its event log and some 2 KB.
const MAX_ATTESTATION_FILE: usize = 512 * 1024;
const MAX_ROOT_FILE: usize = 64 * 1024;
const MAX_KEY_FILE: usize = 4 * 1024;

pub(crate) fn root(path: Option<&Path>) -> Result<TrustRoot, NotAccepted> {
    let Some(path) = path else { return Ok(TrustRoot::intel()) };
    let bytes = read(path, MAX_ROOT_FILE)?;
    let root = if is_pem(&bytes) { TrustRoot::from_pem(&bytes) } else { TrustRoot::from_der(bytes) };
    root.map_err(|error| NotAccepted::unknown("root", format!("{}: {error}", path.display())))
}

pub(super) fn kms_root(path: &Path) -> Result<KmsRoot, NotAccepted> {
    let bytes = read(path, MAX_ROOT_FILE)?;
    let root = if is_pem(&bytes) { KmsRoot::from_pem(&bytes) } else { KmsRoot::from_der(bytes) };
    root.map_err(|error| NotAccepted::unknown("kms_root", format!("{}: {error}", path.display())))
}

/// A secret of one line.
pub(super) fn api_key(path: &Path) -> Result<Zeroizing<String>, NotAccepted> {
    let bytes = Zeroizing::new(read(path, MAX_KEY_FILE)?);
    match std::str::from_utf8(&bytes) {
        Ok(text) if !text.trim().is_empty() => Ok(Zeroizing::new(text.trim().to_owned())),
        _ => Err(NotAccepted::unknown("file", format!("{} holds no API key", path.display()))),
    }
}

pub(super) fn collateral(path: &Path) -> Result<Collateral, NotAccepted> {
    let bytes = read(path, MAX_BUNDLE_BYTES)?;
    let read = Collateral::from_json(&bytes).or_else(|error| single(&bytes).unwrap_or(Err(error)));
    read.map_err(|error| NotAccepted::unknown("collateral", format!("the collateral in {}: {error}", path.display())))
}

/// The collateral of one kind of platform; `None` when that is not what the text holds.
fn single(json: &[u8]) -> Option<Result<Collateral, CollateralError>> {
    let set: CollateralSet = serde_json::from_slice(json).ok()?;
    let mut collateral = Collateral::default();
    Some(collateral.insert(set).map(|_| collateral))
}

/// The certificate, and those above it if the file holds them too.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, NotAccepted> {
    let bytes = read(path, MAX_CERTIFICATE_FILE)?;
    if !is_pem(&bytes) {
        return Ok(vec![bytes.into()]);
    }
    let text = |why: &str| format!("{} holds no certificate in PEM: {why}", path.display());
    let none = |why: &str| NotAccepted::refused("certificate_not_x509", text(why));
    let chain = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| none(&error.to_string()))?;
    if chain.is_empty() { Err(none("there is none")) } else { Ok(chain) }
}

/// The raw quote, whether the file holds it so or as hex.
pub(crate) fn quote(path: &Path) -> Result<Vec<u8>, NotAccepted> {
    let bytes = read(path, MAX_QUOTE_FILE)?;
    let text = bytes.trim_ascii();
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    Ok(hex::decode(digits).unwrap_or(bytes))
}

pub(super) fn event_log(path: &Path) -> Result<EventLog, NotAccepted> {
    Ok(EventLog::from_json(&read(path, MAX_JSON_BYTES)?)?)
}

pub(super) fn attestation(path: &Path) -> Result<Vec<u8>, NotAccepted> {
    read(path, MAX_ATTESTATION_FILE)
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"-----")
}

/// Reads a file that may be a pipe or a device, and of which no more than `limit` bytes are wanted.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, NotAccepted> {
    let unreadable =
        |error: io::Error| NotAccepted::unknown("file", format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    let beyond = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(beyond).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() > limit {
        let text = format!("{} has more than {limit} bytes", path.display());
        return Err(NotAccepted::unknown("file_too_large", text));
    }
    Ok(bytes)
}
