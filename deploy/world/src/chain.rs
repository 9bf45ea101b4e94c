//! An Ethereum chain of its own: anvil, with one block per second.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_plumbing::http::{Request, send};
use serde::Deserialize;
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
        let mut keys = Vec::new();
        // It may answer before the file is written, or while only a part of it is.
        let probe = async || {
            client.block_number().await.map_err(|error| error.to_string())?;
            keys = private_keys(&accounts_file)?;
            Ok(())
        };
        chain.process.ready(READY, probe).await?;
        let write = |(number, key)| state.write(format!("chain/{number}.key"), key);
        chain.keys = keys.iter().enumerate().map(write).collect::<Result<_, _>>()?;
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

/// The keys that anvil made up; or what is missing of the file.
fn private_keys(accounts: &Path) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Accounts {
        private_keys: Vec<String>,
    }
    let words = |error: &dyn std::fmt::Display| format!("{} names no private keys: {error}", accounts.display());
    let text = fs::read(accounts).map_err(|error| words(&error))?;
    let Accounts { private_keys } = serde_json::from_slice(&text).map_err(|error| words(&error))?;
    Ok(private_keys)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use postern_plumbing::tasks::Task;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Stands in for a chain that answers from the beginning and writes its accounts only then, in two parts.
    const LATE: &str = r#"#!/bin/sh
for argument; do case $argument in --config-out=*) file=${argument#*=} ;; esac; done
printf '{"private_keys": ["0x' >"$file"
sleep 0.3
printf '01"]}' >>"$file"
exec sleep 100
"#;

    async fn answer_everybody(listener: TcpListener) {
        const ANSWER: &[u8] =
            b"HTTP/1.1 200 OK\r\ncontent-length: 39\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"0x1\"}";
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            drop(stream.read(&mut request).await);
            drop(stream.write_all(ANSWER).await);
        }
    }

    #[tokio::test]
    async fn a_chain_is_ready_when_all_of_its_accounts_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(Some(folder.path())).unwrap();
        let late = folder.path().join("late");
        fs::write(&late, LATE).unwrap();
        fs::set_permissions(&late, fs::Permissions::from_mode(0o700)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _answers = Task::spawn("answers", answer_everybody(listener));
        let chain = Chain::start(&state, &late, address, 1).await.unwrap();
        assert_eq!(fs::read_to_string(chain.key(0).unwrap()).unwrap(), "0x01");
    }
}
