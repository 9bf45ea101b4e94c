//! Whether collateral was issued under a root. What is checked here is checked again with every quote, by the verifier
//! itself; here it keeps a lying source from displacing good collateral.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use dcap_qvl::QuoteCollateralV3;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{ASN1Time, CertificateRevocationList, FromDer, SubjectPublicKeyInfo, X509Certificate};

use super::CollateralError;
use crate::TrustRoot;

pub(super) fn verify(set: &QuoteCollateralV3, root: &TrustRoot, now: u64) -> Result<(), CollateralError> {
    let (_, root) = X509Certificate::from_der(root.as_der()).map_err(|_| wrong("root", "it is not X.509"))?;
    let root_crl = crl("root CRL", &set.root_ca_crl)?;
    signed_list("root CRL", &root_crl, &root)?;
    let authorities = Authorities { root: &root, root_crl: &root_crl, now };

    for (part, chain, text, signature) in [
        ("TCB info", &set.tcb_info_issuer_chain, &set.tcb_info, &set.tcb_info_signature),
        ("QE identity", &set.qe_identity_issuer_chain, &set.qe_identity, &set.qe_identity_signature),
    ] {
        let der = first(part, chain)?;
        let signer = authorities.under_root(part, &der, false)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key(signer.public_key()))
            .verify(text.as_bytes(), signature)
            .map_err(|_| wrong(part, "its signature does not fit"))?;
    }

    let der = first("PCK CRL", &set.pck_crl_issuer_chain)?;
    let authority = authorities.under_root("PCK CRL", &der, true)?;
    signed_list("PCK CRL", &crl("PCK CRL", &set.pck_crl)?, &authority)
}

struct Authorities<'a> {
    root: &'a X509Certificate<'a>,
    root_crl: &'a CertificateRevocationList<'a>,
    now: u64,
}

impl Authorities<'_> {
    /// A certificate that the root itself signed, of an authority or of a signer of documents.
    fn under_root<'a>(
        &self,
        part: &'static str,
        der: &'a [u8],
        authority: bool,
    ) -> Result<X509Certificate<'a>, CollateralError> {
        let (rest, signer) = X509Certificate::from_der(der).map_err(|_| wrong(part, "its signer is not X.509"))?;
        let now = i64::try_from(self.now).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
        match () {
            () if !rest.is_empty() => Err(wrong(part, "bytes follow its signer")),
            () if signer.issuer().as_raw() != self.root.subject().as_raw() => {
                Err(wrong(part, "its signer is not one of the root's"))
            }
            () if !fits(self.root.public_key(), signer.tbs_certificate.as_ref(), &signer.signature_value.data) => {
                Err(wrong(part, "the root did not sign its signer"))
            }
            () if signer.is_ca() != authority => Err(wrong(part, "its signer is of the wrong kind")),
            () if !now.is_some_and(|now| signer.validity().is_valid_at(now)) => {
                Err(wrong(part, "its signer is out of date"))
            }
            () if self.root_crl.iter_revoked_certificates().any(|gone| gone.raw_serial() == signer.raw_serial()) => {
                Err(wrong(part, "its signer is revoked"))
            }
            () => Ok(signer),
        }
    }
}

fn signed_list(
    part: &'static str,
    list: &CertificateRevocationList<'_>,
    issuer: &X509Certificate<'_>,
) -> Result<(), CollateralError> {
    if list.issuer().as_raw() != issuer.subject().as_raw() {
        return Err(wrong(part, "it has another issuer"));
    }
    if fits(issuer.public_key(), list.tbs_cert_list.as_ref(), &list.signature_value.data) {
        Ok(())
    } else {
        Err(wrong(part, "its signature does not fit"))
    }
}

fn crl<'a>(part: &'static str, der: &'a [u8]) -> Result<CertificateRevocationList<'a>, CollateralError> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        Ok(_) => Err(wrong(part, "bytes follow it")),
        Err(_) => Err(wrong(part, "it is not a revocation list")),
    }
}

/// The first certificate of a chain; the last one is the root, of which we have our own.
fn first(part: &'static str, chain: &str) -> Result<CertificateDer<'static>, CollateralError> {
    let first = CertificateDer::pem_slice_iter(chain.as_bytes()).next();
    first.and_then(Result::ok).ok_or_else(|| wrong(part, "its chain holds no certificate"))
}

fn fits(key_info: &SubjectPublicKeyInfo<'_>, signed: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key(key_info)).verify(signed, signature).is_ok()
}

fn key<'a>(info: &'a SubjectPublicKeyInfo<'a>) -> &'a [u8] {
    &info.subject_public_key.data
}

fn wrong(part: &'static str, detail: &'static str) -> CollateralError {
    CollateralError::Unverified { part, detail }
}
