//! What `isAppAllowed` reads, where, and what follows from it.
//!
//! The slots are public interface, written down in `contracts/layout` and checked there. Older contracts of dstack have the
//! same, up to variables that came later and are zero there.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, U256, b256, keccak256};
use alloy::trie::KECCAK_EMPTY;
use postern_allowlist::{BootInfo, Decision};

use super::{Pin, Pins};

/// Where a proxy keeps its implementation's address (ERC-1967): `keccak256("eip1967.proxy.implementation") - 1`.
const IMPLEMENTATION: B256 = b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc");
/// Where OpenZeppelin's `PausableUpgradeable` keeps its flag (ERC-7201 of `openzeppelin.storage.Pausable`).
const PAUSED: B256 = b256!("cd5ed15c6e187e77e9aee88184c21f4f2182ab5827cb3b7e07fbedcd63f03300");

/// `KmsAuth.registeredApps`.
const REGISTERED_APPS: u8 = 5;
/// `KmsAuth.allowedOsImages`.
const OS_IMAGES: u8 = 8;
/// `KmsAuth.deregisteredApps`. The contract takes an app out of the registered ones with it, and only then.
const DEREGISTERED_APPS: u8 = 10;
/// `AppAuth.allowedComposeHashes`.
const COMPOSE_HASHES: u8 = 0;
/// `AppAuth._upgradesDisabled` in its first byte, `allowAnyDevice` in the second.
const FLAGS: u8 = 1;
const ANY_DEVICE: usize = 1;
/// `AppAuth.allowedDeviceIds`.
const DEVICES: u8 = 2;
/// `AppAuth.requireTcbUpToDate`.
const REQUIRE_TCB: u8 = 3;

/// The only TCB status that counts as healthy.
const UP_TO_DATE: &str = "UpToDate";

/// Which slots of which accounts have to be known.
pub(super) type Wanted = BTreeMap<Address, BTreeSet<B256>>;

/// What is proven of accounts at one block.
#[derive(Debug, Default)]
pub(super) struct State {
    accounts: BTreeMap<Address, Known>,
}

#[derive(Debug)]
struct Known {
    code_hash: B256,
    slots: BTreeMap<B256, U256>,
}

/// What has to be known to decide about workloads.
pub(super) fn wanted<'a>(kms: Address, pins: &Pins, boots: impl Iterator<Item = &'a BootInfo>) -> Wanted {
    let mut wanted = Wanted::new();
    for pin in pins.kms.iter().chain(&pins.apps) {
        wanted.entry(pin.address).or_default();
    }
    let registry = wanted.entry(kms).or_default();
    registry.extend([IMPLEMENTATION, PAUSED]);
    for boot in boots {
        let app = Address::from(boot.app_id.0);
        let registry = wanted.entry(kms).or_default();
        registry.extend([entry(REGISTERED_APPS, app.into_word()), entry(DEREGISTERED_APPS, app.into_word())]);
        registry.insert(entry(OS_IMAGES, boot.os_image_hash.0.into()));
        wanted.entry(app).or_default().extend([
            IMPLEMENTATION,
            PAUSED,
            slot(FLAGS),
            slot(REQUIRE_TCB),
            entry(COMPOSE_HASHES, boot.compose_hash.0.into()),
            entry(DEVICES, boot.device_id.0.into()),
        ]);
    }
    wanted
}

impl State {
    /// Adds what is proven of an account.
    pub(super) fn add(&mut self, address: Address, code_hash: B256, slots: impl IntoIterator<Item = (B256, U256)>) {
        let known = self.accounts.entry(address).or_insert(Known { code_hash, slots: BTreeMap::new() });
        known.slots.extend(slots);
    }

    /// What `isAppAllowed` of the KMS contract says about a workload, by the rules of its code and the app's, in their order
    /// and in their words. `None` where other code runs than is pinned, or not everything is known that was [`wanted`].
    pub(super) fn decide(&self, kms: Address, pins: &Pins, boot: &BootInfo) -> Option<Decision> {
        let registry = self.pinned(kms, &pins.kms, &pins.proxies)?;
        let address = Address::from(boot.app_id.0);
        let app = address.into_word();
        if registry.is_set(PAUSED, 0)? {
            return Some(Decision::refused("KMS is paused"));
        }
        let registered = registry.is_set(entry(REGISTERED_APPS, app), 0)?;
        if !registered || registry.is_set(entry(DEREGISTERED_APPS, app), 0)? {
            return Some(Decision::refused("App not registered"));
        }
        if !registry.is_set(entry(OS_IMAGES, boot.os_image_hash.0.into()), 0)? {
            return Some(Decision::refused("OS image is not allowed"));
        }
        if self.accounts.get(&address)?.code_hash == KECCAK_EMPTY {
            return Some(Decision::refused("App not deployed or invalid address"));
        }
        self.pinned(address, &pins.apps, &pins.proxies)?.app_allows(boot)
    }

    /// An account, if it is a known proxy in front of a known implementation.
    fn pinned(&self, address: Address, pins: &[Pin], proxies: &BTreeSet<B256>) -> Option<&Known> {
        let proxy = self.accounts.get(&address).filter(|proxy| proxies.contains(&proxy.code_hash))?;
        let implementation = B256::from(*proxy.slots.get(&IMPLEMENTATION)?);
        let pin = pins.iter().find(|pin| pin.address.into_word() == implementation)?;
        let runs = self.accounts.get(&pin.address)?.code_hash;
        (runs == pin.code_hash).then_some(proxy)
    }
}

impl Known {
    /// What the app's contract says.
    fn app_allows(&self, boot: &BootInfo) -> Option<Decision> {
        if self.is_set(PAUSED, 0)? {
            return Some(Decision::refused("App is paused"));
        }
        if self.is_set(slot(REQUIRE_TCB), 0)? && boot.tcb_status != UP_TO_DATE {
            return Some(Decision::refused("TCB status is not up to date"));
        }
        if !self.is_set(entry(COMPOSE_HASHES, boot.compose_hash.0.into()), 0)? {
            return Some(Decision::refused("Compose hash not allowed"));
        }
        let any_device = self.is_set(slot(FLAGS), ANY_DEVICE)?;
        if !any_device && !self.is_set(entry(DEVICES, boot.device_id.0.into()), 0)? {
            return Some(Decision::refused("Device not allowed"));
        }
        Some(Decision::Allowed)
    }

    /// Whether a byte of a slot, counted from the lowest, is not zero: that is how Solidity reads a `bool`.
    fn is_set(&self, slot: B256, byte: usize) -> Option<bool> {
        Some(self.slots.get(&slot)?.byte(byte) != 0)
    }
}

/// A variable's own slot.
fn slot(number: u8) -> B256 {
    B256::with_last_byte(number)
}

/// Where the mapping at a slot keeps the value of a key.
fn entry(mapping: u8, key: B256) -> B256 {
    keccak256([key, slot(mapping)].concat())
}

#[cfg(test)]
mod tests;
