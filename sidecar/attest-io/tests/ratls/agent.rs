//! The guest agent's client, against the simulator and against agents that misbehave.

use std::time::Duration;

use postern_attest_io::agent::{AgentEndpoint, AgentError, GuestAgent};
use postern_identity::AppId;
use postern_plumbing::tasks::Task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::world::{APP, Guest};

#[tokio::test]
async fn it_says_who_runs_and_quotes_what_it_is_asked_to() {
    let guest = Guest::of(APP);
    let info = guest.agent.info().await.unwrap();
    assert_eq!(info.app_id, APP);
    assert_eq!(info.instance_id, Some(guest.cvm.instance_id()));
    assert_eq!(info.compose_hash, Some(guest.cvm.compose_hash()));
    assert_eq!(info.app_name, "db");
    assert!(!guest.agent.version().await.unwrap().version.is_empty());

    let answer = guest.agent.quote(&[9; 64]).await.unwrap();
    assert_eq!(answer.quote, guest.cvm.quote([9; 64]));
    assert_eq!(&answer.event_log, guest.cvm.event_log());
}

#[tokio::test]
async fn it_derives_keys_by_path() {
    let guest = Guest::of(APP);
    let key = guest.agent.key("pg/superuser", "postgres").await.unwrap();
    assert_eq!(key, guest.cvm.derive_key("pg/superuser"));
    assert_ne!(key, guest.agent.key("pg/other", "postgres").await.unwrap());
}

/// An agent that answers every request with the same bytes, and then closes or keeps the connection.
async fn answering(answer: Vec<u8>, keep: bool) -> (GuestAgent, Task<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint: AgentEndpoint = format!("http://{}/base", listener.local_addr().unwrap()).parse().unwrap();
    let serving = Task::spawn("agent", async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.unwrap();
            assert!(head[..read].starts_with(b"POST /base/"));
            stream.write_all(&answer).await.unwrap();
            if keep {
                kept.push(stream);
            }
        }
    });
    (GuestAgent::new(endpoint, Duration::from_millis(500)), serving)
}

fn with_body(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn refusal(answer: Vec<u8>, keep: bool) -> AgentError {
    let (agent, _serving) = answering(answer, keep).await;
    agent.quote(&[0; 64]).await.unwrap_err()
}

#[tokio::test]
async fn a_simulator_on_http_is_understood() {
    let body = format!(r#"{{"app_id":"{APP}","instance_id":"","later":[1]}}"#);
    let (agent, _serving) = answering(with_body("200 OK", &body), false).await;
    let info = agent.info().await.unwrap();
    assert_eq!((info.app_id, info.instance_id), (AppId([0xa0; 20]), None));
}

#[tokio::test]
async fn an_agent_that_misbehaves_is_told_from_one_that_is_away() {
    let refused = refusal(with_body("400 Bad Request", r#"{"error":"no tdx"}"#), false).await;
    assert!(matches!(&refused, AgentError::Refused { status: 400, text, .. } if text == "no tdx"), "{refused}");

    for body in ["", "[]", r#"{"quote":"zz","event_log":"[]"}"#, r#"{"quote":""}"#] {
        let refused = refusal(with_body("200 OK", body), false).await;
        assert!(matches!(refused, AgentError::Answer { call: "GetQuote", .. }), "{body}: {refused}");
    }
    let refused = refusal(with_body("200 OK", r#"{"quote":"00","event_log":"{}"}"#), false).await;
    assert!(matches!(refused, AgentError::EventLog(_)), "{refused}");

    for (answer, keep) in [
        (b"".to_vec(), false),
        (b"".to_vec(), true),
        (b"garbage\r\n\r\n".to_vec(), false),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{".to_vec(), true),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n".to_vec(), true),
    ] {
        let refused = refusal(answer, keep).await;
        assert!(matches!(refused, AgentError::NoAnswer { .. }), "{refused}");
    }

    let away = GuestAgent::new(AgentEndpoint::Unix("/nonexistent/dstack.sock".into()), Duration::from_secs(5));
    let refused = away.info().await.unwrap_err();
    assert!(matches!(refused, AgentError::Unreachable { .. }), "{refused}");
    assert!(refused.to_string().contains("/nonexistent/dstack.sock"));
}
