//! Changing something on chain: sent, proposed to a timelock, or only planned.

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, B256, Bytes};
use alloy::providers::Provider as _;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use postern_plumbing::config::Problems;
use serde_json::json;

use crate::chain::{Chain, failed};
use crate::failure::Failure;
use crate::flight::Flight;
use crate::plan::Plan;
use crate::report::Report;
use crate::revert;
use crate::settings::Delivery;

/// A transaction that is as deep as was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) receipt: TransactionReceipt,
    pub(crate) block: u64,
    pub(crate) block_hash: B256,
    /// Unix seconds, from the block's header.
    pub(crate) timestamp: u64,
}

impl Done {
    pub(crate) const fn transaction(&self) -> B256 {
        self.receipt.transaction_hash
    }

    /// Adds where the transaction is to a report.
    pub(crate) fn tell(&self, report: Report) -> Report {
        report
            .with("transaction", json!(self.transaction()))
            .with("block", json!(self.block))
            .with("block_hash", json!(self.block_hash))
            .with("block_timestamp", json!(self.timestamp))
            .field("transaction", self.transaction())
            .field("block", format_args!("{} {}", self.block, self.block_hash))
    }
}

/// What became of a change.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// It is in force.
    Done(Box<Done>),
    /// A timelock will let it through at this time, in Unix seconds.
    Proposed { id: B256, ready_at: u64, done: Box<Done> },
    /// It was shown or written down, and not sent.
    Planned,
}

impl Outcome {
    /// The transaction, if there was one that put the change in force.
    pub(crate) fn done(self) -> Option<Box<Done>> {
        match self {
            Self::Done(done) => Some(done),
            Self::Proposed { .. } | Self::Planned => None,
        }
    }
}

impl Chain {
    /// Who signs.
    pub(crate) fn signer(&self) -> Result<&PrivateKeySigner, Failure> {
        self.settings.signer.as_ref().ok_or_else(|| Failure::Config(Problems::one("key_file", "missing")))
    }

    /// Calls what only the owner of a contract may call: as the owner, or through the timelock that is the owner.
    pub(crate) async fn govern(&self, what: &'static str, to: Address, call: impl SolCall) -> Result<Outcome, Failure> {
        self.govern_by(what, to, call.abi_encode().into()).await
    }

    /// The same, by a call that is encoded already.
    pub(crate) async fn govern_by(&self, what: &'static str, to: Address, data: Bytes) -> Result<Outcome, Failure> {
        let owner = self.owner(to).await?;
        if let Some(timelock) = self.settings.timelock {
            return if timelock == owner {
                self.through(timelock, what, to, data).await
            } else {
                Err(self.not_owner(timelock, to, owner).await)
            };
        }
        let from = self.settings.sender().unwrap_or(owner);
        if from != owner {
            return Err(self.not_owner(from, to, owner).await);
        }
        self.deliver(what, from, to, data).await
    }

    /// Calls what anybody may call. `from` makes the call where there is no key, as in a plan.
    pub(crate) async fn call(
        &self,
        what: &'static str,
        from: Address,
        to: Address,
        call: impl SolCall,
    ) -> Result<Outcome, Failure> {
        self.deliver(what, self.settings.sender().unwrap_or(from), to, call.abi_encode().into()).await
    }

    pub(crate) async fn deliver(
        &self,
        what: &'static str,
        from: Address,
        to: Address,
        data: Bytes,
    ) -> Result<Outcome, Failure> {
        let request = TransactionRequest::default().with_from(from).with_to(to).with_input(data.clone());
        if self.settings.delivery == Delivery::Send {
            return self.send(what, request).await.map(Box::new).map(Outcome::Done);
        }
        let gas = Some(self.estimate(what, &request).await?);
        self.plans.borrow_mut().push(Plan { what, from, to: Some(to), data, gas });
        Ok(Outcome::Planned)
    }

    /// Deploys a contract. In a plan, its address is the one that it would get.
    pub(crate) async fn deploy(
        &self,
        what: &'static str,
        code: impl Into<Bytes>,
    ) -> Result<(Address, Option<Done>), Failure> {
        let code = code.into();
        let request = TransactionRequest::default().with_deploy_code(code.clone());
        match self.settings.delivery {
            Delivery::Send => {
                let done = self.send(what, request).await?;
                let address = done.receipt.contract_address;
                let address = address.ok_or_else(|| Failure::Unexpected(format!("{what}: no contract was made")))?;
                Ok((address, Some(done)))
            }
            Delivery::Show => {
                let from = self.signer()?.address();
                let nonce = self.provider.get_transaction_count(from).pending().await;
                let nonce = nonce.map_err(|error| failed("asking for the nonce", error))?;
                let before = u64::try_from(self.plans.borrow().len()).unwrap_or(u64::MAX);
                // One that needs another which is not there yet cannot be estimated.
                let gas = self.estimate(what, &request.with_from(from)).await.ok();
                self.plans.borrow_mut().push(Plan { what, from, to: None, data: code, gas });
                Ok((from.create(nonce.saturating_add(before)), None))
            }
            Delivery::Safe(_) => Err(Failure::Unsupported(
                "a Safe's batch cannot deploy contracts: deploy with a key, and name the Safe as the owner".to_owned(),
            )),
        }
    }

    async fn send(&self, what: &'static str, request: TransactionRequest) -> Result<Done, Failure> {
        // The compiler's size of this future is large, and it is awaited in many places.
        Box::pin(async move { Flight::start(self, what, request).await?.land().await }).await
    }

    /// What a call would cost. Fails as the call would.
    pub(crate) async fn estimate(&self, what: &'static str, request: &TransactionRequest) -> Result<u64, Failure> {
        let gas = self.provider.estimate_gas(request.clone()).await;
        gas.map_err(|error| if error.is_error_resp() { failed(what, error).of_sending() } else { failed(what, error) })
    }

    /// Sets the fees that the chain asks for, in the older form where it knows no other.
    pub(crate) async fn set_fees(&self, request: &mut TransactionRequest) -> Result<(), Failure> {
        match self.provider.estimate_eip1559_fees().await {
            Ok(fees) => {
                request.set_max_fee_per_gas(fees.max_fee_per_gas);
                request.set_max_priority_fee_per_gas(fees.max_priority_fee_per_gas);
            }
            Err(error) if error.is_transport_error() => return Err(failed("asking for the fees", error)),
            Err(_) => {
                let price = self.provider.get_gas_price().await;
                request.set_gas_price(price.map_err(|error| failed("asking for the fees", error))?);
            }
        }
        Ok(())
    }

    /// Why a transaction that was mined did nothing, as far as the node can still tell.
    pub(crate) async fn refusal_at(&self, request: &TransactionRequest, block: B256) -> Option<String> {
        let answer = self.provider.call(request.clone()).block(block.into()).await;
        answer.err().and_then(|error| revert::reason(&error))
    }

    pub(crate) async fn timestamp(&self, block: B256) -> Option<u64> {
        Some(self.provider.get_block_by_hash(block).await.ok()??.header.timestamp)
    }
}
