//! Connect mode: what drivers get, and what leaves for the server before it is verified.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_attest::{Collateral, PeerPolicy};
use postern_attest_io::{Attestor, Connector, IdentityKeeper};
use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_plumbing::net::{Endpoint, Stream};
use postern_plumbing::tasks::Task;
use postern_sidecar::config::ConnectConfig;
use postern_sidecar::connect::choice::{Balance, SessionAttrs};
use postern_sidecar::connect::forward::{self, Forwarder};
use postern_sidecar::connect::keys::Keys;
use postern_sidecar::connect::pool::PoolSize;
use postern_sidecar::connect::run::Connecting;
use postern_sidecar::connect::target::{Expected, Target};
use postern_sidecar::dial::Place;
use postern_sidecar::packets;
use postern_sidecar::start::Ground;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};

use crate::driver::{Driver, GSSENC_REQUEST, SSL_REQUEST, startup, words};
use crate::world::{READ_SECRET, SERVER_APP, Sidecar, World, agent_client, attestor};

/// A sidecar in connect mode.
pub(crate) struct Beside {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) targets: Vec<Arc<Target>>,
    pub(crate) attestor: Arc<Attestor>,
    pub(crate) ground: Ground,
    _accepting: Task<()>,
}

impl Beside {
    pub(crate) async fn start(world: &World, server: SocketAddr, app: AppId, more: &str) -> Self {
        let target = target("connect.target", server, app);
        Self::with(world, more, &target).await
    }

    /// `more` are further keys of `[connect]`, and `sections` what follows it.
    pub(crate) async fn with(world: &World, more: &str, sections: &str) -> Self {
        let common = world.common(&world.client_agent);
        let listen = if more.contains("listen") { "" } else { "listen = \"127.0.0.1:0\"\n" };
        let text = format!("{common}[connect]\n{listen}{more}\n{sections}");
        let config = ConnectConfig::parse(&text, []).unwrap_or_else(|problems| panic!("{problems}"));
        let ground = Ground::new();
        let connecting = Connecting::start(&config, &ground).await.unwrap().unwrap();
        let endpoints = connecting.endpoints().unwrap();
        let (targets, attestor) = (connecting.targets().to_vec(), Arc::clone(connecting.attestor()));
        let accepting = ground.clone();
        let accepting = Task::spawn("drivers", async move { drop(connecting.accept(&accepting).await) });
        Self { endpoints, targets, attestor, ground, _accepting: accepting }
    }

    pub(crate) async fn connect(&self) -> Stream {
        self.connect_to(0).await
    }

    /// A connection to one of several local ports.
    pub(crate) async fn connect_to(&self, port: usize) -> Stream {
        Stream::connect(&self.endpoints[port]).await.unwrap()
    }
}

/// The section of a server.
pub(crate) fn target(section: &str, server: SocketAddr, app: AppId) -> String {
    let name = server.port();
    let open = if section.ends_with('s') { format!("[[{section}]]") } else { format!("[{section}]") };
    format!("{open}\nname = \"{name}\"\nhost = \"db.example\"\naddress = \"{server}\"\napp_ids = [\"{app}\"]\n")
}

#[tokio::test]
async fn any_driver_gets_a_session_without_tls_of_its_own() {
    let (world, sidecar) = World::serving("").await;
    let beside = Beside::start(&world, sidecar.address, SERVER_APP, "").await;
    let mut stream = beside.connect().await;
    for packet in [GSSENC_REQUEST, SSL_REQUEST] {
        stream.write_all(&packet).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'N');
    }
    let opening = startup(&[("user", "teesql_read"), ("options", "-c a=b")]);
    let mut driver = Driver::log_in(stream, &opening, READ_SECRET).await.unwrap();
    assert_eq!(driver.query("select 1").await.unwrap(), b"select 1");
    assert_eq!(&world.postgres.startups()[0].raw()[..], &opening[..]);
    drop(driver);
    assert!(beside.ground.sessions.close_and_wait(Duration::from_secs(10)).await.clean);
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let (world, sidecar) = World::serving("").await;
    let path = world.folder.path().join("app.sock");
    let listen = format!("listen = \"unix:{}\"\n", path.display());
    let beside = Beside::start(&world, sidecar.address, SERVER_APP, &listen).await;
    Driver::reader(beside.connect().await).await.unwrap();
}

