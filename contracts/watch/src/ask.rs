//! Asking several endpoints whether workloads may boot.

use std::sync::Arc;

use alloy::eips::{BlockId, RpcBlockHash};
use alloy::primitives::{Address, B256, Bytes};
use alloy::providers::Provider as _;
use alloy::rpc::client::BatchRequest;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::{SolCall as _, decode_revert_reason};
use alloy::transports::TransportError;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use postern_allowlist::{Block, BootInfo, Decision, quorum};
use postern_plumbing::tasks::Task;

use crate::abi::boot_info;
use crate::abi::kms::KmsAuth::isAppAllowedCall;
use crate::endpoint::{Endpoint, Fault};

/// How many questions one request holds. Nodes limit it, commonly to 100.
pub(crate) const BATCH: usize = 50;

/// Gas for one question, so that an app's contract cannot keep a node busy; an ordinary one takes 60,000.
const GAS: u64 = 10_000_000;

/// What to ask: about whom, and at which block.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) boot: Arc<BootInfo>,
    pub(crate) at: Block,
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
            node.complain(&Fault::Disagrees(format!("an answer of the KMS contract at {}", question.at)));
        }
    }
}

impl Endpoint {
    /// This node's decisions, in the order of the questions. A question that it fails to answer has none.
    async fn decisions(&self, kms: Address, questions: &[Question]) -> Vec<Option<Decision>> {
        let mut decisions = Vec::with_capacity(questions.len());
        for batch in questions.chunks(BATCH) {
            let answers = self.within(self.batch(kms, batch)).await;
            decisions.extend(answers.unwrap_or_else(|_| vec![None; batch.len()]));
        }
        decisions
    }

    async fn batch(&self, kms: Address, questions: &[Question]) -> Result<Vec<Option<Decision>>, Fault> {
        let mut batch = BatchRequest::new(self.provider().client());
        let mut waiters = Vec::with_capacity(questions.len());
        for question in questions {
            let data = isAppAllowedCall { bootInfo: boot_info(&question.boot) }.abi_encode();
            let call = TransactionRequest::default().to(kms).gas_limit(GAS).input(Bytes::from(data).into());
            let at = BlockId::Hash(RpcBlockHash::from_hash(B256::from(question.at.hash), None));
            waiters.push(batch.add_call::<_, Bytes>("eth_call", &(call, at))?);
        }
        batch.send().await?;
        let mut decisions = Vec::with_capacity(waiters.len());
        for waiter in waiters {
            decisions.push(match decision(waiter.await) {
                Ok(decision) => Some(decision),
                Err(fault) => {
                    self.complain(&fault);
                    None
                }
            });
        }
        Ok(decisions)
    }
}

/// Reads what came back for one question. A revert is a word of the contract; another error is only the node's.
fn decision(outcome: Result<Bytes, TransportError>) -> Result<Decision, Fault> {
    let error = match outcome {
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
    fn a_revert_refuses_and_another_error_is_no_answer() {
        assert_eq!(why(Err(error(r#"{"code":3,"message":"execution reverted"}"#))), Why::Reverted);
        assert_eq!(why(Err(error(r#"{"code":-32015,"message":"VM execution error: Reverted"}"#))), Why::Reverted);
        for other in [r#"{"code":-32001,"message":"block not found"}"#, r#"{"code":429,"message":"slow down"}"#] {
            assert!(matches!(decision(Err(error(other))), Err(Fault::Refused(_))));
        }
    }
}
