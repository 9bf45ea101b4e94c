//! A chain that stands still, from end to end: the program, a node that is stopped and goes on, and everybody who is told.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[cfg(test)]
mod common;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postern_devnet::Governance;
use postern_identity::AppId;
use postern_plumbing::http::{self, Request};
use postern_simulator::OS_IMAGE;
use postern_wireguard::PrivateKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use common::cvm::{GATEWAY_APP, Registration, Site, reason};
use common::hello::hello;
use common::instance::{join_tunnel, sidecar};
use common::{PATIENCE, alert, rest, session_at, start_tunnel_with};

/// Longer than the view may be old before nobody at all is admitted.
const LONG: Duration = Duration::from_secs(60);

/// A gateway in a process of its own.
struct Program {
    child: Child,
    log: PathBuf,
    clients: SocketAddr,
    registration: SocketAddr,
    admin: SocketAddr,
    tunnel: SocketAddr,
}

impl Program {
    fn start(site: &Site, chain: &Governance) -> Self {
        let ports = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let [clients, registration, admin] = ports.map(|port| port.local_addr().unwrap());
        let tunnel = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let cvm = site.cvm(GATEWAY_APP, "gateway");
        let _agent = site.agent(&cvm);
        let config = site.write_config(&admin.to_string());
        let log = site.folder.path().join("gateway.log");
        let child = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["--config", config.to_str().unwrap()])
            .env_clear()
            .env("POSTERN_GATEWAY__AGENT__ENDPOINT", site.socket(&cvm))
            .env("POSTERN_GATEWAY__EDGE__LISTEN", format!("[\"{clients}\"]"))
            .env("POSTERN_GATEWAY__REGISTRATION__LISTEN", registration.to_string())
            .env("POSTERN_GATEWAY__WIREGUARD__LISTEN", tunnel.to_string())
            .env("POSTERN_GATEWAY__CHAIN__RPC_URLS", format!("[\"{}\"]", chain.anvil.url()))
            .env("POSTERN_GATEWAY__CHAIN__KMS_CONTRACT", chain.kms.to_string())
            .env("POSTERN_GATEWAY__CHAIN__CALL_DEADLINE", "1s")
            .env("POSTERN_GATEWAY__CHAIN__MAX_VIEW_AGE", "6s")
            .env("POSTERN_GATEWAY__CHAIN__VIEW_GRACE", "18s")
            .env("POSTERN_GATEWAY__LIMITS__REGISTRATION", "2s")
            .stderr(std::fs::File::create(&log).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, log, clients, registration, admin, tunnel }
    }

    async fn page(&self, path: &str) -> Option<(u16, String)> {
        let stream = TcpStream::connect(self.admin).await.ok()?;
        let answer = http::send(stream, Request::get("localhost", path), 1 << 20, PATIENCE).await.ok()?;
        Some((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// Waits until the answer of `/readyz` is this one, with these words in it.
    async fn readiness(&self, status: u16, words: &str) {
        let asking = async {
            while !self.page("/readyz").await.is_some_and(|(found, text)| found == status && text.contains(words)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(LONG, asking).await.unwrap_or_else(|_| panic!("never read: {status} {words}"));
    }

    /// The value of a metric.
    async fn metric(&self, name: &str) -> String {
        let (_, text) = self.page("/metrics").await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        value.unwrap_or_else(|| panic!("there is no metric {name}"))
    }

    fn logged(&self, words: &str) -> bool {
        std::fs::read_to_string(&self.log).unwrap().contains(words)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn signal(chain: &Governance, signal: &str) {
    let sent = Command::new("kill").args([signal, &chain.anvil.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Registers a CVM, and says what was answered.
async fn register(
    site: &Site,
    program: &Program,
    app: AppId,
    name: &str,
    key: &PrivateKey,
) -> (Registration, (u16, serde_json::Value)) {
    let keeper = site.keeper(&site.cvm(app, name)).await;
    let mut registration = site.connect(program.registration, Some(keeper)).await;
    let answer = registration.register(&key.public().to_string()).await;
    (registration, answer)
}

/// Says something in a session, and hears it again.
async fn echo(session: &mut TcpStream) {
    session.write_all(b"still here").await.unwrap();
    let mut heard = [0; 10];
    timeout(PATIENCE, session.read_exact(&mut heard)).await.expect("the session is dead").unwrap();
    assert_eq!(&heard, b"still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_stands_still_refuses_newcomers_keeps_sessions_and_comes_back() {
    let site = Site::new(60);
    let chain = Governance::start(&["--block-time=1", "--mixed-mining"], OS_IMAGE.0).await.unwrap();
    let app = AppId(chain.app.into_array());
    chain.add(site.cvm(app, "any").compose_hash().0).await.unwrap();
    let program = Program::start(&site, &chain);
    program.readiness(200, r#"{"name":"chain","ready":true}"#).await;

    let key = PrivateKey::generate();
    let (_registration, (status, answer)) = register(&site, &program, app, "one", &key).await;
    assert_eq!(status, 200, "{answer}");
    let field = |pointer: &str| answer.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let tunnel = start_tunnel_with(key, field("/wg/client_ip").parse().unwrap()).await;
    let gateway = field("/wg/servers/0/pk").parse().unwrap();
    join_tunnel(&tunnel, gateway, program.tunnel, field("/wg/servers/0/ip").parse().unwrap());
    let (_sidecar, _heard) = sidecar(&tunnel);
    let name = format!("{app}s.postern.test");
    let mut session = session_at(program.clients, &name).await;

    signal(&chain, "-STOP");
    program.readiness(200, "nobody new is admitted").await;
    assert_eq!(program.metric("postern_chain_view_staleness").await, "1");
    assert!(program.logged("the view of the chain is too old to admit anything new"));
    let (_refused, answer) = register(&site, &program, app, "two", &PrivateKey::generate()).await;
    assert_eq!(reason(&answer), (503, "chain_view_too_old"));
    assert_eq!(answer.1["error"], "the view of the chain is too old to admit anybody; try again later");
    echo(&mut session).await;
    drop(session_at(program.clients, &name).await);

    program.readiness(503, "and its grace").await;
    let mut refused = TcpStream::connect(program.clients).await.unwrap();
    refused.write_all(&hello(&name)).await.unwrap();
    assert_eq!(rest(&mut refused).await, alert(80), "an internal error: it is not the app's fault");
    assert!(program.logged("what this gateway knows of the chain is too old to admit anybody; try again later"));
    assert_eq!(program.metric("postern_chain_view_staleness").await, "2");
    assert_eq!(program.metric(r#"postern_gateway_refusals_total{reason="chain_stale"}"#).await, "1");
    echo(&mut session).await;

    signal(&chain, "-CONT");
    program.readiness(200, r#"{"name":"chain","ready":true}"#).await;
    assert!(program.logged("the view of the chain is fresh"));
    drop(session_at(program.clients, &name).await);
    let (_second, (status, answer)) = register(&site, &program, app, "three", &PrivateKey::generate()).await;
    assert_eq!(status, 200, "{answer}");
    echo(&mut session).await;
}
