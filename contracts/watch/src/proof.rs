//! Answers without a call: the storage that the contracts would read, proven to belong to the state of an agreed block.
//!
//! A header that a quorum agrees on names the root of the state behind it, and a Merkle proof from there to a storage slot
//! cannot be forged. So one endpoint is enough to ask, whoever runs it. What a slot means is for the code to say that reads
//! it: only contracts count that are proxies of known code in front of an implementation of known code. Those that are
//! proven to be others are called, as without proofs. Where nothing is proven, nothing is known: whoever could have others
//! called by proving nothing could lie in their place.
//!
//! [`verify`] is the proof, [`layout`] what the slots mean, and [`ask`] the way to the endpoints. The first two are pure.

mod ask;
mod layout;
pub(crate) mod verify;

use std::collections::BTreeSet;
use std::str::FromStr;

use alloy::primitives::{Address, B256};
use postern_allowlist::Decision;

pub(crate) use ask::prove;

/// The code that is known well enough to read its storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    /// Hashes of the code of ERC-1967 proxies.
    pub proxies: BTreeSet<B256>,
    /// Implementations of the KMS contract that have dstack's storage layout, or ours.
    pub kms: Vec<Pin>,
    /// Implementations of apps' contracts, likewise.
    pub apps: Vec<Pin>,
}

/// An implementation: its code refers to its own address, so that both are needed to tell what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Where it is deployed.
    pub address: Address,
    /// Keccak-256 of its code.
    pub code_hash: B256,
}

/// What proofs say to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proven {
    /// What the contracts say.
    Decided(Decision),
    /// Other code runs than is pinned, so that the contract has to be called.
    OtherCode,
    /// Nobody proves anything. It has to be asked again.
    Nothing,
}

/// A text names no implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected ADDRESS:CODEHASH, as `registrar pins` prints it")]
pub struct NotAPin;

impl Pins {
    /// Whether anything can be proven.
    pub(crate) fn is_empty(&self) -> bool {
        self.proxies.is_empty() && self.kms.is_empty() && self.apps.is_empty()
    }

    /// The keys that are missing where others are there.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let keys = [
            ("pinned_proxies", self.proxies.is_empty()),
            ("pinned_kms", self.kms.is_empty()),
            ("pinned_apps", self.apps.is_empty()),
        ];
        let missing = keys.into_iter().filter(|(_, is_missing)| *is_missing && !self.is_empty());
        missing.map(|(key, _)| key).collect()
    }
}

impl FromStr for Pin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let (address, code_hash) = text.split_once(':').ok_or(NotAPin)?;
        Ok(Self { address: address.parse().map_err(|_| NotAPin)?, code_hash: code_hash.parse().map_err(|_| NotAPin)? })
    }
}
