mod issued;
mod verify;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use dcap_qvl::{QeIdentity, QuoteCollateralV3, TcbInfo};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::TrustRoot;

pub use issued::Issued;

/// A processor family, model, stepping, platform type and custom SKU: what collateral is issued for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fmspc(pub [u8; 6]);

impl fmt::Display for Fmspc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_upper(self.0))
    }
}

impl fmt::Debug for Fmspc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fmspc({self})")
    }
}

impl FromStr for Fmspc {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut fmspc = Self([0; 6]);
        hex::decode_to_slice(text, &mut fmspc.0)?;
        Ok(fmspc)
    }
}

/// What Intel publishes about platforms, as far as we have it: TCB levels, the quoting enclave's identity and revocation
/// lists, one set per [`Fmspc`].
///
/// Loading checks only that it can be read. Signatures and dates are verified with every quote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collateral(BTreeMap<Fmspc, Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    collateral: QuoteCollateralV3,
    window: Window,
    issued: Issued,
}

/// When collateral says it is current, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The latest of the issue dates.
    pub from: u64,
    /// The earliest of the expiry dates. From this second on it is not current any more.
    pub until: u64,
}

/// Why collateral cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollateralError {
    /// The file is larger than this crate reads.
    #[error("the bundle has {0} bytes, of at most {MAX_BUNDLE_BYTES}")]
    TooLarge(usize),
    /// The file is not a bundle.
    #[error("not a collateral bundle: {0}")]
    Json(String),
    /// A bundle without any collateral verifies nothing.
    #[error("the bundle is empty")]
    Empty,
    /// A part of one set cannot be read.
    #[error("the {part} cannot be read: {detail}")]
    Part {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The collateral belongs to enclaves and not to TDs.
    #[error("the TCB info is for {0} and not for TDX")]
    NotTdx(String),
    /// Two sets for one kind of platform.
    #[error("there are two sets of collateral for FMSPC {0}")]
    Duplicate(Fmspc),
    /// A part was not issued under the trusted root.
    #[error("the {part} is not what the trusted root's authorities issue: {detail}")]
    Unverified {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        detail: &'static str,
    },
    /// A part is not in force yet, or not any more.
    #[error("the collateral for FMSPC {fmspc} is in force from {from} to {until}, and it is {now}")]
    NotCurrent {
        /// The kind of platform.
        fmspc: Fmspc,
        /// Start, seconds since 1970.
        from: u64,
        /// End, seconds since 1970.
        until: u64,
        /// The time of the verification.
        now: u64,
    },
}

/// A bundle of more bytes than this is refused unread. One set has about 25 KB.
pub const MAX_BUNDLE_BYTES: usize = 4 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle<T> {
    collateral: Vec<T>,
}

impl Collateral {
    /// Reads a bundle: `{"collateral": […]}`, each element in dcap-qvl's JSON form of its `QuoteCollateralV3`.
    ///
    /// # Errors
    /// When the bundle is too large, malformed or empty, or names a platform twice.
    pub fn from_json(json: &[u8]) -> Result<Self, CollateralError> {
        if json.len() > MAX_BUNDLE_BYTES {
            return Err(CollateralError::TooLarge(json.len()));
        }
        let bundle: Bundle<QuoteCollateralV3> =
            serde_json::from_slice(json).map_err(|error| CollateralError::Json(error.to_string()))?;
        if bundle.collateral.is_empty() {
            return Err(CollateralError::Empty);
        }
        let mut all = Self::default();
        for set in bundle.collateral {
            let known = all.0.len();
            let fmspc = all.insert(set)?;
            if all.0.len() == known {
                return Err(CollateralError::Duplicate(fmspc));
            }
        }
        Ok(all)
    }

