//! The cheap part of looking at a quote: reading it, and refusing TDs that no signature can redeem.

use dcap_qvl::INTEL_QE_VENDOR_ID;
use dcap_qvl::quote::{AuthData, Quote, Report, TDAttributes, TDReport10};
use parity_scale_codec::{Decode, Encode};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::collateral::Fmspc;
use crate::provider::AwsLcConfig;
use crate::rejection::Rejection;

/// Guests return quotes in a buffer of fixed size and leave up to this many zero bytes behind them (70, as seen).
const MAX_PADDING: usize = 128;

/// ECDSA on P-256, the one kind of attestation key.
const P256: u16 = 2;
/// The certification data of a TD quote: the quoting enclave's report, and in it the platform's certificates as PEM.
const QE_REPORT: u16 = 6;
const PCK_CHAIN: u16 = 5;
/// How many certificates of the platform stand below the root.
const PCK_AND_AUTHORITY: usize = 2;

/// The kind of platform that a quote says it comes from. Nothing of the quote is verified for that.
///
/// # Errors
/// When it cannot be read, or is the quote of a TD that no signature can redeem.
pub fn platform_of(quote: &[u8]) -> Result<Fmspc, Rejection> {
    ReadQuote::read(quote)?.fmspc()
}

/// A quote that reads well. Nothing about it is verified yet.
pub(crate) struct ReadQuote(Quote);

impl ReadQuote {
    pub(crate) fn read(raw: &[u8]) -> Result<Self, Rejection> {
        let malformed = |detail: &str| Rejection::MalformedQuote(detail.to_owned());
        let mut rest = raw;
        let quote = Quote::decode(&mut rest).map_err(|error| Rejection::MalformedQuote(error.to_string()))?;
        if rest.len() > MAX_PADDING || rest.iter().any(|byte| *byte != 0) {
            return Err(malformed("other bytes than zero padding follow it"));
        }
        // Lengths within lengths leave room for bytes that no field owns.
        if raw.get(..raw.len() - rest.len()) != Some(quote.encode().as_slice()) {
            return Err(malformed("it has bytes that belong to no field"));
        }
        if quote.report.as_td10().is_none() {
            return Err(Rejection::NotTdx);
        }
        let read = Self(quote);
        read.check_kinds()?;
        read.check_attributes()?;
        Ok(read)
    }

    pub(crate) fn td(&self) -> Result<&TDReport10, Rejection> {
        self.0.report.as_td10().ok_or(Rejection::NotTdx)
    }

    /// The kind of platform, as the quote's own certificate names it. Verification compares it with the collateral's.
    pub(crate) fn fmspc(&self) -> Result<Fmspc, Rejection> {
        dcap_qvl::intel::quote_fmspc_with::<AwsLcConfig>(&self.0)
            .map(Fmspc)
            .map_err(|error| Rejection::MalformedQuote(error.to_string()))
    }

    /// Whether whatever the quote carries above the platform's authority is this root. Verification starts from the trusted
    /// root and would not look at it.
    pub(crate) fn ends_in(&self, root: &[u8]) -> bool {
        let AuthData::V4(data) = &self.0.auth_data else { return false };
        let chain = data.qe_report_data.certification_data.body.data.as_slice();
        let mut above = CertificateDer::pem_slice_iter(chain).skip(PCK_AND_AUTHORITY);
        above.all(|certificate| certificate.is_ok_and(|certificate| certificate.as_ref() == root))
    }

    /// The numbers that say what the rest is. No signature covers all of them.
    fn check_kinds(&self) -> Result<(), Rejection> {
        let AuthData::V4(data) = &self.0.auth_data else { return Err(Rejection::NotTdx) };
        match () {
            () if self.0.header.attestation_key_type != P256 => Err(Rejection::QuoteKind("attestation key")),
            () if self.0.header.qe_vendor_id != INTEL_QE_VENDOR_ID => Err(Rejection::QuoteKind("quoting enclave")),
            () if data.certification_data.cert_type != QE_REPORT => Err(Rejection::QuoteKind("certification data")),
            () if data.qe_report_data.certification_data.cert_type != PCK_CHAIN => {
                Err(Rejection::QuoteKind("platform certificates"))
            }
            () => Ok(()),
        }
    }

    /// dcap-qvl refuses the same TDs once it has verified all signatures; here each has a name, and costs nothing.
    fn check_attributes(&self) -> Result<(), Rejection> {
        let attributes = TDAttributes::parse(self.td()?.td_attributes)
            .map_err(|error| Rejection::MalformedQuote(error.to_string()))?;
        let service_td = match &self.0.report {
            Report::TD15(report) => report.mr_service_td != [0; 48],
            Report::TD15Ex(report) => report.base.mr_service_td != [0; 48] || report.cur_service_td_hash != [0; 48],
            Report::TD10(_) | Report::SgxEnclave(_) => false,
        };
        match () {
            () if attributes.tud & 1 != 0 => Err(Rejection::Debug),
            () if attributes.tud != 0 => Err(Rejection::Attributes("it can be profiled")),
            () if attributes.sec.migratable => Err(Rejection::Migratable),
            () if attributes.sec.servtd_ext || service_td => Err(Rejection::ServiceTd),
            () if !attributes.sec.sept_ve_disable => Err(Rejection::Attributes("its host can inject #VE")),
            () if attributes.reserved != 0 => Err(Rejection::Attributes("reserved bits are set")),
            () => Ok(()),
        }
    }
}
