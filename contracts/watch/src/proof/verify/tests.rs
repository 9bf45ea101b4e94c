use std::collections::BTreeMap;

use alloy::primitives::Bytes;
use alloy::trie::HashBuilder;
use alloy::trie::proof::ProofRetainer;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

/// A trie with these values under the hashes of their keys: its root, and the proof of each of the keys asked about.
fn trie(entries: &BTreeMap<B256, Vec<u8>>, asked: &[B256]) -> (B256, Vec<Vec<Bytes>>) {
    let hashed: BTreeMap<B256, &Vec<u8>> = entries.iter().map(|(key, value)| (keccak256(key), value)).collect();
    let targets: Vec<Nibbles> = asked.iter().map(|key| Nibbles::unpack(keccak256(key))).collect();
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(targets.clone()));
    for (key, value) in hashed {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes();
    let path = |target: &Nibbles| nodes.matching_nodes_sorted(target).into_iter().map(|(_, node)| node).collect();
    (root, targets.iter().map(path).collect())
}

/// A state with many accounts, and what an honest node says about one of them and some slots of it.
#[derive(Debug, Clone)]
struct World {
    root: B256,
    address: Address,
    slots: Vec<B256>,
    answer: EIP1186AccountProofResponse,
}

fn world(storage: &BTreeMap<u8, U256>, slots: &[u8], code_hash: B256, others: u8) -> World {
    let slot = |number: &u8| B256::repeat_byte(*number);
    let asked: Vec<B256> = slots.iter().map(slot).collect();
    let kept = storage.iter().filter(|(_, value)| !value.is_zero());
    let entries = kept.map(|(number, value)| (slot(number), rlp::encode(value))).collect();
    let (storage_root, paths) = trie(&entries, &asked);
    let value = |number: &u8| storage.get(number).copied().unwrap_or_default();
    let storage_proof = slots
        .iter()
        .zip(paths)
        .map(|(number, proof)| EIP1186StorageProof { key: slot(number).into(), value: value(number), proof })
        .collect();
    let address = Address::repeat_byte(0xaa);
    let account = TrieAccount { nonce: 1, balance: U256::ZERO, storage_root, code_hash };
    // The trie is made of the hashes of keys, whatever their length.
    let mut accounts: BTreeMap<B256, Vec<u8>> = BTreeMap::new();
    accounts.insert(keccak256(address), rlp::encode(account));
    accounts.extend((0..others).map(|other| (keccak256([other]), rlp::encode(TrieAccount::default()))));
    let (root, account_proof) = hashed_trie(&accounts, keccak256(address));
    let answer = EIP1186AccountProofResponse {
        address,
        balance: U256::ZERO,
        code_hash,
        nonce: 1,
        storage_hash: storage_root,
        account_proof,
        storage_proof,
    };
    World { root, address, slots: asked, answer }
}

/// A trie whose keys are hashes already, and the proof of one.
fn hashed_trie(entries: &BTreeMap<B256, Vec<u8>>, asked: B256) -> (B256, Vec<Bytes>) {
    let target = Nibbles::unpack(asked);
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![target]));
    for (key, value) in entries {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes();
    (root, nodes.matching_nodes_sorted(&target).into_iter().map(|(_, node)| node).collect())
}

impl World {
    fn proven(&self, answer: &EIP1186AccountProofResponse) -> Result<Account, Unproven> {
        account(self.root, self.address, &self.slots, answer)
    }

    /// All the nodes of all proofs, which can be changed.
    fn nodes(answer: &mut EIP1186AccountProofResponse) -> Vec<&mut Bytes> {
        let slots = answer.storage_proof.iter_mut().flat_map(|proof| &mut proof.proof);
        answer.account_proof.iter_mut().chain(slots).collect()
    }
}

fn any_world() -> impl Strategy<Value = World> {
    let storage = btree_map(any::<u8>(), prop_oneof![Just(U256::ZERO), any::<u64>().prop_map(U256::from)], 0..20);
    (storage, vec(any::<u8>(), 1..6), any::<u8>(), 0..20_u8)
        .prop_map(|(storage, slots, code, others)| world(&storage, &slots, B256::repeat_byte(code), others))
}

