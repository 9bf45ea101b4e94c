//! Asking several endpoints whether workloads may boot.

use std::sync::Arc;

use alloy::eips::{BlockId, RpcBlockHash};
use alloy::primitives::{Address, B256, Bytes};
use alloy::providers::Provider as _;
use alloy::rpc::client::BatchRequest;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::{SolCall as _, decode_revert_reason};
use alloy::transports::TransportError;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use postern_allowlist::{BootInfo, Decision, quorum};
use postern_plumbing::tasks::Task;
use tokio::time::Instant;

use crate::abi::boot_info;
use crate::abi::kms::KmsAuth::isAppAllowedCall;
use crate::endpoint::{Endpoint, Fault, Header};

/// How many questions one request holds. Nodes limit it, commonly to 100.
pub(crate) const BATCH: usize = 50;

/// Gas for one question, so that an app's contract cannot keep a node busy; an ordinary one takes 60,000. It also pays for
/// the memory that an answer needs, and so limits its length.
const GAS: u64 = 2_000_000;

/// The longest answer that is read, in bytes; dstack's are 160. Every node says the same, so that a longer one is refused
/// by all.
const LONGEST_ANSWER: usize = 4 * 1024;

/// What to ask: about whom, and at which block.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) boot: Arc<BootInfo>,
    pub(crate) at: Header,
}

/// Puts all questions to all `nodes` and returns, for each, the decision that `quorum` of them agree on.
///
/// It returns as soon as every question is settled. Nodes that take longer are heard to the end, so that one that
/// contradicts is found out, but nobody waits for them.
pub(crate) async fn ask(
    nodes: &[Arc<Endpoint>],
    quorum: usize,
    kms: Address,
    questions: Vec<Question>,
) -> Vec<Option<Decision>> {
    if questions.is_empty() {
        return Vec::new();
    }
    let questions: Arc<[Question]> = questions.into();
    let mut pending: FuturesUnordered<_> = nodes
        .iter()
        .enumerate()
        .map(|(position, node)| {
            let (node, questions) = (Arc::clone(node), Arc::clone(&questions));
            async move { (position, node.decisions(kms, &questions).await) }
        })
        .collect();
    let mut votes = vec![vec![None; nodes.len()]; questions.len()];
    let mut settled = vec![None; questions.len()];
    while let Some((position, decisions)) = pending.next().await {
        for ((votes, settled), decision) in votes.iter_mut().zip(&mut settled).zip(decisions) {
            if let Some(vote) = votes.get_mut(position) {
                *vote = decision;
            }
            *settled = quorum::agreed(votes, quorum).map(|agreement| agreement.value.clone());
        }
        if settled.iter().all(Option::is_some) {
            break;
        }
    }
    let nodes = nodes.to_vec();
    let agreed = settled.clone();
    Task::spawn("chain-dissent", async move {
        while let Some((position, decisions)) = pending.next().await {
            for (votes, decision) in votes.iter_mut().zip(decisions) {
                if let Some(vote) = votes.get_mut(position) {
                    *vote = decision;
                }
            }
        }
        report_dissent(&nodes, &questions, &votes, &agreed);
    })
    .detach();
    settled
}

/// Complains about each endpoint that contradicted what was agreed on.
fn report_dissent(
    nodes: &[Arc<Endpoint>],
    questions: &[Question],
    votes: &[Vec<Option<Decision>>],
    agreed: &[Option<Decision>],
) {
    for (position, node) in nodes.iter().enumerate() {
        let contradicted = votes.iter().zip(agreed).zip(questions).find(|((votes, agreed), _)| {
            let vote = votes.get(position).and_then(Option::as_ref);
            agreed.as_ref().zip(vote).is_some_and(|(agreed, vote)| agreed != vote)
        });
        if let Some((_, question)) = contradicted {
            node.complain(&Fault::Disagrees(format!("an answer of the KMS contract at {}", question.at.block)));
            node.exclude(std::time::Instant::now());
        }
    }
}

impl Endpoint {
    /// This node's decisions, in the order of the questions. A question that it fails to answer has none.
    async fn decisions(&self, kms: Address, questions: &[Question]) -> Vec<Option<Decision>> {
        let mut decisions = vec![None; questions.len()];
        for (questions, decisions) in questions.chunks(BATCH).zip(decisions.chunks_mut(BATCH)) {
            let outcome = self.within(self.batch(kms, questions, decisions)).await;
            let waits_in_vain = matches!(outcome, Err(Fault::TimedOut | Fault::Unreachable(_)));
            if outcome.is_ok_and(|()| decisions.iter().all(Option::is_some)) {
                continue;
            }
            // One workload can spoil a request for all that are in it, so those without an answer are asked in smaller ones,
            // for as long again as the first one could take.
            let deadline = Instant::now() + self.deadline();
            self.ask_apart(kms, questions, decisions, deadline).await;
            if waits_in_vain && decisions.iter().all(Option::is_none) {
                break;
            }
        }
        decisions
    }