#[tokio::test]
async fn cancels_are_carried_inside_tls() {
    let (world, sidecar) = World::serving("").await;
    let beside = Beside::start(&world, sidecar.address, SERVER_APP, "").await;
    let mut driver = Driver::reader(beside.connect().await).await.unwrap();
    driver.ask("sleep").await;
    while world.postgres.sleepers().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut cancel = beside.connect().await;
    packets::write(&mut cancel, &driver.key.clone().unwrap().request()).await.unwrap();
    let mut said = Vec::new();
    cancel.read_to_end(&mut said).await.unwrap();
    assert!(said.is_empty());
    assert_eq!(driver.answer().await.unwrap_err().sqlstate, "57014");
}

#[tokio::test]
async fn refusals_of_the_server_reach_the_driver() {
    let (world, sidecar) = World::serving(&format!("[clients]\napp_ids = [\"{}\"]\n", "ab".repeat(20))).await;
    let beside = Beside::start(&world, sidecar.address, SERVER_APP, "").await;
    let error = Driver::reader(beside.connect().await).await.unwrap_err();
    assert!(words(&error).0 == "28000" && words(&error).1.contains("another application"), "{error:?}");
}

#[tokio::test]
async fn another_app_is_refused_and_learns_nothing() {
    let (world, sidecar) = World::serving("").await;
    let beside = Beside::start(&world, sidecar.address, AppId([1; 20]), "").await;
    let error = Driver::reader(beside.connect().await).await.unwrap_err();
    assert!(words(&error).0 == "28000" && words(&error).1.contains("another application"), "{error:?}");
    assert!(world.postgres.startups().is_empty());
}

#[tokio::test]
async fn a_server_that_is_none_is_an_error_in_time_and_no_plaintext_reaches_it() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let beside = Beside::start(&world, address, SERVER_APP, "deadline = \"2s\"\n").await;

    // It answers with something else.
    let driver = async { Driver::reader(beside.connect().await).await.unwrap_err() };
    let impostor = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let mut seen = Vec::new();
        drop(stream.read_to_end(&mut seen).await);
        seen
    };
    let (error, seen) = tokio::join!(driver, impostor);
    assert_eq!(error.sqlstate, "57P03", "{error:?}");
    assert_eq!(seen[0], 0x16, "the first byte is TLS");
    assert!(!seen.windows(11).any(|part| part == b"teesql_read"));

    // It says nothing.
    let error = Driver::reader(beside.connect().await).await.unwrap_err();
    assert_eq!(error.sqlstate, "57P03", "{error:?}");

    // It is not there.
    drop(listener);
    let error = Driver::reader(beside.connect().await).await.unwrap_err();
    assert!(words(&error).0 == "57P03" && words(&error).1.contains("cannot be reached"), "{error:?}");
}

#[tokio::test]
async fn nonsense_from_the_driver_reaches_nobody() {
    let (world, sidecar) = World::serving("").await;
    let beside = Beside::start(&world, sidecar.address, SERVER_APP, "deadline = \"1s\"\n").await;
    let glued = [SSL_REQUEST.as_slice(), b"x"].concat();
    for bytes in [b"".as_slice(), &[0x16, 3, 1], b"GET / HTTP/1.1\r\n", &glued, &SSL_REQUEST[..5]] {
        let mut stream = beside.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut said = Vec::new();
        drop(stream.read_to_end(&mut said).await);
    }
    assert_eq!(sidecar.ground.sessions.count(), 0);
}

