//! From a node's word about accounts and slots to what is proven of them.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::rlp;
use alloy::rpc::types::{EIP1186AccountProofResponse, EIP1186StorageProof};
use alloy::trie::proof::{ProofVerificationError, verify_proof};
use alloy::trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, Nibbles, TrieAccount};

/// An account at a block, as far as it was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Keccak-256 of its code; that of nothing where there is none.
    pub(crate) code_hash: B256,
    /// The values of the slots, in the order in which they were asked for.
    pub(crate) slots: Vec<U256>,
}

/// Why nothing is proven.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unproven {
    #[error("the account {0}")]
    Account(Address),
    #[error("the slot {slot} of {account}")]
    Slot { account: Address, slot: B256 },
    #[error("{account}: {found} slots instead of {asked}")]
    Slots { account: Address, asked: usize, found: usize },
}

/// What a node's answer proves of an account under a state root, and of these slots of it. The keys that the answer names are
/// not looked at: what counts is the way to those that were asked for.
pub(crate) fn account(
    state_root: B256,
    address: Address,
    slots: &[B256],
    answer: &EIP1186AccountProofResponse,
) -> Result<Account, Unproven> {
    let (code_hash, storage_root) = proven_account(state_root, address, answer)?;
    if answer.storage_proof.len() != slots.len() {
        let (asked, found) = (slots.len(), answer.storage_proof.len());
        return Err(Unproven::Slots { account: address, asked, found });
    }
    let value = |(slot, proof): (&B256, &EIP1186StorageProof)| {
        proven_slot(storage_root, *slot, proof).map_err(|_| Unproven::Slot { account: address, slot: *slot })?;
        Ok(proof.value)
    };
    Ok(Account { code_hash, slots: slots.iter().zip(&answer.storage_proof).map(value).collect::<Result<_, _>>()? })
}

/// The hash of an account's code and the root of its storage. An account that is not there has neither.
fn proven_account(
    state_root: B256,
    address: Address,
    answer: &EIP1186AccountProofResponse,
) -> Result<(B256, B256), Unproven> {
    let key = Nibbles::unpack(keccak256(address));
    let claimed = TrieAccount {
        nonce: answer.nonce,
        balance: answer.balance,
        storage_root: answer.storage_hash,
        code_hash: answer.code_hash,
    };
    if verify_proof(state_root, key, Some(rlp::encode(claimed)), &answer.account_proof).is_ok() {
        return Ok((answer.code_hash, answer.storage_hash));
    }
    verify_proof(state_root, key, None, &answer.account_proof).map_err(|_| Unproven::Account(address))?;
    Ok((KECCAK_EMPTY, EMPTY_ROOT_HASH))
}

fn proven_slot(storage_root: B256, slot: B256, proof: &EIP1186StorageProof) -> Result<(), ProofVerificationError> {
    let key = Nibbles::unpack(keccak256(slot));
    let there = verify_proof(storage_root, key, Some(rlp::encode(proof.value)), &proof.proof);
    // Ethereum keeps no zeros, so that a slot is zero by not being there. Anvil does keep them.
    if there.is_err() && proof.value.is_zero() { verify_proof(storage_root, key, None, &proof.proof) } else { there }
}

#[cfg(test)]
mod tests;
