//! A running sidecar judges by the signed policy, the time, the collateral and the limits that its configuration names.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postern_attest_io::JudgeError;
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Task;
use postern_sidecar::postgres::supervise::Condition;
use postern_sidecar::start::StartError;
use postern_simulator::{Cvm, Measurements, PolicySigner, collateral_service};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::driver::{Driver, startup};
use crate::gateway::{GATEWAY_APP, Gateway};
use crate::world::{CLIENT_APP, CLIENT_COMPOSE, Sidecar, World, agent, identity, tee, tls};

const PATIENCE: Duration = Duration::from_secs(60);
const DAY: u64 = 86_400;

pub(crate) fn signer() -> PolicySigner {
    PolicySigner::new([3; 32]).unwrap()
}

/// A policy that welcomes these images, and what `peers` says.
pub(crate) fn policy(version: u64, peers: &str, images: &[&Measurements]) -> String {
    let head = format!(
        "version = {version}\nexpires = 2100-01-01T00:00:00Z\ninsecure_root = '''{}'''\n[peers]\n{peers}\n",
        tee().root_pem()
    );
    images.iter().enumerate().fold(head, |text, (number, image)| {
        let [rtmr0, rtmr1, rtmr2] = [0, 1, 2].map(|index| image.rtmr[index]);
        format!(
            "{text}[[cohort]]\nname = \"release {number}\"\nmrtd = \"{}\"\nrtmr0 = \"{rtmr0}\"\nrtmr1 = \"{rtmr1}\"\nrtmr2 = \"{rtmr2}\"\n",
            image.mrtd
        )
    })
}

pub(crate) fn put(folder: &Path, text: &str) {
    std::fs::write(folder.join("policy.toml.minisig"), signer().sign(text.as_bytes())).unwrap();
    std::fs::write(folder.join("policy.toml"), text).unwrap();
}

/// The configuration of serve mode with other keys in `[attestation]`; `DIR` stands for the world's folder.
fn config(world: &World, keys: &str) -> String {
    let folder = world.folder.path().display().to_string();
    let inline = format!("root = \"{folder}/root.pem\"\ncollateral = \"{folder}/collateral.json\"\n");
    let whole = world.serve_config("[listen]\naddresses = [\"127.0.0.1:0\"]\n");
    assert!(whole.contains(&inline));
    whole.replace(&inline, &format!("{}\n", keys.replace("DIR", &folder)))
}

fn governed(world: &World) -> String {
    let key = signer().public_key();
    let keys = format!(
        "policy = \"DIR/policy.toml\"\npolicy_key = \"{key}\"\nstate_dir = \"DIR/state\"\ncollateral = \"DIR/collateral.json\""
    );
    config(world, &keys)
}

async fn world() -> World {
    let world = World::new().await;
    std::fs::create_dir(world.folder.path().join("state")).unwrap();
    world
}

async fn started(config: &str) -> Sidecar {
    let sidecar = World::start(config).await.unwrap();
    assert_eq!(sidecar.serving.postgres().clone().decided().await, Condition::Ready);
    sidecar
}

/// A world and a sidecar in it that knows the CVMs' image by a signed policy. `more` are further sections.
pub(crate) async fn serving(more: &str) -> (World, Sidecar) {
    let world = world().await;
    put(world.folder.path(), &policy(1, "", &[&Measurements::default()]));
    let sidecar = started(&(governed(&world) + more)).await;
    (world, sidecar)
}

async fn gateway(world: &World) -> Gateway {
    Gateway::start(world.folder.path(), "127.0.0.1:0".parse().unwrap(), "10.9.0.2".parse().unwrap()).await
}

/// Has the sidecar register with this gateway.
fn link(gateway: &Gateway) -> String {
    let address = gateway.address;
    format!(
        "[[gateways]]\nurl = \"https://gateway.example:8432\"\naddress = \"{address}\"\napp_id = \"{GATEWAY_APP}\"\n"
    )
}

