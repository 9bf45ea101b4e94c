//! What Intel Trust Authority says about a quote: a JWT (RFC 7519), signed with PS384 by a key that the reader pinned.
//!
//! It is a second opinion. Nobody is believed because of it alone; who is believed may be refused for what it says.

use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA384, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use crate::claims::QuoteClaims;

/// A token has some 6 KB, and more with a long policy.
pub const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// Intel publishes a handful of keys with their certificates.
pub const MAX_JWKS_BYTES: usize = 256 * 1024;

/// The one algorithm. A reader that lets the token choose can be talked into a weaker one, or into none.
const ALGORITHM: &str = "PS384";
/// How far the clocks of signer and reader may differ, in seconds.
const LEEWAY: u64 = 60;

/// The keys by which tokens are believed (RFC 7517), under their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKeys(Vec<TokenKey>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct TokenKey {
    kid: String,
    n: Vec<u8>,
    e: Vec<u8>,
}

/// Why a key set or a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The key set is not one, or has no key that could sign tokens.
    #[error("the pinned keys cannot be used: {0}")]
    Keys(String),
    /// The token is not a JWT.
    #[error("the token is not a JWT: {0}")]
    Malformed(String),
    /// It is signed by another algorithm, or by none.
    #[error("the token names the algorithm {0:?}, and {ALGORITHM} alone is believed")]
    Algorithm(String),
    /// It names a key that is not pinned.
    #[error("the token names the key {0:?}, which is not pinned")]
    UnknownKey(String),
    /// The pinned key did not sign it.
    #[error("the token is not signed by the pinned key that it names")]
    Signature,
    /// It has ended, or has not begun.
    #[error("the token is good from {from} to {until}, and it is {now}")]
    NotCurrent {
        /// Start, seconds since 1970; 0 where it names none.
        from: u64,
        /// End, seconds since 1970.
        until: u64,
        /// The time of the reading.
        now: u64,
    },
    /// A claim that has to be there is missing, or is no such thing.
    #[error("the token's claim {0} is missing or malformed")]
    Claim(&'static str),
}

/// What a believed token says about a quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    claims: Value,
    /// Until when it holds, seconds since 1970.
    pub until: u64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Dates {
    exp: u64,
    nbf: Option<u64>,
    iat: Option<u64>,
}

impl TokenKeys {
    /// Reads a JSON Web Key Set. Keys of other kinds and for other algorithms are passed over.
    ///
    /// # Errors
    /// When it is no key set, or none of its keys could sign tokens.
    pub fn from_json(json: &[u8]) -> Result<Self, TokenError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Key>,
        }
        #[derive(Deserialize)]
        struct Key {
            kty: String,
            kid: Option<String>,
            alg: Option<String>,
            n: Option<String>,
            e: Option<String>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|error| TokenError::Keys(error.to_string()))?;
        let usable = |key: Key| {
            let fits = key.kty == "RSA" && key.alg.is_none_or(|alg| alg == ALGORITHM);
            let part = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
            fits.then_some(TokenKey { kid: key.kid?, n: part(key.n)?, e: part(key.e)? })
        };
        match set.keys.into_iter().filter_map(usable).collect::<Vec<_>>() {
            none if none.is_empty() => Err(TokenError::Keys("none is an RSA key for PS384".to_owned())),
            keys => Ok(Self(keys)),
        }
    }

    /// Believes a token that one of these keys signed. Where the token says that keys could be fetched (`jku`, `x5u`) or
    /// brings one along (`jwk`, `x5c`), that is not looked at.
    ///
    /// # Errors
    /// When the token is not believed.
    pub fn read(&self, token: &str, now: u64) -> Result<Opinion, TokenError> {
        let malformed = |what: &str| TokenError::Malformed(what.to_owned());
        if token.len() > MAX_TOKEN_BYTES {
            return Err(malformed("it is too long"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| malformed("it has no signature"))?;
        let (header, payload) = signed.split_once('.').ok_or_else(|| malformed("it has no payload"))?;
        let decode =
            |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|error| TokenError::Malformed(error.to_string()));
        let json = |error: serde_json::Error| TokenError::Malformed(error.to_string());
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(json)?;
        if header.alg != ALGORITHM {
            return Err(TokenError::Algorithm(header.alg));
        }
        if header.crit.is_some() {
            return Err(malformed("it demands what is not known here"));
        }
        let kid = header.kid.unwrap_or_default();
        let key = self.0.iter().find(|key| key.kid == kid).ok_or(TokenError::UnknownKey(kid))?;
        RsaPublicKeyComponents { n: &key.n, e: &key.e }
            .verify(&RSA_PSS_2048_8192_SHA384, signed.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Signature)?;
        let claims: Value = serde_json::from_slice(&decode(payload)?).map_err(json)?;
        let dates = Dates::deserialize(&claims).map_err(|_| TokenError::Claim("exp"))?;
        let from = dates.nbf.max(dates.iat).unwrap_or_default();
        if now >= dates.exp.saturating_add(LEEWAY) || now.saturating_add(LEEWAY) < from {
            return Err(TokenError::NotCurrent { from, until: dates.exp, now });
        }
        Ok(Opinion { claims, until: dates.exp })
    }
}

/// What both sides read out of a quote, under the names of the token's claims.
const REGISTERS: [&str; 9] = [
    "tdx_mrtd",
    "tdx_rtmr0",
    "tdx_rtmr1",
    "tdx_rtmr2",
    "tdx_rtmr3",
    "tdx_mrconfigid",
    "tdx_mrowner",
    "tdx_mrownerconfig",
    "tdx_report_data",
];

const DEBUG: &str = "tdx_is_debuggable";
const STATUS: &str = "attester_tcb_status";

impl Opinion {
    /// The platform's TCB status, as the authority names it.
    ///
    /// # Errors
    /// When the token has none.
    pub fn tcb_status(&self) -> Result<&str, TokenError> {
        self.claim(STATUS).and_then(Value::as_str).ok_or(TokenError::Claim(STATUS))
    }

    /// Compares the opinion with our own reading of the quote: the first claim that differs, or `None` when both agree.
    ///
    /// # Errors
    /// When a claim is missing, so that nothing was said about it.
    pub fn disagreement(&self, ours: &QuoteClaims) -> Result<Option<&'static str>, TokenError> {
        let [rtmr0, rtmr1, rtmr2, rtmr3] = &ours.rtmr;
        let registers =
            [&ours.mrtd, rtmr0, rtmr1, rtmr2, rtmr3, &ours.mr_config_id, &ours.mr_owner, &ours.mr_owner_config];
        let read = registers.iter().map(|register| register.0.as_slice()).chain([ours.report_data.as_slice()]);
        for (name, read) in REGISTERS.into_iter().zip(read) {
            let said = self.claim(name).and_then(Value::as_str).ok_or(TokenError::Claim(name))?;
            let said = hex::decode(said.trim_start_matches("0x")).map_err(|_| TokenError::Claim(name))?;
            if said != read {
                return Ok(Some(name));
            }
        }
        // We refuse TDs in debug mode ourselves, so that the authority has to say that this one is not.
        if self.claim(DEBUG).and_then(Value::as_bool).ok_or(TokenError::Claim(DEBUG))? {
            return Ok(Some(DEBUG));
        }
        Ok((self.tcb_status()? != ours.tcb_status).then_some(STATUS))
    }

    /// The second version of the interface nests the claims of an attester under its kind where several attest at once.
    fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name).or_else(|| self.claims.get("tdx")?.get(name))
    }
}

#[cfg(test)]
mod tests;
