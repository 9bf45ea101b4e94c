//! An Ethereum chain of its own: anvil, with one block per second.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_plumbing::http::{Request, send};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{Process, Recipe, State, WorldError};

const READY: Duration = Duration::from_secs(20);
const CALL: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// A chain that makes a block each second, so that a reader can tell an idle chain from a stale view of it.
#[derive(Debug)]
pub struct Chain {
    process: Process,
    client: ChainClient,
    keys: Vec<PathBuf>,
}

impl Chain {
    /// Starts the chain with `accounts` funded accounts.
    pub(crate) async fn start(
        state: &State,
        anvil: &Path,
        address: SocketAddr,
        accounts: usize,
    ) -> Result<Self, WorldError> {
        let accounts_file = state.folder("chain")?.join("accounts.json");
        let recipe = Recipe::new("anvil", anvil).arguments([
            format!("--host={}", address.ip()),
            format!("--port={}", address.port()),
            format!("--accounts={accounts}"),
            format!("--config-out={}", accounts_file.display()),
            "--block-time=1".to_owned(),
            "--prune-history=1000".to_owned(),
            "--silent".to_owned(),
        ]);
        let (process, client) = (recipe.start(state)?, ChainClient(address));
        let mut chain = Self { process, client, keys: Vec::new() };
        let probe = async || client.block_number().await.map(drop).map_err(|error| error.to_string());
        chain.process.ready(READY, probe).await?;
        chain.keys = write_keys(state, &accounts_file)?;
        Ok(chain)
    }

    /// The file with the private key of a funded account.
    pub(crate) fn key(&self, account: usize) -> Result<PathBuf, WorldError> {
        let key = self.keys.get(account).cloned();
        key.ok_or_else(|| WorldError::Chain(format!("there are only {} accounts", self.keys.len())))
    }

    /// Who asks it.
    #[must_use]
    pub fn client(&self) -> ChainClient {
        self.client
    }

    /// The process, to stop it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Writes the keys that anvil made up, each into a file of its own.
fn write_keys(state: &State, accounts: &Path) -> Result<Vec<PathBuf>, WorldError> {
    let text = fs::read(accounts).map_err(|error| WorldError::file(accounts, error))?;
    let unreadable = || WorldError::Chain(format!("{} names no private keys", accounts.display()));
    let config: Value = serde_json::from_slice(&text).map_err(|_| unreadable())?;
    let keys = config.get("private_keys").and_then(Value::as_array).ok_or_else(unreadable)?;
    let write = |(number, key): (usize, &Value)| {
        state.write(format!("chain/{number}.key"), key.as_str().ok_or_else(unreadable)?)
    };
    keys.iter().enumerate().map(write).collect()
}

/// Asks a chain by JSON-RPC.
#[derive(Debug, Clone, Copy)]
pub struct ChainClient(SocketAddr);

impl ChainClient {
    /// Where the chain's JSON-RPC is served.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.0)
    }

    /// Calls a JSON-RPC method.
    ///
    /// # Errors
    /// When there is no answer within five seconds, or it is an error.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, WorldError> {
        call(self.0, method, params).await.map_err(WorldError::Chain)
    }

    /// The number of the newest block.
    ///
    /// # Errors
    /// As [`ChainClient::call`].
    pub async fn block_number(&self) -> Result<u64, WorldError> {
        let answer = self.call("eth_blockNumber", json!([])).await?;
        quantity(&answer).ok_or_else(|| WorldError::Chain(format!("eth_blockNumber gave {answer}")))
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
