//! A chain of our own for tests and demos: anvil, on a free port, stopped when dropped.
//!
//! Anvil comes from `contracts/package.json`, or from where `ANVIL_BIN` points. Its accounts hold play money and their
//! keys are public. Nothing that is released may depend on this crate.

mod governance;
mod process;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use alloy::primitives::{Address, Bytes, TxKind};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::transports::TransportError;
use serde_json::Value;
use url::Url;

pub use governance::{Governance, GovernanceError};
use process::Process;

/// How long a transaction may take to be mined.
const MINING_DEADLINE: Duration = Duration::from_secs(30);

/// The key of anvil's first account, which is the same on every machine.
pub const FIRST_KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// The address of anvil's first account.
pub const FIRST_ACCOUNT: Address = Address::new([
    0xf3, 0x9f, 0xd6, 0xe5, 0x1a, 0xad, 0x88, 0xf6, 0xf4, 0xce, 0x6a, 0xb8, 0x82, 0x72, 0x79, 0xcf, 0xff, 0xb9, 0x22,
    0x66,
]);

/// A running anvil.
#[derive(Debug)]
pub struct Anvil {
    process: Process,
    client: RpcClient,
}

/// Why anvil does not run. `Debug` is the sentence too, as that is what `unwrap` shows in a failed test.
#[derive(thiserror::Error)]
pub enum StartError {
    /// It is not there.
    #[error("there is no anvil at {}: run `npm ci --ignore-scripts` in contracts/, or set ANVIL_BIN to one", .0.display())]
    Missing(PathBuf),
    /// It is there, but does not start.
    #[error("anvil does not start: {0}")]
    Failed(String),
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What went wrong with a request to anvil, or with a transaction.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The transaction was mined and reverted.
    #[error("the transaction reverted")]
    Reverted,
    /// The transaction was not mined in time.
    #[error("the transaction was not mined within {} s", MINING_DEADLINE.as_secs())]
    NotMined,
    /// The transaction should have made a contract.
    #[error("no contract was made")]
    NoContract,
}

impl Anvil {
    /// Starts anvil on the loopback interface, on a free port unless one is among the further arguments of its command line.
    ///
    /// # Errors
    /// When it is not there or does not start.
    pub fn start(arguments: &[&str]) -> Result<Self, StartError> {
        let process = Process::start(arguments)?;
        let client = RpcClient::new_http(process.url().clone());
        Ok(Self { process, client })
    }

    /// Where it listens.
    #[must_use]
    pub const fn url(&self) -> &Url {
        self.process.url()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a request, such as `anvil_mine` or `evm_snapshot`.
    ///
    /// # Errors
    /// When it fails.
    pub async fn request(&self, method: &'static str, parameters: Value) -> Result<Value, RequestError> {
        Ok(self.client.request(method, parameters).await?)
    }

    /// Makes a number of blocks.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn mine(&self, blocks: u64) -> Result<(), RequestError> {
        self.request("anvil_mine", serde_json::json!([blocks])).await.map(drop)
    }

    /// Deploys code from the first account.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn deploy(&self, code: impl Into<Bytes>) -> Result<Address, RequestError> {
        self.transact(TxKind::Create, code.into()).await?.contract_address.ok_or(RequestError::NoContract)
    }

    /// Calls a contract from the first account, in a transaction.
    ///
    /// # Errors
    /// When the transaction fails, or is not mined in time.
    pub async fn call(&self, to: Address, data: impl Into<Bytes>) -> Result<TransactionReceipt, RequestError> {
        self.transact(TxKind::Call(to), data.into()).await
    }

    async fn transact(&self, to: TxKind, data: Bytes) -> Result<TransactionReceipt, RequestError> {
        let mut transaction = TransactionRequest::default().from(FIRST_ACCOUNT).input(data.into());
        transaction.to = Some(to);
        let hash: Value = self.client.request("eth_sendTransaction", (transaction,)).await?;
        let receipt = tokio::time::timeout(MINING_DEADLINE, self.receipt(&hash)).await;
        let receipt = receipt.map_err(|_| RequestError::NotMined)??;
        if receipt.status() { Ok(receipt) } else { Err(RequestError::Reverted) }
    }

    async fn receipt(&self, hash: &Value) -> Result<TransactionReceipt, RequestError> {
        loop {
            let receipt = self.client.request("eth_getTransactionReceipt", (hash,)).await?;
            match receipt {
                Some(receipt) => return Ok(receipt),
                None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_starts_on_a_port_of_its_own_and_ends_with_its_handle() {
        let (first, second) = (Anvil::start(&[]).unwrap(), Anvil::start(&[]).unwrap());
        assert_ne!(first.url(), second.url());
        first.mine(3).await.unwrap();
        assert_eq!(first.request("eth_blockNumber", Value::Null).await.unwrap(), "0x3");
        assert_eq!(second.request("eth_blockNumber", Value::Null).await.unwrap(), "0x0");
        let url = first.url().clone();
        drop(first);
        let gone: Result<Value, _> = RpcClient::new_http(url).request_noparams("eth_blockNumber").await;
        assert!(gone.is_err());
    }

    #[test]
    fn a_wrong_argument_is_told() {
        let error = Anvil::start(&["--no-such-argument"]).unwrap_err();
        assert!(error.to_string().contains("no-such-argument"), "{error}");
    }

    #[test]
    fn a_missing_anvil_says_what_to_run() {
        assert!(format!("{:?}", StartError::Missing("/nowhere".into())).contains("npm ci"));
    }
}