/// Connect mode's inner part, with room for one connection that is no session.
async fn forwarder(world: &World, sidecar: &Sidecar) -> (Arc<Forwarder>, Arc<Attestor>) {
    forwarder_of(sidecar, world.client_identity().await)
}

fn forwarder_of(sidecar: &Sidecar, keeper: Arc<IdentityKeeper>) -> (Arc<Forwarder>, Arc<Attestor>) {
    let (attestor, changed) = (attestor(), Arc::new(Notify::new()));
    let deadline = Duration::from_secs(20);
    let expected = Expected {
        name: "db".to_owned(),
        place: Place { host: "db.example".to_owned(), port: 5432, address: Some(sidecar.address) },
        peer: PeerPolicy::app(SERVER_APP),
    };
    let connector = Connector::new(Some(keeper), Arc::clone(&attestor), &["postgresql"]);
    let pool = PoolSize { size: 0, idle: deadline };
    let judge = Arc::clone(&attestor);
    let target = Target::new(expected, connector, judge, deadline, pool, Arc::clone(&changed));
    let forwarder = Forwarder {
        targets: vec![target],
        wanted: SessionAttrs::Any,
        balance: Balance::Disable,
        deadline,
        attempt: deadline,
        patience: deadline,
        changed,
        keys: Keys::default(),
        handshakes: Arc::new(Semaphore::new(1)),
    };
    (Arc::new(forwarder), attestor)
}

#[tokio::test]
async fn drivers_that_have_no_session_yet_have_a_limit() {
    let (world, sidecar) = World::serving("").await;
    let ((forwarder, _), ground) = (forwarder(&world, &sidecar).await, Ground::new());
    let connect = || {
        let (near, far) = tokio::io::duplex(4_096);
        forward::serve(&forwarder, far, &ground.sessions);
        near
    };
    let mut first = Driver::reader(connect()).await.unwrap();
    let silent = connect();
    assert_eq!(connect().read(&mut [0; 1]).await.unwrap(), 0, "closed at once");
    assert_eq!(ground.sessions.count(), 2);
    assert_eq!(first.query("select 1").await.unwrap(), b"select 1");
    drop(silent);
    while ground.sessions.count() > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Driver::reader(connect()).await.unwrap();
}

#[tokio::test]
async fn a_session_with_a_server_that_is_no_longer_believed_is_cut() {
    let (world, sidecar) = World::serving("").await;
    let ((forwarder, attestor), ground) = (forwarder(&world, &sidecar).await, Ground::new());
    let (near, far) = tokio::io::duplex(4_096);
    forward::serve(&forwarder, far, &ground.sessions);
    let mut driver = Driver::reader(near).await.unwrap();
    attestor.replace_collateral((*crate::world::attestor().collateral()).clone());
    assert_eq!(driver.query("select 1").await.unwrap(), b"select 1");
    attestor.replace_collateral(Collateral::default());
    let cut = tokio::time::timeout(Duration::from_secs(20), driver.refusal()).await;
    assert_eq!(cut.expect("the session goes on").sqlstate, "57P01");
}

#[tokio::test]
async fn our_certificate_is_renewed_while_sessions_go_on() {
    let (world, sidecar) = World::serving("").await;
    let ground = Ground::new();
    let (agent, validity) = (agent_client(&world.client_agent), Duration::from_secs(3));
    let keeper = IdentityKeeper::start(agent, Vec::new(), validity, &ground.background).await.unwrap();
    let (forwarder, _) = forwarder_of(&sidecar, Arc::clone(&keeper));
    let first = keeper.current();
    let connect = || {
        let (near, far) = tokio::io::duplex(4_096);
        forward::serve(&forwarder, far, &ground.sessions);
        near
    };
    let mut driver = Driver::reader(connect()).await.unwrap();
    let renewed = async {
        while keeper.current().public_key() == first.public_key() || unix_now() <= first.not_after() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("the certificate is renewed");
    assert_eq!(driver.query("select 1").await.unwrap(), b"select 1");
    Driver::reader(connect()).await.unwrap();
}
