use super::{CertificateError, Extension, der};
use crate::oid;

const EXTENSION: &str = ".4";
const LONGEST: usize = 64;

/// What an issuer says a certificate is for (extension `.4`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// `app:custom`: the leaf of an application.
    App,
    /// `app:ca`: the authority of one application, under a KMS.
    AppCa,
    /// `kms:rpc`: a KMS's own endpoint.
    Kms,
    /// Something that later issuers may say.
    Other(String),
}

impl Usage {
    /// Reads the content of extension `.4` (without its OCTET STRING).
    ///
    /// # Errors
    /// When it is not text, or longer than any usage.
    pub fn decode(content: &[u8]) -> Result<Self, CertificateError> {
        let malformed = |detail: &str| CertificateError::Malformed { extension: EXTENSION, detail: detail.to_owned() };
        if content.len() > LONGEST {
            return Err(malformed("it is too long"));
        }
        let text = std::str::from_utf8(content).map_err(|_| malformed("it is not UTF-8"))?;
        let known = [Self::App, Self::AppCa, Self::Kms].into_iter().find(|usage| usage.as_str() == text);
        Ok(known.unwrap_or_else(|| Self::Other(text.to_owned())))
    }

    /// The text of the extension.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::App => "app:custom",
            Self::AppCa => "app:ca",
            Self::Kms => "kms:rpc",
            Self::Other(text) => text,
        }
    }

    /// Writes the extension.
    #[must_use]
    pub fn extension(&self) -> Extension {
        Extension { oid: oid::USAGE, content: der::octet_string(self.as_str().as_bytes()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usage_reads_back() {
        for usage in [Usage::App, Usage::AppCa, Usage::Kms, Usage::Other("app:later".to_owned())] {
            let extension = usage.extension();
            assert_eq!(Usage::decode(der::content(&extension.content, EXTENSION).unwrap()), Ok(usage));
        }
    }

    #[test]
    fn what_is_no_short_text_is_refused() {
        assert!(Usage::decode(&[0xff]).is_err());
        assert!(Usage::decode(&[b'a'; LONGEST + 1]).is_err());
    }
}