/// Ends everything that the sidecar does, and lets go of its state folder.
async fn stop(sidecar: Sidecar) {
    let Sidecar { ground, serving, .. } = sidecar;
    drop(serving);
    ground.sessions.close_and_wait(Duration::ZERO).await;
    ground.background.close_and_wait(Duration::ZERO).await;
    while ground.background.count() > 0 {
        tokio::task::yield_now().await;
    }
}

/// What a client is told; `None` when it is let in.
async fn told(world: &World, sidecar: &Sidecar) -> Option<(String, String)> {
    let error = Driver::reader(world.attested(sidecar).await).await.err()?;
    Some((error.sqlstate, error.message))
}

/// Waits until clients are told this.
async fn becomes(world: &World, sidecar: &Sidecar, words: Option<&str>) {
    let told = async {
        loop {
            let said = told(world, sidecar).await.map(|(_, message)| message);
            if said.as_deref().map(|said| words.is_some_and(|words| said.contains(words))) == words.map(|_| true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(timeout(PATIENCE, told).await.is_ok(), "clients are never told {words:?}");
}

#[tokio::test]
async fn a_client_whose_registers_are_of_two_releases_is_refused_by_a_running_sidecar() {
    let world = world().await;
    let one = Measurements::default();
    let mut two = one.clone();
    two.mrtd.0[0] ^= 1;
    two.rtmr[1].0[0] ^= 1;
    put(world.folder.path(), &policy(1, "", &[&one, &two]));
    let sidecar = started(&governed(&world)).await;
    let mixed = Measurements { mrtd: two.mrtd, ..one.clone() };
    for (name, image, welcome) in [("one.sock", one, true), ("two.sock", two, true), ("mixed.sock", mixed, false)] {
        let cvm = Cvm::with_measurements(tee(), CLIENT_APP, CLIENT_COMPOSE.to_vec(), "client", image);
        let (socket, _agent) = agent(world.folder.path(), name, cvm);
        let stream = TcpStream::connect(sidecar.address).await.unwrap();
        let stream = tls(stream, Some(identity(&socket).await), &["postgresql"]).await;
        if welcome {
            Driver::reader(stream).await.unwrap();
            continue;
        }
        let mut driver = Driver::new(stream);
        driver.send(&startup(&[("user", "teesql_read")])).await;
        let refused = driver.refusal().await;
        assert_eq!(refused.sqlstate, "28000");
        assert!(refused.message.contains("another image than expected"), "{}", refused.message);
    }
}

#[tokio::test]
async fn a_newer_policy_cuts_whom_it_forbids_and_an_older_one_never_comes_back() {
    let world = world().await;
    let (folder, image) = (world.folder.path(), Measurements::default());
    let forbidding = format!("compose_hashes = [\"{}\"]", "ab".repeat(32));
    put(folder, &policy(1, "", &[&image]));
    let sidecar = started(&governed(&world)).await;
    let mut live = Driver::reader(world.attested(&sidecar).await).await.unwrap();

    put(folder, &policy(2, &forbidding, &[&image]));
    assert_eq!(timeout(PATIENCE, live.refusal()).await.expect("the session goes on").sqlstate, "57P01");
    becomes(&world, &sidecar, Some("another composition")).await;
    // Half an update, and then the whole.
    std::fs::write(folder.join("policy.toml"), policy(3, "", &[&image])).unwrap();
    assert!(told(&world, &sidecar).await.is_some());
    put(folder, &policy(3, "", &[&image]));
    becomes(&world, &sidecar, None).await;

    put(folder, &policy(2, &forbidding, &[&image]));
    let mut live = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    assert!(timeout(Duration::from_secs(5), live.next()).await.is_err(), "the older policy is in force");
    stop(sidecar).await;
    let refused = World::start(&governed(&world)).await.err().expect("the older policy is in force");
    assert!(matches!(refused, StartError::Evidence(JudgeError::Policy(_))), "{refused}");
    assert_eq!(refused.exit_code(), 78);
    assert!(refused.to_string().contains("version 2, and version 3 has been in force"), "{refused}");
}

#[tokio::test]
async fn the_tunnel_to_a_gateway_that_a_newer_policy_forbids_is_closed() {
    let world = world().await;
    let (folder, image) = (world.folder.path(), Measurements::default());
    put(folder, &policy(1, "", &[&image]));
    let mut gateway = gateway(&world).await;
    let sidecar = started(&(governed(&world) + &link(&gateway))).await;
    gateway.registered(1).await;
    let _through = Driver::reader(gateway.client(world.client_identity().await).await).await.unwrap();

    let client = Cvm::new(tee(), CLIENT_APP, CLIENT_COMPOSE.to_vec(), "client").compose_hash();
    put(folder, &policy(2, &format!("compose_hashes = [\"{client}\"]"), &[&image]));
    sidecar.assert_no_connection_is_left().await;
    becomes(&world, &sidecar, None).await;
    assert!(!sidecar.ground.readiness.is_ready(), "it does not register again");
}

#[tokio::test]
async fn a_policy_that_ends_ends_sessions_and_readiness() {
    let world = world().await;
    let date = time::OffsetDateTime::from_unix_timestamp(i64::try_from(unix_now() + 6).unwrap()).unwrap();
    let date = date.format(&time::format_description::well_known::Rfc3339).unwrap();
    put(world.folder.path(), &policy(1, "", &[&Measurements::default()]).replace("2100-01-01T00:00:00Z", &date));
    let sidecar = started(&governed(&world)).await;
    let mut live = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    assert_eq!(timeout(PATIENCE, live.refusal()).await.expect("the session goes on").sqlstate, "57P01");
    becomes(&world, &sidecar, Some("has expired")).await;
    assert!(!sidecar.ground.readiness.is_ready());
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_no_old_collateral_good() {
    let world = world().await;
    let mark = format!("{{\"now\":{}}}", unix_now() + 100 * DAY);
    std::fs::write(world.folder.path().join("state/high-water.json"), mark).unwrap();
    let keys = "root = \"DIR/root.pem\"\ncollateral = \"DIR/collateral.json\"\nstate_dir = \"DIR/state\"";
    let sidecar = started(&config(&world, keys)).await;
    let (code, message) = told(&world, &sidecar).await.unwrap();
    assert_eq!(code, "28000");
    assert!(message.contains("the certificate has expired"), "by the mark it has: {message}");
    assert!(!sidecar.ground.readiness.is_ready());
}

#[tokio::test]
async fn collateral_is_fetched_for_the_first_client_and_known_after_a_restart() {
    let world = world().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let keys = format!(
        "root = \"DIR/root.pem\"\nstate_dir = \"DIR/state\"\ncollateral_urls = [\"http://{}\"]\ncollateral_timeout = \"5s\"",
        listener.local_addr().unwrap()
    );
    let config = config(&world, &keys);
    let serving = collateral_service::serve(listener, Arc::clone(&tee()), unix_now, std::future::pending());
    let service = Task::spawn("collateral service", async move { drop(serving.await) });
    let sidecar = started(&config).await;
    assert_eq!(told(&world, &sidecar).await, None);
    stop(sidecar).await;
    service.stop().await;
    let sidecar = started(&config).await;
    assert_eq!(told(&world, &sidecar).await, None, "every service is away");
}

#[tokio::test]
async fn a_network_that_shows_too_many_unknown_certificates_is_told_to_try_again() {
    let world = world().await;
    let mut gateway = gateway(&world).await;
    let keys = "root = \"DIR/root.pem\"\ncollateral = \"DIR/collateral.json\"\nappraisals_per_minute = 1\nappraisals_burst = 1";
    let sidecar = started(&(config(&world, keys) + &link(&gateway))).await;
    gateway.registered(1).await;
    let known = world.client_identity().await;
    let through = async |identity| Driver::reader(gateway.client(identity).await).await;
    through(Arc::clone(&known)).await.unwrap();
    let refused = through(world.client_identity().await).await.unwrap_err();
    assert_eq!(refused.sqlstate, "53300");
    assert!(refused.message.contains("try again later"), "{}", refused.message);
    through(known).await.expect("a certificate that is known costs nothing");

    // Another network than the one that the gateway names.
    assert_eq!(told(&world, &sidecar).await, None);
    assert_eq!(told(&world, &sidecar).await.unwrap().0, "53300");
}