    /// Asks in two halves, and those again, until what is left without an answer was asked alone.
    fn ask_apart<'a>(
        &'a self,
        kms: Address,
        questions: &'a [Question],
        decisions: &'a mut [Option<Decision>],
        deadline: Instant,
    ) -> BoxFuture<'a, ()> {
        async move {
            if questions.len() < 2 {
                return;
            }
            let (first, second) = questions.split_at(questions.len() / 2);
            let (to_first, to_second) = decisions.split_at_mut(questions.len() / 2);
            tokio::join!(
                self.ask_half(kms, first, to_first, deadline),
                self.ask_half(kms, second, to_second, deadline)
            );
        }
        .boxed()
    }

    async fn ask_half(
        &self,
        kms: Address,
        questions: &[Question],
        decisions: &mut [Option<Decision>],
        deadline: Instant,
    ) {
        if decisions.iter().all(Option::is_some) {
            return;
        }
        let request = self.within(self.batch(kms, questions, decisions));
        match tokio::time::timeout_at(deadline, request).await {
            // Halves of a request would not reach it either.
            Ok(Err(Fault::Unreachable(_))) | Err(_) => {}
            Ok(_) if decisions.iter().all(Option::is_some) => {}
            Ok(_) => self.ask_apart(kms, questions, decisions, deadline).await,
        }
    }

    /// Asks in one request those questions that have no decision yet.
    async fn batch(
        &self,
        kms: Address,
        questions: &[Question],
        decisions: &mut [Option<Decision>],
    ) -> Result<(), Fault> {
        let mut batch = BatchRequest::new(self.provider().client());
        let mut waiters = Vec::with_capacity(questions.len());
        for (question, decision) in questions.iter().zip(decisions).filter(|(_, decision)| decision.is_none()) {
            let data = isAppAllowedCall { bootInfo: boot_info(&question.boot) }.abi_encode();
            let call = TransactionRequest::default().to(kms).gas_limit(GAS).input(Bytes::from(data).into());
            let at = BlockId::Hash(RpcBlockHash::from_hash(B256::from(question.at.block.hash), None));
            waiters.push((batch.add_call::<_, Bytes>("eth_call", &(call, at))?, decision));
        }
        batch.send().await?;
        for (waiter, slot) in waiters {
            match decision(waiter.await) {
                Ok(decision) => *slot = Some(decision),
                Err(fault) => self.complain(&fault),
            }
        }
        Ok(())
    }
}

/// Reads what came back for one question. A revert is a word of the contract; another error is only the node's.
pub(crate) fn decision(outcome: Result<Bytes, TransportError>) -> Result<Decision, Fault> {
    let error = match outcome {
        Ok(data) if data.len() > LONGEST_ANSWER => return Ok(Decision::no_contract()),
        Ok(data) => {
            return Ok(match isAppAllowedCall::abi_decode_returns_validate(&data) {
                Ok(answer) if answer.isAllowed => Decision::Allowed,
                Ok(answer) => Decision::refused(&answer.reason),
                Err(_) => Decision::no_contract(),
            });
        }
        Err(error) => error,
    };
    let reverted = error.as_error_resp().filter(|payload| payload.message.to_ascii_lowercase().contains("revert"));
    match reverted {
        // What nodes add of their own differs between them, so only the contract's own reason is kept.
        Some(payload) => {
            let reason = payload.as_revert_data().and_then(|data| decode_revert_reason(&data));
            Ok(Decision::reverted(&reason.unwrap_or_default()))
        }
        None => Err(Fault::from(error)),
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;
    use alloy::rpc::json_rpc::ErrorPayload;
    use alloy::sol_types::SolValue as _;
    use postern_allowlist::Why;

    use super::*;

    fn error(json: &str) -> TransportError {
        TransportError::ErrorResp(serde_json::from_str::<ErrorPayload>(json).unwrap())
    }

    fn why(outcome: Result<Bytes, TransportError>) -> Why {
        let Decision::Refused(refusal) = decision(outcome).unwrap() else { panic!("it must refuse") };
        refusal.why
    }

    #[test]
    fn the_contracts_word_is_read() {
        let yes = (true, String::new()).abi_encode_params();
        assert_eq!(decision(Ok(yes.into())).unwrap(), Decision::Allowed);
        let no = (false, "Device not allowed".to_owned()).abi_encode_params();
        assert_eq!(why(Ok(no.into())), Why::DeviceNotAllowed);
    }

    #[test]
    fn bytes_that_are_no_answer_refuse() {
        let strange_bool = [(U256::from(2), String::new()).abi_encode_params(), vec![0xff; 96]];
        for data in [vec![], vec![0; 31], vec![1; 32]].into_iter().chain(strange_bool) {
            assert_eq!(why(Ok(data.clone().into())), Why::NoContract, "{data:?}");
        }
    }

    #[test]
    fn an_answer_that_is_too_long_refuses_whatever_it_says() {
        for length in [LONGEST_ANSWER, 1 << 20] {
            let yes = (true, "x".repeat(length)).abi_encode_params();
            assert_eq!(why(Ok(yes.into())), Why::NoContract);
        }
    }

    #[test]
    fn a_revert_refuses_and_another_error_is_no_answer() {
        assert_eq!(why(Err(error(r#"{"code":3,"message":"execution reverted"}"#))), Why::Reverted);
        assert_eq!(why(Err(error(r#"{"code":-32015,"message":"VM execution error: Reverted"}"#))), Why::Reverted);
        for other in [r#"{"code":-32001,"message":"block not found"}"#, r#"{"code":429,"message":"slow down"}"#] {
            assert!(matches!(decision(Err(error(other))), Err(Fault::Refused(_))));
        }
    }
}
