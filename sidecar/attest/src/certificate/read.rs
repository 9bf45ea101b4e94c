use postern_identity::AppId;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::{AppInfo, Attestation, CertificateError, Evidence, MAX_CERTIFICATE_BYTES, Shown, Usage, der};
use crate::event_log::EventLog;
use crate::oid;

/// Reads the evidence that a certificate carries: `.8`, or `.1` with `.2`, or both where they agree.
///
/// # Errors
/// When the certificate is too large or malformed, carries no quote, or carries evidence that is ambiguous in any way:
/// an extension twice, trailing bytes, or two forms that differ.
pub fn evidence(cert_der: &[u8]) -> Result<Evidence, CertificateError> {
    evidence_of_chain(cert_der, &[])
}

/// The same for a certificate that was shown together with those above it, its issuer's first.
///
/// # Errors
/// As [`evidence`]. Nothing is read out of the certificates above.
pub fn evidence_of_chain(cert_der: &[u8], above: &[CertificateDer<'_>]) -> Result<Evidence, CertificateError> {
    let certificate = read(cert_der)?;
    let (quote, event_log) = match (legacy_form(&certificate)?, versioned_form(&certificate)?) {
        (None, None) => return Err(CertificateError::NoQuote),
        (Some(only), None) | (None, Some(only)) => only,
        (Some(legacy), Some(versioned)) => agreeing(legacy, &versioned)?,
    };
    Ok(Evidence {
        quote,
        event_log,
        claimed_app_id: claimed_app_id(&certificate)?,
        claimed_app_info: wrapped(&certificate, oid::APP_INFO, ".9")?.map(AppInfo::decode).transpose()?,
        usage: wrapped(&certificate, oid::USAGE, ".4")?.map(Usage::decode).transpose()?,
        spki: certificate.tbs_certificate.subject_pki.raw.to_vec(),
        not_before: seconds(certificate.validity.not_before)?,
        not_after: seconds(certificate.validity.not_after)?,
        fingerprint: Sha256::digest(cert_der).into(),
        shown: Some(Shown {
            leaf: CertificateDer::from(cert_der.to_vec()),
            above: above.iter().map(|certificate| certificate.clone().into_owned()).collect(),
        }),
    })
}

/// What an authority's certificate says it is for, and the application that it is limited to.
pub(crate) fn marks(cert_der: &[u8]) -> Result<(Option<Usage>, Option<AppId>), CertificateError> {
    let certificate = read(cert_der)?;
    let usage = wrapped(&certificate, oid::USAGE, ".4")?.map(Usage::decode).transpose()?;
    Ok((usage, claimed_app_id(&certificate)?))
}

fn read(cert_der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    if cert_der.len() > MAX_CERTIFICATE_BYTES {
        return Err(CertificateError::TooLarge { found: cert_der.len() });
    }
    let (rest, certificate) =
        X509Certificate::from_der(cert_der).map_err(|error| CertificateError::NotX509(error.to_string()))?;
    match rest.len() {
        0 => Ok(certificate),
        bytes => Err(CertificateError::TrailingBytes { what: "the certificate", bytes }),
    }
}

type Form = (Vec<u8>, EventLog);

fn legacy_form(certificate: &X509Certificate<'_>) -> Result<Option<Form>, CertificateError> {
    let Some(quote) = value(certificate, oid::QUOTE, ".1")? else { return Ok(None) };
    let log = value(certificate, oid::EVENT_LOG, ".2")?.ok_or(CertificateError::NoEventLog)?;
    let quote = der::content(quote, ".1")?.to_vec();
    Ok(Some((quote, EventLog::from_extension(der::content(log, ".2")?)?)))
}

fn versioned_form(certificate: &X509Certificate<'_>) -> Result<Option<Form>, CertificateError> {
    let Some(content) = wrapped(certificate, oid::ATTESTATION, ".8")? else { return Ok(None) };
    let attestation = Attestation::decode(content)?;
    Ok(Some((attestation.quote, attestation.event_log)))
}

/// Only RTMR3 is compared: an issuer may strip boot events from one form and not from the other.
fn agreeing(legacy: Form, versioned: &Form) -> Result<Form, CertificateError> {
    if legacy.0 != versioned.0 {
        return Err(CertificateError::Contradiction("quote"));
    }
    let events = |log: &EventLog| -> Vec<(String, Vec<u8>)> {
        log.runtime_events().map(|(_, event)| (event.event.clone(), event.event_payload.clone())).collect()
    };
    if events(&legacy.1) != events(&versioned.1) {
        return Err(CertificateError::Contradiction("event log"));
    }
    Ok(legacy)
}

fn claimed_app_id(certificate: &X509Certificate<'_>) -> Result<Option<AppId>, CertificateError> {
    let Some(value) = value(certificate, oid::APP_ID, ".3")? else { return Ok(None) };
    // A raw id may start like an OCTET STRING, but only a raw one has exactly its length.
    let content = if value.len() == AppId::LEN { value } else { der::content(value, ".3")? };
    AppId::try_from(content)
        .map(Some)
        .map_err(|error| CertificateError::Malformed { extension: ".3", detail: error.to_string() })
}

/// The content of an extension, out of its OCTET STRING.
fn wrapped<'a>(
    certificate: &'a X509Certificate<'_>,
    oid: &[u64],
    name: &'static str,
) -> Result<Option<&'a [u8]>, CertificateError> {
    value(certificate, oid, name)?.map(|value| der::content(value, name)).transpose()
}

fn value<'a>(
    certificate: &'a X509Certificate<'_>,
    oid: &[u64],
    name: &'static str,
) -> Result<Option<&'a [u8]>, CertificateError> {
    let mut found = certificate
        .extensions()
        .iter()
        .filter(|extension| extension.oid.iter().is_some_and(|arcs| arcs.eq(oid.iter().copied())));
    let first = found.next().map(|extension| extension.value);
    if found.next().is_some() { Err(CertificateError::Duplicate(name)) } else { Ok(first) }
}

fn seconds(time: ASN1Time) -> Result<u64, CertificateError> {
    u64::try_from(time.timestamp()).map_err(|_| CertificateError::Dates)
}
