//! An Ethereum chain of its own: anvil, with one block per second.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use postern_plumbing::http::{Request, send};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{Process, Recipe, State, WorldError};

const READY: Duration = Duration::from_secs(20);
const CALL: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The first of the accounts that every anvil funds. Its key is public knowledge and good for nothing else.
pub(crate) const DEPLOYER_KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// A chain that makes a block each second, so that a reader can tell an idle chain from a stale view of it.
#[derive(Debug)]
pub struct Chain {
    process: Process,
    address: SocketAddr,
}

impl Chain {
    pub(crate) async fn start(state: &State, anvil: PathBuf, address: SocketAddr) -> Result<Self, WorldError> {
        let arguments = [
            "--host",
            &address.ip().to_string(),
            "--port",
            &address.port().to_string(),
            "--block-time",
            "1",
            "--prune-history",
            "1000",
            "--silent",
        ];
        let process = Recipe::new("anvil", anvil).arguments(arguments).start(state)?;
        let mut chain = Self { process, address };
        let probe = async || call(address, "eth_blockNumber", json!([])).await.map(drop);
        chain.process.ready(READY, probe).await?;
        Ok(chain)
    }

    /// Where its JSON-RPC is served.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Calls a JSON-RPC method.
    ///
    /// # Errors
    /// When there is no answer within five seconds, or it is an error.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, WorldError> {
        call(self.address, method, params).await.map_err(WorldError::Chain)
    }

    /// The number of the newest block.
    ///
    /// # Errors
    /// As [`Chain::call`].
    pub async fn block_number(&self) -> Result<u64, WorldError> {
        let answer = self.call("eth_blockNumber", json!([])).await?;
        quantity(&answer).ok_or_else(|| WorldError::Chain(format!("eth_blockNumber gave {answer}")))
    }

    /// The process, to stop it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

async fn call(address: SocketAddr, method: &str, params: Value) -> Result<Value, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let request = Request::post("anvil", "/", body);
    let response = send(stream, request, MAX_ANSWER, CALL).await.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&response.body).map_err(|error| error.to_string())?;
    match (answer.get("result"), answer.get("error")) {
        (_, Some(error)) => Err(format!("{method}: {error}")),
        (Some(result), None) => Ok(result.clone()),
        (None, None) => Err(format!("{method}: neither result nor error")),
    }
}

/// A number in Ethereum's JSON encoding: hex with `0x`, without leading zeros.
fn quantity(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}
