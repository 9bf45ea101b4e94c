//! Having endpoints prove things.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alloy::eips::{BlockId, RpcBlockHash};
use alloy::primitives::{Address, B256};
use alloy::providers::Provider as _;
use alloy::rpc::client::BatchRequest;
use alloy::rpc::types::EIP1186AccountProofResponse;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::layout::{State, Wanted, wanted};
use super::{Pins, Proven, verify};
use crate::ask::{BATCH, Question};
use crate::endpoint::{Endpoint, Fault, Header};

/// How much later each further endpoint is asked, so that one is enough where it is well, and none can hold anybody up.
const STAGGER: Duration = Duration::from_millis(150);

/// How many slots one request names; nodes limit it, commonly to 1024.
const SLOTS_PER_REQUEST: usize = 500;

/// What can be proven, in the order of the questions.
pub(crate) async fn prove(nodes: &[Arc<Endpoint>], kms: Address, pins: &Pins, questions: &[Question]) -> Vec<Proven> {
    let mut answers = vec![Proven::Nothing; questions.len()];
    let blocks: BTreeSet<B256> = questions.iter().map(|question| question.at.block.hash.into()).collect();
    for block in blocks {
        let of_block = || questions.iter().filter(|question| block == question.at.block.hash);
        let Some(at) = of_block().next().map(|question| question.at) else { continue };
        let wanted = wanted(kms, pins, of_block().map(|question| question.boot.as_ref()));
        let Some(state) = first(nodes, &at, &wanted).await else { continue };
        for (question, answer) in questions.iter().zip(&mut answers) {
            if block == question.at.block.hash {
                *answer = state.decide(kms, pins, &question.boot).map_or(Proven::OtherCode, Proven::Decided);
            }
        }
    }
    answers
}

/// The state as the first endpoint proves it.
async fn first(nodes: &[Arc<Endpoint>], at: &Header, wanted: &Wanted) -> Option<State> {
    let mut delay = Duration::ZERO;
    let mut pending: FuturesUnordered<_> = nodes
        .iter()
        .map(|node| {
            let wait = delay;
            delay += STAGGER;
            async move {
                tokio::time::sleep(wait).await;
                node.state(at, wanted).await
            }
        })
        .collect();
    while let Some(outcome) = pending.next().await {
        if let Ok(state) = outcome {
            return Some(state);
        }
    }
    None
}

impl Endpoint {
    /// What is wanted of the state behind a block, proven.
    async fn state(&self, at: &Header, wanted: &Wanted) -> Result<State, Fault> {
        let mut state = State::default();
        for requests in requests(wanted).chunks(BATCH) {
            self.within(self.prove_some(at, requests, &mut state)).await?;
            // Proofs are hashed all the way; others want to run, too.
            tokio::task::yield_now().await;
        }
        Ok(state)
    }

    async fn prove_some(&self, at: &Header, requests: &[(Address, Vec<B256>)], state: &mut State) -> Result<(), Fault> {
        let mut batch = BatchRequest::new(self.provider().client());
        let block = BlockId::Hash(RpcBlockHash::from_hash(B256::from(at.block.hash), None));
        let mut waiters = Vec::with_capacity(requests.len());
        for (address, slots) in requests {
            let parameters = (address, slots, block);
            let waiter = batch.add_call::<_, EIP1186AccountProofResponse>("eth_getProof", &parameters)?;
            waiters.push((waiter, *address, slots));
        }
        batch.send().await?;
        for (waiter, address, slots) in waiters {
            let answer = waiter.await?;
            let account = verify::account(B256::from(at.state_root), address, slots, &answer)
                .map_err(|unproven| Fault::ForgedProof(format!("{unproven} at {}", at.block)))?;
            state.add(address, account.code_hash, slots.iter().copied().zip(account.slots));
        }
        Ok(())
    }
}

/// What is wanted, in requests of limited length. An account counts without slots as well.
fn requests(wanted: &Wanted) -> Vec<(Address, Vec<B256>)> {
    let mut requests = Vec::new();
    for (address, slots) in wanted {
        let slots: Vec<B256> = slots.iter().copied().collect();
        let rest = slots.len().saturating_sub(SLOTS_PER_REQUEST);
        let (first, others) = slots.split_at(slots.len() - rest);
        requests.push((*address, first.to_vec()));
        requests.extend(others.chunks(SLOTS_PER_REQUEST).map(|some| (*address, some.to_vec())));
    }
    requests
}
