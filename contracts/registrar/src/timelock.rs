//! Changes that go through a timelock.

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::{DynProvider, Provider as _};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolCall as _;

use crate::abi::TimelockedOwner::{self, TimelockedOwnerInstance, acceptOwnershipCall, scheduleCall, tightenCall};
use crate::chain::{Chain, call_failed, failed};
use crate::failure::Failure;
use crate::transact::Outcome;

/// What an operation's time is once it has been executed.
const EXECUTED: u64 = 1;

impl Chain {
    /// The timelock at an address, which must be one.
    pub(crate) async fn timelock(&self, address: Address) -> Result<TimelockedOwnerInstance<DynProvider>, Failure> {
        self.must_be_a_contract(address).await?;
        Ok(TimelockedOwner::new(address, self.provider.clone()))
    }

    /// Makes a call through the timelock: at once if it can only refuse more, else in a proposal.
    pub(crate) async fn through(
        &self,
        timelock: Address,
        what: &'static str,
        to: Address,
        data: Bytes,
    ) -> Result<Outcome, Failure> {
        let contract = self.timelock(timelock).await?;
        let from = self.signer()?.address();
        let asked = |error| call_failed("asking the timelock", error);
        // What the contract would refuse is told now, not when the delay is over.
        let request = TransactionRequest::default().with_from(timelock).with_to(to).with_input(data.clone());
        self.provider.call(request).await.map_err(|error| failed(what, error))?;
        if contract.tightens(data.clone()).call().await.map_err(asked)? {
            self.must_have(&contract, contract.CANCELLER_ROLE().call().await.map_err(asked)?, from, "tighten").await?;
            return self.deliver(what, from, timelock, tightenCall { target: to, data }.abi_encode().into()).await;
        }
        self.must_have(&contract, contract.PROPOSER_ROLE().call().await.map_err(asked)?, from, "propose").await?;
        let delay = contract.getMinDelay().call().await.map_err(asked)?;
        let (id, salt) = free_id(&contract, to, &data).await?;
        let call = scheduleCall { target: to, value: U256::ZERO, data, predecessor: B256::ZERO, salt, delay };
        let Outcome::Done(done) = self.deliver(what, from, timelock, call.abi_encode().into()).await? else {
            return Ok(Outcome::Planned);
        };
        Ok(Outcome::Proposed { id, ready_at: done.timestamp.saturating_add(delay.saturating_to()), done })
    }

    /// Lets the timelock accept an ownership that it was offered.
    pub(crate) async fn accept_through(&self, timelock: Address, target: Address) -> Result<Outcome, Failure> {
        let contract = self.timelock(timelock).await?;
        let from = self.signer()?.address();
        let role = contract.PROPOSER_ROLE().call().await;
        let role = role.map_err(|error| call_failed("asking the timelock", error))?;
        self.must_have(&contract, role, from, "accept").await?;
        let call = acceptOwnershipCall { target }.abi_encode();
        self.deliver("accepting the ownership", from, timelock, call.into()).await
    }

    pub(crate) async fn must_have(
        &self,
        timelock: &TimelockedOwnerInstance<DynProvider>,
        role: B256,
        account: Address,
        act: &'static str,
    ) -> Result<(), Failure> {
        let has = timelock.hasRole(role, account).call().await;
        if has.map_err(|error| call_failed("asking the timelock", error))? {
            return Ok(());
        }
        Err(Failure::NoOfficer { account, timelock: *timelock.address(), act })
    }
}

/// The id and salt under which a call can be proposed. The same call may be proposed again once it has been executed.
async fn free_id(
    timelock: &TimelockedOwnerInstance<DynProvider>,
    to: Address,
    data: &Bytes,
) -> Result<(B256, B256), Failure> {
    let asked = |error| call_failed("asking the timelock", error);
    for number in 0_u64.. {
        let salt = B256::from(U256::from(number));
        let id = timelock.hashOperation(to, U256::ZERO, data.clone(), B256::ZERO, salt).call().await.map_err(asked)?;
        match timelock.getTimestamp(id).call().await.map_err(asked)?.saturating_to() {
            0 => return Ok((id, salt)),
            EXECUTED => {}
            ready_at => return Err(Failure::Pending { id, ready_at }),
        }
    }
    Err(Failure::Unexpected("there is no free id".to_owned()))
}

/// Seconds as a person would say them.
pub(crate) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// Reads what [`span`] writes, such as `2d` or `1h 30m`.
pub(crate) fn parse_span(text: &str) -> Result<u64, String> {
    let wrong = || "expected a time, such as 90s, 12h or 2d".to_owned();
    let mut total: u64 = 0;
    for part in text.split_whitespace() {
        let unit = part.chars().last().ok_or_else(wrong)?;
        let size = match unit {
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong()),
        };
        let number: u64 = part.strip_suffix(unit).unwrap_or_default().parse().map_err(|_| wrong())?;
        total = number.checked_mul(size).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
    }
    if text.trim().is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (172_800, "2d"), (93_784, "1d 2h 3m 4s")] {
            assert_eq!(span(seconds), text);
            assert_eq!(parse_span(text), Ok(seconds));
        }
        for wrong in ["", "2", "d", "2w", "-1s", "2d,1h", "99999999999999999999d", "999999999999999999d"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }
}
