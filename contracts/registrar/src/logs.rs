//! Lists that contracts keep only as logs.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;

use crate::chain::{Chain, failed};
use crate::failure::Failure;

impl Chain {
    /// All logs of a contract with one of these topics, from the first block that is to be looked at, oldest first.
    ///
    /// The range is asked for in pieces. Nodes limit what they answer at once in ways of their own, so a piece that is
    /// refused is halved.
    pub(crate) async fn logs(&self, contract: Address, topics: Vec<B256>) -> Result<Vec<Log>, Failure> {
        let filter = Filter::new().address(contract).event_signature(topics);
        let last = self.height().await?;
        let longest = self.settings.blocks_per_query;
        let (mut first, mut step) = (self.settings.from_block, longest);
        let mut logs = Vec::new();
        while first <= last {
            let end = last.min(first.saturating_add(step - 1));
            match self.provider.get_logs(&filter.clone().from_block(first).to_block(end)).await {
                Ok(piece) => {
                    logs.extend(piece);
                    first = end.saturating_add(1);
                    step = step.saturating_mul(2).min(longest);
                }
                // A node that cannot be reached at all is not asked for less.
                Err(error) if step > 1 && error.is_error_resp() => step /= 2,
                Err(error) => return Err(failed("reading logs", error)),
            }
        }
        Ok(logs)
    }

    /// The values that were added and not removed since, each with the height since which it is there.
    pub(crate) async fn members<Added, Removed>(
        &self,
        contract: Address,
        value_of: impl Fn(&Log) -> Option<B256>,
    ) -> Result<Vec<Member>, Failure>
    where
        Added: SolEvent,
        Removed: SolEvent,
    {
        let logs = self.logs(contract, vec![Added::SIGNATURE_HASH, Removed::SIGNATURE_HASH]).await?;
        let mut members = BTreeMap::new();
        for log in &logs {
            let Some(value) = value_of(log) else { continue };
            if log.topic0() == Some(&Added::SIGNATURE_HASH) {
                members.entry(value).or_insert_with(|| log.block_number.unwrap_or_default());
            } else {
                members.remove(&value);
            }
        }
        let mut members: Vec<Member> =
            members.into_iter().map(|(value, since_block)| Member { value, since_block }).collect();
        members.sort_by_key(|member| (member.since_block, member.value));
        Ok(members)
    }
}

/// One value of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) value: B256,
    pub(crate) since_block: u64,
}

/// The only argument of an event whose only argument is 32 bytes and not indexed, as all of dstack's are.
pub(crate) fn word(log: &Log) -> Option<B256> {
    let data = &log.data().data;
    (data.len() == 32).then(|| B256::from_slice(data))
}
