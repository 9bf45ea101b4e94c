//! Sending a transaction and seeing it done.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use alloy::network::{EthereumWallet, TransactionBuilder as _};
use alloy::primitives::{Address, B256, Bytes};
use alloy::providers::{Provider as _, ProviderBuilder};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use postern_plumbing::config::Problems;
use postern_watch::transport;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use crate::chain::{Chain, failed, place};
use crate::failure::Failure;
use crate::report::Report;

/// How often it is asked whether a transaction has been mined.
const LOOK: Duration = Duration::from_millis(200);

/// A transaction that is as deep as was asked for.
#[derive(Debug)]
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

impl Chain {
    /// Who signs.
    pub(crate) fn signer(&self) -> Result<&PrivateKeySigner, Failure> {
        self.settings.signer.as_ref().ok_or_else(|| Failure::Config(Problems::one("key_file", "missing")))
    }

    /// Calls a contract in a transaction.
    pub(crate) async fn call(&self, what: &'static str, to: Address, call: impl SolCall) -> Result<Done, Failure> {
        let data = Bytes::from(call.abi_encode());
        self.transact(what, TransactionRequest::default().with_to(to).with_input(data)).await
    }

    /// Deploys a contract.
    pub(crate) async fn deploy(&self, what: &'static str, code: impl Into<Bytes>) -> Result<(Address, Done), Failure> {
        let request = TransactionRequest::default().with_deploy_code(code);
        let done = self.transact(what, request).await?;
        let address = done.receipt.contract_address;
        let address = address.ok_or_else(|| Failure::Unexpected(format!("{what}: no contract was made")))?;
        Ok((address, done))
    }

    /// Signs, sends and waits. What the contract would refuse is found out before it is sent, by the estimate of gas.
    async fn transact(&self, what: &'static str, request: TransactionRequest) -> Result<Done, Failure> {
        let signer = self.signer()?;
        let wallet = EthereumWallet::from(signer.clone());
        // The nonce is asked for anew each time: a remembered one is wrong after a reorganisation.
        let sender = ProviderBuilder::new()
            .disable_recommended_fillers()
            .with_gas_estimation()
            .with_simple_nonce_management()
            .with_chain_id(self.chain_id)
            .wallet(wallet)
            .connect_client(transport::client(&self.settings.rpc_url, self.settings.call_deadline)?);
        let deadline = Instant::now() + self.settings.transaction_deadline;
        let request = request.with_from(signer.address());
        let sent = timeout_at(deadline, sender.send_transaction(request)).await;
        let sent = sent.map_err(|_| Failure::Endpoint { what, why: "no answer in time".to_owned() })?;
        let hash = *sent.map_err(|error| failed(what, error))?.tx_hash();
        progress(&format!("{what}: sent {hash}"));
        match timeout_at(deadline, self.see(hash)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Unconfirmed { transaction: hash, why: "it was not mined in time".to_owned() }),
        }
    }

    /// Waits until a transaction is deep enough. A reorganisation may move it or take it away in the meantime.
    async fn see(&self, transaction: B256) -> Result<Done, Failure> {
        loop {
            if let Some(receipt) = patiently(self.receipt(transaction).await)?.flatten()
                && let Some((block, block_hash)) = place(&receipt)
                && let Some(height) = patiently(self.height().await)?
                && height + 1 >= block.saturating_add(self.settings.confirmations)
            {
                if !receipt.status() {
                    return Err(Failure::Failed { transaction, block });
                }
                let timestamp = self.timestamp(block_hash).await.unwrap_or_default();
                return Ok(Done { receipt, block, block_hash, timestamp });
            }
            sleep(LOOK).await;
        }
    }

    async fn timestamp(&self, block: B256) -> Option<u64> {
        Some(self.provider.get_block_by_hash(block).await.ok()??.header.timestamp)
    }
}

/// A transaction that was sent is not given up because one question about it failed.
fn patiently<T>(outcome: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Failure::Endpoint { .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Tells somebody who is waiting at a terminal.
fn progress(text: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        // There is nobody to tell if it cannot be written.
        drop(writeln!(terminal, "{text}"));
    }
}
