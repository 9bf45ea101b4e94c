//! What the service answers (Intel's "PCK Certificate and Attestation Collateral" API, version 4).

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::SourceFailure;

/// A document and the chain of whoever issued it.
pub(super) struct Answer {
    pub(super) what: &'static str,
    pub(super) chain: Option<String>,
    pub(super) body: Vec<u8>,
}

/// A document as it was signed, byte for byte.
pub(super) struct Signed {
    pub(super) text: String,
    pub(super) signature: Vec<u8>,
}

#[derive(Deserialize)]
struct TcbInfo<'a> {
    #[serde(borrow, rename = "tcbInfo")]
    document: &'a RawValue,
    signature: String,
}

#[derive(Deserialize)]
struct QeIdentity<'a> {
    #[serde(borrow, rename = "enclaveIdentity")]
    document: &'a RawValue,
    signature: String,
}

impl Answer {
    /// The issuer's chain, which came percent-encoded in a header.
    pub(super) fn issuer_chain(&self) -> Result<String, SourceFailure> {
        let encoded = self.chain.as_deref().ok_or_else(|| self.malformed("the header with its issuer is missing"))?;
        let decoded = percent_decode_str(encoded).decode_utf8().map_err(|error| self.malformed(error))?;
        Ok(decoded.into_owned())
    }

    pub(super) fn tcb_info(&self) -> Result<Signed, SourceFailure> {
        let answer: TcbInfo<'_> = serde_json::from_slice(&self.body).map_err(|error| self.malformed(error))?;
        self.signed(answer.document, &answer.signature)
    }

    pub(super) fn qe_identity(&self) -> Result<Signed, SourceFailure> {
        let answer: QeIdentity<'_> = serde_json::from_slice(&self.body).map_err(|error| self.malformed(error))?;
        self.signed(answer.document, &answer.signature)
    }

    /// A revocation list. A PCCS writes the root's as hexadecimal text, and others as it is.
    pub(super) fn crl(self) -> Result<Vec<u8>, SourceFailure> {
        // A DER sequence starts with the character 0, and its hexadecimal form with the character 3.
        if self.body.first() == Some(&b'3') {
            return hex::decode(self.body.trim_ascii()).map_err(|error| self.malformed(error));
        }
        Ok(self.body)
    }

    fn signed(&self, document: &RawValue, signature: &str) -> Result<Signed, SourceFailure> {
        let signature = hex::decode(signature).map_err(|error| self.malformed(error))?;
        Ok(Signed { text: document.get().to_owned(), signature })
    }

    fn malformed(&self, detail: impl ToString) -> SourceFailure {
        SourceFailure::Malformed { what: self.what, detail: detail.to_string() }
    }
}