    /// Writes the bundle that [`Self::from_json`] reads.
    ///
    /// # Errors
    /// None in practice: every set has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, CollateralError> {
        let bundle = Bundle { collateral: self.0.values().map(|entry| &entry.collateral).collect() };
        serde_json::to_vec(&bundle).map_err(|error| CollateralError::Json(error.to_string()))
    }

    /// Adds one set, in place of what was known of the same kind of platform, and tells of which kind it is.
    ///
    /// A PCK certificate chain that comes with it is dropped: it belongs to one machine, while the set serves all of a
    /// kind, and each quote brings its own.
    ///
    /// # Errors
    /// When a part cannot be read, or the set is not for TDX.
    pub fn insert(&mut self, mut collateral: QuoteCollateralV3) -> Result<Fmspc, CollateralError> {
        collateral.pck_certificate_chain = None;
        let tcb_info: TcbInfo = json("TCB info", &collateral.tcb_info)?;
        if tcb_info.id != "TDX" {
            return Err(CollateralError::NotTdx(tcb_info.id));
        }
        let fmspc: Fmspc = tcb_info.fmspc.parse().map_err(part("TCB info's FMSPC"))?;
        let qe_identity: QeIdentity = json("QE identity", &collateral.qe_identity)?;
        let windows = windows(&collateral, &tcb_info, &qe_identity)?;
        let window = windows.into_iter().fold(Window { from: 0, until: u64::MAX }, Window::overlap);
        let evaluation = tcb_info.tcb_evaluation_data_number.min(qe_identity.tcb_evaluation_data_number);
        let issued = Issued::new(windows.map(|window| window.from), evaluation);
        self.0.insert(fmspc, Entry { collateral, window, issued });
        Ok(fmspc)
    }

    /// Checks that every set was issued under `root` and is in force at `now`, as far as that can be said without a quote.
    ///
    /// It is no substitute for what is verified with every quote. It tells collateral that is worth keeping from what a
    /// lying source made up, before it takes the place of better.
    ///
    /// # Errors
    /// When a part is signed by somebody else, its signer is revoked or out of date, or it is not in force.
    pub fn verify(&self, root: &TrustRoot, now: u64) -> Result<(), CollateralError> {
        self.0.iter().try_for_each(|(fmspc, entry)| {
            let Window { from, until } = entry.window;
            if now < from || now >= until {
                return Err(CollateralError::NotCurrent { fmspc: *fmspc, from, until, now });
            }
            verify::verify(&entry.collateral, root, now)
        })
    }

    /// Takes over what another one knows; where both know a kind of platform, the other's is kept.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// What is known of one kind of platform alone.
    #[must_use]
    pub fn only(&self, fmspc: Fmspc) -> Option<Self> {
        self.0.get(&fmspc).map(|entry| Self(BTreeMap::from([(fmspc, entry.clone())])))
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kinds of platform that are known, and when what is known of them is current.
    pub fn windows(&self) -> impl Iterator<Item = (Fmspc, Window)> {
        self.0.iter().map(|(fmspc, entry)| (*fmspc, entry.window))
    }

    /// When the parts of each set were issued.
    pub fn issued(&self) -> impl Iterator<Item = (Fmspc, Issued)> {
        self.0.iter().map(|(fmspc, entry)| (*fmspc, entry.issued))
    }

    pub(crate) fn of(&self, fmspc: Fmspc) -> Option<(&QuoteCollateralV3, Window)> {
        self.0.get(&fmspc).map(|entry| (&entry.collateral, entry.window))
    }
}

impl Window {
    fn overlap(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), until: self.until.min(other.until) }
    }
}

/// In the order in which [`Issued::new`] takes their beginnings.
fn windows(
    collateral: &QuoteCollateralV3,
    tcb_info: &TcbInfo,
    qe_identity: &QeIdentity,
) -> Result<[Window; 4], CollateralError> {
    Ok([
        json_window("TCB info", &tcb_info.issue_date, &tcb_info.next_update)?,
        json_window("QE identity", &qe_identity.issue_date, &qe_identity.next_update)?,
        crl_window("root CRL", &collateral.root_ca_crl)?,
        crl_window("PCK CRL", &collateral.pck_crl)?,
    ])
}

fn json_window(name: &'static str, issued: &str, next: &str) -> Result<Window, CollateralError> {
    let seconds = |text: &str| {
        let date = OffsetDateTime::parse(text, &Rfc3339).map_err(part(name))?;
        u64::try_from(date.unix_timestamp()).map_err(part(name))
    };
    Ok(Window { from: seconds(issued)?, until: seconds(next)? })
}

fn crl_window(name: &'static str, der: &[u8]) -> Result<Window, CollateralError> {
    let (_, crl) = CertificateRevocationList::from_der(der).map_err(part(name))?;
    let next = crl.next_update().ok_or_else(|| part(name)("it has no next update"))?;
    Ok(Window {
        from: u64::try_from(crl.last_update().timestamp()).map_err(part(name))?,
        until: u64::try_from(next.timestamp()).map_err(part(name))?,
    })
}

fn json<'a, T: Deserialize<'a>>(name: &'static str, text: &'a str) -> Result<T, CollateralError> {
    serde_json::from_str(text).map_err(part(name))
}

fn part<E: fmt::Display>(part: &'static str) -> impl Fn(E) -> CollateralError {
    move |error| CollateralError::Part { part, detail: error.to_string() }
}

#[cfg(test)]
mod tests;
