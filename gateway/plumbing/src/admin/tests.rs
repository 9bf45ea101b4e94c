use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::http::server::HEAD_DEADLINE;
use crate::http::{self, Request};
use crate::tasks::Task;
use crate::telemetry::{self, LogFormat};

struct Running {
    address: std::net::SocketAddr,
    readiness: Readiness,
    shutdown: Shutdown,
    task: Task<()>,
}

async fn start(extra: Router) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = telemetry::init(LogFormat::Json, "off");
    let (readiness, shutdown) = (Readiness::new(), Shutdown::new());
    let task = Task::spawn("admin", serve(listener, metrics, readiness.clone(), extra, shutdown.clone()));
    Running { address, readiness, shutdown, task }
}

impl Running {
    async fn get(&self, path: &str) -> (u16, String) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let answer = http::send(stream, Request::get("admin", path), 1 << 20, Duration::from_secs(5)).await.unwrap();
        (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
    }

    async fn ready(&self) -> (u16, serde_json::Value) {
        let (status, body) = self.get("/readyz").await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

#[tokio::test]
async fn readiness_lists_every_check_with_its_reason() {
    let admin = start(Router::new()).await;
    assert_eq!(admin.ready().await.0, 200);

    let view = admin.readiness.register("chain view");
    let evidence = admin.readiness.register("evidence");
    evidence.ready();
    let expected = serde_json::json!({"ready": false, "checks": [
        {"name": "chain view", "ready": false, "reason": "starting"},
        {"name": "evidence", "ready": true},
    ]});
    assert_eq!(admin.ready().await, (503, expected));
    assert!(!admin.readiness.is_ready());

    view.ready_but("it is old");
    let expected = serde_json::json!({"ready": true, "checks": [
        {"name": "chain view", "ready": true, "reason": "it is old"},
        {"name": "evidence", "ready": true},
    ]});
    assert_eq!(admin.ready().await, (200, expected));

    view.ready();
    assert_eq!(admin.ready().await.0, 200);
    assert!(admin.readiness.is_ready());

    view.clone().not_ready("no block for 61 s");
    let (status, report) = admin.ready().await;
    assert_eq!((status, &report["checks"][0]["reason"]), (503, &"no block for 61 s".into()));
}

#[tokio::test]
async fn health_metrics_and_extra_pages_are_served() {
    let admin = start(Router::new().route("/routes", get(async || "none"))).await;
    metrics::counter!("admin_test_total").increment(1);
    assert_eq!(admin.get("/healthz").await, (200, "alive\n".into()));
    assert_eq!(admin.get("/routes").await, (200, "none".into()));
    assert_eq!(admin.get("/nowhere").await.0, 404);
    let (status, metrics) = admin.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("admin_test_total 1"), "{metrics}");
}

#[tokio::test]
async fn it_ends_when_told_so_even_with_an_idle_connection() {
    let admin = start(Router::new()).await;
    let mut idle = TcpStream::connect(admin.address).await.unwrap();
    assert_eq!(admin.get("/healthz").await.0, 200);
    admin.shutdown.trigger();
    admin.task.join().await.unwrap();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(TcpStream::connect(admin.address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_is_closed() {
    let admin = start(Router::new()).await;
    let mut slow = TcpStream::connect(admin.address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let started = tokio::time::Instant::now();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).await.unwrap();
    assert!(started.elapsed() >= HEAD_DEADLINE);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_ends_is_cut() {
    let admin = start(Router::new().route("/stuck", get(std::future::pending::<&str>))).await;
    let mut stream = TcpStream::connect(admin.address).await.unwrap();
    stream.write_all(b"GET /stuck HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn too_many_connections_are_turned_away_and_places_are_given_back() {
    let admin = start(Router::new()).await;
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        held.push(TcpStream::connect(admin.address).await.unwrap());
    }
    let mut late = TcpStream::connect(admin.address).await.unwrap();
    assert_eq!(late.read(&mut [0; 1]).await.unwrap(), 0);
    drop(held);
    // The places come back when the server has seen the ends.
    loop {
        let mut again = TcpStream::connect(admin.address).await.unwrap();
        drop(again.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await);
        let mut answer = Vec::new();
        if again.read_to_end(&mut answer).await.is_ok() && answer.starts_with(b"HTTP/1.1 200") {
            break;
        }
    }
}
