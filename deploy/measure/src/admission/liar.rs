//! Nodes in front of an honest one: a liar, which says yes to every question and is honest about everything else, and others
//! that are honest about everything and a little slower, so that the liar is always heard.

use std::net::Ipv4Addr;

use alloy::sol_types::SolValue as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use postern_plumbing::http::{Request, send};
use postern_plumbing::tasks::Task;
use postern_watch::Url;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use std::time::Duration;

/// The longest answer of the honest node, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;
/// How long the honest node may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much later an honest node answers.
const LATER: Duration = Duration::from_millis(5);

/// Whether a node lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Honest,
    Lying,
}

/// A running node.
pub(super) struct Node {
    url: Url,
    _serving: Task<()>,
}

impl Node {
    /// Answers as `manner` says, with what an honest node knows.
    pub(super) async fn start(honest: &Url, manner: Manner) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}/", listener.local_addr()?).parse()?;
        let router = Router::new().route("/", post(answer)).with_state((honest.clone(), manner));
        // If it ends early, it is no liar but a node that is away, and is not counted as one: see the contradictions.
        let serving = Task::spawn("node", async move { drop(axum::serve(listener, router).await) });
        Ok(Self { url, _serving: serving })
    }

    pub(super) fn url(&self) -> Url {
        self.url.clone()
    }
}

async fn answer(State((honest, manner)): State<(Url, Manner)>, body: Bytes) -> (StatusCode, String) {
    match respond(&honest, manner, body).await {
        Ok(answer) => (StatusCode::OK, answer),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()),
    }
}

async fn respond(honest: &Url, manner: Manner, body: Bytes) -> anyhow::Result<String> {
    let request: Value = serde_json::from_slice(&body)?;
    let address = (honest.host_str().unwrap_or_default(), honest.port().unwrap_or_default());
    let stream = TcpStream::connect(address).await?;
    let response = send(stream, Request::post("node", "/", body), LONGEST, PATIENCE).await?;
    if manner == Manner::Honest {
        tokio::time::sleep(LATER).await;
        return Ok(String::from_utf8(response.body.to_vec())?);
    }
    let mut response: Value = serde_json::from_slice(&response.body)?;
    let yes = alloy::hex::encode_prefixed((true, String::new()).abi_encode_params());
    let alter = |request: &Value, response: &mut Value| {
        if request.get("method") == Some(&json!("eth_call")) {
            *response = json!({"jsonrpc": "2.0", "id": request.get("id"), "result": yes});
        }
    };
    match (&request, &mut response) {
        (Value::Array(requests), Value::Array(responses)) => {
            for response in responses {
                let asked = requests.iter().find(|request| request.get("id") == response.get("id"));
                asked.into_iter().for_each(|request| alter(request, response));
            }
        }
        (request, response) => alter(request, response),
    }
    Ok(response.to_string())
}
