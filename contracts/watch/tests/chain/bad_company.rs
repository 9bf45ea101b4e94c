//! A node that lies: it passes requests on to an honest one and alters what comes back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::sol_types::SolValue as _;
use alloy::transports::http::reqwest;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use postern_plumbing::tasks::Task;
use postern_watch::Url;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How the node misbehaves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Manner {
    Honest,
    /// Says that everything is allowed.
    AllowsAll,
    /// Shows this as its head, whatever the head is.
    OldHead(Value),
    /// Makes every block an hour older than it is, and keeps its hash.
    ForgesHeaders,
    /// Has never seen a log.
    HidesLogs,
    /// Knows the logs of a block by its hash, but in a range of heights not yet those of the last one.
    IndexesLate,
    /// Proves other values than those that are there, and says that everything is allowed.
    ForgesProofs,
    /// Proves nothing, and says that everything is allowed.
    ProvesNothing,
    /// Answers each request with an error.
    Errs,
    /// Answers each request with an error of HTTP, in HTML.
    Overloaded,
    /// Is honest, but takes its time.
    Slow(Duration),
    /// Claims to be far ahead, and takes its time to show anything else.
    Boasts(Duration),
    /// Takes requests and never answers.
    BlackHole,
    /// Sends more than anybody wants to read where this is part of a question.
    FloodsAbout(String),
    /// Sends more than anybody wants to read.
    Floods,
}

/// A running node.
pub(crate) struct Node {
    url: Url,
    manner: Arc<Mutex<Manner>>,
    calls: Arc<AtomicUsize>,
    _server: Task<()>,
}

#[derive(Clone)]
struct Shared {
    honest: Url,
    manner: Arc<Mutex<Manner>>,
    calls: Arc<AtomicUsize>,
    client: reqwest::Client,
}

impl Node {
    pub(crate) async fn start(honest: &Url, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/key-that-must-stay-secret", listener.local_addr().unwrap()).parse().unwrap();
        let manner = Arc::new(Mutex::new(manner));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let calls = Arc::<AtomicUsize>::default();
        let shared = Shared { honest: honest.clone(), manner: Arc::clone(&manner), calls: Arc::clone(&calls), client };
        let app = Router::new().route("/{*path}", post(answer)).with_state(shared);
        let server = Task::spawn("bad-company", async move { axum::serve(listener, app).await.unwrap() });
        Self { url, manner, calls, _server: server }
    }

    pub(crate) fn url(&self) -> Url {
        self.url.clone()
    }

    /// How many requests have come that call a contract, each perhaps more than once.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn become_(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

async fn answer(State(shared): State<Shared>, body: Bytes) -> (StatusCode, String) {
    let manner = shared.manner.lock().unwrap().clone();
    let request: Value = serde_json::from_slice(&body).unwrap();
    let is_call = |request: &Value| request["method"] == "eth_call";
    if is_call(&request) || request.as_array().is_some_and(|requests| requests.iter().any(is_call)) {
        shared.calls.fetch_add(1, Ordering::Relaxed);
    }
    match &manner {
        Manner::BlackHole => std::future::pending().await,
        Manner::Slow(delay) => tokio::time::sleep(*delay).await,
        Manner::Boasts(delay) if request["params"][0] != "latest" => tokio::time::sleep(*delay).await,
        Manner::Overloaded => return (StatusCode::SERVICE_UNAVAILABLE, "<html>later</html>".to_owned()),
        Manner::FloodsAbout(what) if String::from_utf8_lossy(&body).contains(what.as_str()) => {
            return (StatusCode::OK, " ".repeat(17 * 1024 * 1024));
        }
        Manner::Floods => return (StatusCode::OK, " ".repeat(64 * 1024 * 1024)),
        _ => {}
    }
    let passed_on = shared.client.post(shared.honest).header("content-type", "application/json").body(body);
    let honest = passed_on.send().await.unwrap().bytes().await.unwrap();
    let mut response: Value = serde_json::from_slice(&honest).unwrap();
    match (&request, &mut response) {
        (Value::Array(requests), Value::Array(responses)) => {
            for response in responses {
                let request = requests.iter().find(|request| request["id"] == response["id"]).unwrap();
                alter(&manner, request, response);
            }
        }
        (request, response) => alter(&manner, request, response),
    }
    (StatusCode::OK, response.to_string())
}

/// Makes a block one of the far future, with the hash that it then has.
fn boast(block: &mut Value) {
    block["number"] = json!("0xf4240");
    let header: alloy::rpc::types::Header = serde_json::from_value(block.clone()).unwrap();
    block["hash"] = json!(header.inner.hash_slow());
}

fn alter(manner: &Manner, request: &Value, response: &mut Value) {
    let is_block = request["method"] == "eth_getBlockByNumber" || request["method"] == "eth_getBlockByHash";
    match manner {
        Manner::AllowsAll | Manner::ForgesProofs | Manner::ProvesNothing if request["method"] == "eth_call" => {
            let yes = (true, String::new()).abi_encode_params();
            *response = json!({"jsonrpc": "2.0", "id": request["id"], "result": alloy::hex::encode_prefixed(yes)});
        }
        Manner::OldHead(block) if is_block && request["params"][0] == "latest" => response["result"] = block.clone(),
        Manner::Boasts(_) if is_block && request["params"][0] == "latest" => boast(&mut response["result"]),
        Manner::ForgesHeaders if is_block && response["result"].is_object() => {
            let timestamp = response["result"]["timestamp"].as_str().unwrap().trim_start_matches("0x");
            let earlier = u64::from_str_radix(timestamp, 16).unwrap() - 3_600;
            response["result"]["timestamp"] = json!(format!("{earlier:#x}"));
        }
        Manner::ForgesProofs if request["method"] == "eth_getProof" => {
            for slot in response["result"]["storageProof"].as_array_mut().into_iter().flatten() {
                slot["value"] = json!("0x1");
            }
        }
        Manner::ProvesNothing if request["method"] == "eth_getProof" => {
            let error = json!({"code": -32601, "message": "the method eth_getProof does not exist"});
            *response = json!({"jsonrpc": "2.0", "id": request["id"], "error": error});
        }
        Manner::HidesLogs if request["method"] == "eth_getLogs" => response["result"] = json!([]),
        Manner::IndexesLate if request["method"] == "eth_getLogs" => {
            let last = request["params"][0]["toBlock"].clone();
            response["result"].as_array_mut().unwrap().retain(|log| log["blockNumber"] != last);
        }
        Manner::Errs => {
            let error = json!({"code": -32603, "message": "internal error"});
            *response = json!({"jsonrpc": "2.0", "id": request["id"], "error": error});
        }
        _ => {}
    }
}
