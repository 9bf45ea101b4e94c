//! Live sessions through a gateway, and a removal that ends them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::future::{join_all, try_join_all};
use postern_devnet::Governance;
use postern_identity::AppId;
use postern_plumbing::tasks::Task;
use postern_simulator::OS_IMAGE;
use postern_wireguard::PrivateKey;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::door::{Echo, applicant};
use super::view::MINING;
use super::{Part, Plan};
use crate::gateway::{DOMAIN, Gateway, Setting, register};
use crate::handshake::guest::{COMPOSE, Platform};
use crate::machine;
use crate::spread::percentile;

/// How many sessions are opened at a time.
const AT_A_TIME: usize = 50;
/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was found.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) p50_ms: Vec<f64>,
    pub(super) p99_ms: Vec<f64>,
    pub(super) instance_bytes: Vec<f64>,
    /// What others took of the machine's processors, in percent.
    pub(super) others: Option<f64>,
}

/// Measures what the plan says about live sessions.
pub(super) async fn measure(plan: &Plan) -> anyhow::Result<Outcome> {
    let machine = machine::Watch::start();
    let chain = Governance::start(&MINING, OS_IMAGE.0).await?;
    let platform = Platform::new()?;
    let compose_hash = platform.compose_hash(COMPOSE);
    chain.add(compose_hash.0).await?;
    let edge = Gateway::start(&platform, &chain, Setting::on_loopback()?).await?;
    let app = AppId(chain.app.into_array());
    let _instance = Echo::join(&edge, applicant(&platform, app, 1)).await?;
    let mut outcome = Outcome::default();
    if plan.has(&[Part::Revocation]) {
        for _ in 0..plan.removals {
            let took = remove(plan, &chain, compose_hash.0, &edge, app).await?;
            outcome.p50_ms.extend(percentile(&took, 50).map(millis));
            outcome.p99_ms.extend(percentile(&took, 99).map(millis));
        }
    }
    if plan.has(&[Part::Memory]) {
        outcome.instance_bytes = memory(plan, &platform, &edge, app).await?;
    }
    outcome.others = machine.others();
    Ok(outcome)
}

/// Removes the app's compose hash while sessions are live, and adds it again. Returns how long each session lasted from the
/// removal on.
async fn remove(
    plan: &Plan,
    chain: &Governance,
    compose_hash: [u8; 32],
    edge: &Gateway,
    app: AppId,
) -> anyhow::Result<Vec<Duration>> {
    let sessions = open(edge, app, plan.sessions).await?;
    let removed = Instant::now();
    let watched: Vec<Task<Instant>> =
        sessions.into_iter().map(|session| Task::spawn("session", ended(session))).collect();
    chain.remove(compose_hash).await?;
    let ended = tokio::time::timeout(PATIENCE, try_join_all(watched.into_iter().map(Task::join))).await;
    let ended = ended.context("sessions went on")??;
    chain.add(compose_hash).await?;
    again(edge, app).await?;
    Ok(ended.iter().map(|ended| ended.saturating_duration_since(removed)).collect())
}

/// What the gateway's memory grows by with each instance, in bytes.
async fn memory(plan: &Plan, platform: &Platform, edge: &Gateway, app: AppId) -> anyhow::Result<Vec<f64>> {
    // The first ones pay for what all of them share.
    let (first, last) = (2 + plan.instances / 4, 2 + plan.instances / 4 + plan.instances);
    let mut before = 0.0;
    for number in 2..last {
        if number == first {
            before = edge.memory()?;
        }
        let key = PrivateKey::generate().public();
        drop(register(edge, applicant(platform, app, number), key).await?);
    }
    ensure!(plan.instances > 0, "nobody registered");
    Ok(vec![(edge.memory()? - before) / f64::from(plan.instances)])
}

/// Opens sessions to an app.
async fn open(edge: &Gateway, app: AppId, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut sessions = Vec::with_capacity(count);
    while sessions.len() < count {
        let some = AT_A_TIME.min(count - sessions.len());
        let opened = join_all((0..some).map(|_| tokio::time::timeout(PATIENCE, session(edge, app)))).await;
        for opened in opened {
            sessions.push(opened.context("no session in time")??);
        }
    }
    Ok(sessions)
}

/// Opens one session: the other side says back the ClientHello.
async fn session(edge: &Gateway, app: AppId) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(edge.clients).await?;
    let hello = hello(app)?;
    stream.write_all(&hello).await?;
    let mut echo = vec![0; hello.len()];
    stream.read_exact(&mut echo).await?;
    ensure!(echo == hello, "not what was sent came back");
    Ok(stream)
}

/// Waits until the app is served again.
async fn again(edge: &Gateway, app: AppId) -> anyhow::Result<()> {
    let started = Instant::now();
    while session(edge, app).await.is_err() {
        if started.elapsed() > PATIENCE {
            bail!("the app is not served again");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// When a session ended.
async fn ended(mut session: TcpStream) -> Instant {
    let mut buffer = [0; 64];
    // A reset is an end, too.
    while let Ok(1..) = session.read(&mut buffer).await {}
    Instant::now()
}

fn hello(app: AppId) -> anyhow::Result<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = format!("{app}s.{DOMAIN}").try_into()?;
    let mut wire = Vec::new();
    ClientConnection::new(Arc::new(config), name)?.write_tls(&mut wire)?;
    Ok(wire)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