proptest! {
    #[test]
    fn what_an_honest_node_says_is_proven(world in any_world()) {
        let account = world.proven(&world.answer).unwrap();
        prop_assert_eq!(account.code_hash, world.answer.code_hash);
        let said: Vec<U256> = world.answer.storage_proof.iter().map(|proof| proof.value).collect();
        prop_assert_eq!(account.slots, said);
    }

    #[test]
    fn no_other_value_is(world in any_world(), at in any::<prop::sample::Index>(), by in 1..u64::MAX) {
        let mut forged = world.answer.clone();
        let at = at.index(forged.storage_proof.len());
        forged.storage_proof[at].value = forged.storage_proof[at].value.wrapping_add(U256::from(by));
        prop_assert!(world.proven(&forged).is_err());

        let changes: [fn(&mut EIP1186AccountProofResponse); 5] = [
            |answer| answer.code_hash = B256::repeat_byte(0xee),
            |answer| answer.storage_hash = B256::repeat_byte(0xee),
            |answer| answer.nonce += 1,
            |answer| answer.balance += U256::from(1),
            |answer| drop(answer.storage_proof.pop()),
        ];
        for change in changes {
            let mut forged = world.answer.clone();
            change(&mut forged);
            let changed = forged != world.answer;
            prop_assert!(!changed || world.proven(&forged).is_err());
        }
    }

    /// A change in a proof is found out, or was none that matters.
    #[test]
    fn no_byte_of_a_proof_can_be_changed(
        world in any_world(),
        node in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
    ) {
        let mut forged = world.answer.clone();
        let mut nodes = World::nodes(&mut forged);
        let node = nodes.swap_remove(node.index(nodes.len()));
        let mut bytes = node.to_vec();
        let byte = byte.index(bytes.len());
        bytes[byte] ^= flip;
        *node = bytes.into();
        prop_assert!(world.proven(&forged).is_err());
    }

    #[test]
    fn no_node_of_a_proof_can_be_left_out(world in any_world()) {
        let mut forged = world.answer.clone();
        forged.account_proof.pop();
        prop_assert!(world.proven(&forged).is_err());
        for at in 0..world.answer.storage_proof.len() {
            let mut forged = world.answer.clone();
            forged.storage_proof[at].proof.pop();
            // The only node of an empty trie says nothing that its absence does not.
            if forged.storage_hash != EMPTY_ROOT_HASH {
                prop_assert!(world.proven(&forged).is_err());
            }
        }
    }

    #[test]
    fn the_proof_of_another_state_proves_nothing(world in any_world(), other in any_world()) {
        if world.root != other.root {
            prop_assert!(world.proven(&other.answer).is_err());
            prop_assert!(account(other.root, world.address, &world.slots, &world.answer).is_err());
        }
    }

    /// Whatever a node says, it is either proven by it or refused.
    #[test]
    fn nonsense_is_refused(world in any_world(), proof in vec(vec(any::<u8>(), 0..80), 0..5)) {
        let mut forged = world.answer.clone();
        forged.account_proof = proof.into_iter().map(Bytes::from).collect();
        prop_assert!(world.proven(&forged).is_err());
    }
}

#[test]
fn an_account_that_is_not_there_has_no_code_and_only_zeros() {
    let there = world(&BTreeMap::new(), &[1], B256::repeat_byte(7), 9);
    let accounts: BTreeMap<B256, Vec<u8>> =
        (0..9_u8).map(|other| (keccak256([other]), rlp::encode(TrieAccount::default()))).collect();
    let (root, account_proof) = hashed_trie(&accounts, keccak256(there.address));
    let absent = EIP1186AccountProofResponse {
        address: there.address,
        code_hash: KECCAK_EMPTY,
        storage_hash: EMPTY_ROOT_HASH,
        account_proof,
        storage_proof: there.answer.storage_proof.clone(),
        ..EIP1186AccountProofResponse::default()
    };
    let proven = account(root, there.address, &there.slots, &absent).unwrap();
    assert_eq!(proven, Account { code_hash: KECCAK_EMPTY, slots: vec![U256::ZERO] });
    // It cannot be made to look as if it were there, nor what is there as if it were not.
    let claimed = EIP1186AccountProofResponse { code_hash: B256::repeat_byte(7), ..absent.clone() };
    assert_eq!(account(root, there.address, &there.slots, &claimed).unwrap().code_hash, KECCAK_EMPTY);
    assert!(account(there.root, there.address, &there.slots, &absent).is_err());
}
