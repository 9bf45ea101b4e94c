//! Two simulated CVMs, one with a database and its sidecar and one with a client.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use postern_attest::{Appraiser, Collateral, PeerPolicy, TcbPolicy, TrustRoot};
use postern_attest_io::{Attestor, Connector, GuestAgent, Identity, IdentityKeeper};
use postern_identity::AppId;
use postern_plumbing::Io;
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Task;
use postern_plumbing::telemetry::{LogFormat, Metrics};
use postern_sidecar::config::ServeConfig;
use postern_sidecar::keys;
use postern_sidecar::postgres::supervise::Condition;
use postern_sidecar::serve::accept;
use postern_sidecar::serve::arrival::Arrival;
use postern_sidecar::serve::run::Serving;
use postern_sidecar::start::{Ground, StartError};
use postern_simulator::{Cvm, Tee};
use tokio::io::DuplexStream;
use tokio::net::{TcpStream, UnixListener};
use tokio_rustls::TlsStream;

use crate::postgres::Postgres;

pub(crate) const READ_SECRET: &str = "1f8b6ab9f0f9d7d3c1be4efdfb3a2c55d1b7a4470d8a7b0bb1d6f3a1e6b5c301";
pub(crate) const WRITE_SECRET: &str = "a3c5e9017b2d4f6880912a3b4c5d6e7f8091a2b3c4d5e6f70819203142536475";
pub(crate) const SPARE_SECRET: &str = "5d1f93a07be264c8396de80b5a7f2c1498b3e6d02f47ac61e5083b9d74f1c26a";
pub(crate) const SERVER_APP: AppId = AppId([0x5e; 20]);
pub(crate) const CLIENT_APP: AppId = AppId([0xc1; 20]);
pub(crate) const CLIENT_COMPOSE: &[u8] = b"{\"client\":true}";
const DEADLINE: Duration = Duration::from_secs(20);

/// The platform that everybody trusts.
pub(crate) fn tee() -> Arc<Tee> {
    static TEE: OnceLock<Arc<Tee>> = OnceLock::new();
    Arc::clone(TEE.get_or_init(|| Arc::new(Tee::new([7; 32]).unwrap())))
}

/// A guest agent on a socket in `folder`. It ends when the task is dropped.
pub(crate) fn agent(folder: &Path, name: &str, cvm: Cvm) -> (PathBuf, Task<()>) {
    let socket = folder.join(name);
    let listener = UnixListener::bind(&socket).unwrap();
    let serving = postern_simulator::agent::serve(listener, Arc::new(cvm), unix_now, std::future::pending());
    (socket, Task::spawn("agent", async move { drop(serving.await) }))
}

/// The guest agent's client.
pub(crate) fn agent_client(socket: &Path) -> GuestAgent {
    GuestAgent::new(socket.to_str().unwrap().parse().unwrap(), DEADLINE)
}

pub(crate) fn attestor() -> Arc<Attestor> {
    let root = TrustRoot::from_der(tee().root_der().to_vec()).unwrap();
    let collateral = tee().collateral_bundle_json(unix_now()).unwrap();
    let collateral = Collateral::from_json(collateral.as_bytes()).unwrap();
    Attestor::new(Appraiser::new(root, TcbPolicy::default()), collateral)
}

/// Everything that a test needs.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server_agent: PathBuf,
    pub(crate) client_agent: PathBuf,
    pub(crate) postgres: Postgres,
    _agents: [Task<()>; 2],
}

/// A sidecar in serve mode.
pub(crate) struct Sidecar {
    pub(crate) ground: Ground,
    pub(crate) serving: Serving,
    pub(crate) address: SocketAddr,
}

impl World {
    /// CVMs, agents, secrets and a Postgres.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::write(path.join("root.pem"), tee().root_pem()).unwrap();
        std::fs::write(path.join("kms-root.pem"), tee().kms_root_pem()).unwrap();
        std::fs::write(path.join("collateral.json"), tee().collateral_bundle_json(unix_now()).unwrap()).unwrap();
        std::fs::write(path.join("read"), READ_SECRET).unwrap();
        std::fs::write(path.join("write"), format!("{WRITE_SECRET}\n")).unwrap();
        let server = Cvm::new(tee(), SERVER_APP, b"{\"server\":true}".to_vec(), "server");
        let client = Cvm::new(tee(), CLIENT_APP, CLIENT_COMPOSE.to_vec(), "client");
        let (server_agent, first) = agent(path, "server.sock", server);
        let (client_agent, second) = agent(path, "client.sock", client);
        let password = keys::superuser_password(&agent_client(&server_agent)).await.unwrap();
        let postgres = Postgres::start(path, password.expose());
        Self { server_agent, client_agent, postgres, folder, _agents: [first, second] }
    }

    /// What both modes need to be told.
    pub(crate) fn common(&self, agent: &Path) -> String {
        let folder = self.folder.path().display();
        format!(
            "[agent]\nendpoint = \"unix:{}\"\n[attestation]\nkms_root = \"{folder}/kms-root.pem\"\nroot = \"{folder}/root.pem\"\ncollateral = \"{folder}/collateral.json\"\n",
            agent.display()
        )
    }

    /// The configuration of serve mode; `more` are further sections.
    pub(crate) fn serve_config(&self, more: &str) -> String {
        let folder = self.folder.path().display();
        let common = self.common(&self.server_agent);
        format!(
            "{common}[postgres]\nsocket_dir = \"{folder}\"\n\
             [[roles]]\nname = \"teesql_read\"\nsecret_files = [\"{folder}/read\"]\n\
             [[roles]]\nname = \"teesql_readwrite\"\nsecret_files = [\"{folder}/write\"]\nopens = [\"teesql_read\"]\n{more}"
        )
    }

    /// Starts a sidecar and waits until it has provisioned Postgres. `more` are further sections of its configuration.
    pub(crate) async fn serve(&self, more: &str) -> Sidecar {
        let mut sidecar = self.serve_unprovisioned(more).await;
        let mut postgres = sidecar.serving.postgres().clone();
        assert_eq!(postgres.decided().await, Condition::Ready);
        sidecar.address = sidecar.serving.addresses()[0];
        sidecar
    }

    /// Starts a sidecar.
    pub(crate) async fn serve_unprovisioned(&self, more: &str) -> Sidecar {
        let listen =
            if more.contains("[listen]") { String::new() } else { "[listen]\naddresses = [\"127.0.0.1:0\"]\n".into() };
        Self::start(&(self.serve_config(more) + &listen)).await.unwrap()
    }

    /// Starts a sidecar with this whole configuration.
    pub(crate) async fn start(config: &str) -> Result<Sidecar, StartError> {
        let config = ServeConfig::parse(config, []).unwrap_or_else(|problems| panic!("{problems}"));
        let ground = Ground::new();
        let serving = Serving::start(&config, &ground).await?.unwrap();
        let address = serving.addresses()[0];
        Ok(Sidecar { ground, serving, address })
    }

    /// Starts a sidecar before another Postgres than the played one, that listens in `folder`. `postgres` are further keys of
    /// that section, and `more` further sections.
    pub(crate) async fn serve_before(&self, folder: &Path, postgres: &str, more: &str) -> Sidecar {
        let played = format!("socket_dir = \"{}\"", self.folder.path().display());
        let listen = "[listen]\naddresses = [\"127.0.0.1:0\"]\n";
        let text =
            self.serve_config(more).replace(&played, &format!("socket_dir = \"{}\"\n{postgres}", folder.display()));
        let config = ServeConfig::parse(&(text + listen), []).unwrap_or_else(|problems| panic!("{problems}"));
        let ground = Ground::new();
        let serving = Serving::start(&config, &ground).await.unwrap().unwrap();
        let address = serving.addresses()[0];
        Sidecar { ground, serving, address }
    }

    /// A world and a sidecar in it.
    pub(crate) async fn serving(more: &str) -> (Self, Sidecar) {
        let world = Self::new().await;
        let sidecar = world.serve(more).await;
        (world, sidecar)
    }

    /// The client CVM's identity.
    pub(crate) async fn client_identity(&self) -> Arc<IdentityKeeper> {
        identity(&self.client_agent).await
    }

    /// A verified TLS session from the client CVM to the sidecar.
    pub(crate) async fn attested(&self, sidecar: &Sidecar) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(sidecar.address).await.unwrap();
        tls(stream, Some(self.client_identity().await), &["postgresql"]).await
    }
}

/// A third role, called `spare`, with these keys.
pub(crate) fn spare_role(world: &World, keys: &str) -> String {
    let file = world.folder.path().join("spare");
    std::fs::write(&file, SPARE_SECRET).unwrap();
    format!("[[roles]]\nname = \"spare\"\nsecret_files = [\"{}\"]\n{keys}", file.display())
}

pub(crate) async fn identity(agent: &Path) -> Arc<IdentityKeeper> {
    let hour = Duration::from_secs(3_600);
    IdentityKeeper::of(Identity::issue(&agent_client(agent), &[], hour).await.unwrap())
}

/// TLS to the server app, which is verified.
pub(crate) async fn tls<S: Io>(stream: S, identity: Option<Arc<IdentityKeeper>>, alpn: &[&str]) -> TlsStream<S> {
    let connector = Connector::new(identity, attestor(), alpn);
    let expected = PeerPolicy::app(SERVER_APP);
    connector.connect(stream, "db.example", &expected, DEADLINE).await.unwrap().stream
}

/// What this process counts.
pub(crate) fn metrics() -> Metrics {
    postern_plumbing::telemetry::init(LogFormat::Human, "off")
}

/// The value of a counter of which the line in the Prometheus format holds all of these.
pub(crate) fn counted(metrics: &Metrics, parts: &[&str]) -> u64 {
    let rendered = metrics.render();
    let lines = rendered.lines().filter(|line| parts.iter().all(|part| line.contains(part)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// How many tasks this runtime has.
pub(crate) fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits until there are no more tasks than this; fails when some stay.
pub(crate) async fn assert_tasks_return_to(count: usize) {
    let returned = async {
        while tasks() > count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, returned).await.unwrap_or_else(|_| panic!("{} tasks where {count} were", tasks()));
}

impl Sidecar {
    /// Serves one connection that comes from this address through a pipe in memory.
    pub(crate) fn serve_pipe(&self, client: &str) -> DuplexStream {
        let (near, far) = tokio::io::duplex(16_384);
        let server = Arc::clone(self.serving.server());
        let room = server.handshakes.enter(None).unwrap();
        let client = Some(client.parse().unwrap());
        self.ground.sessions.spawn("piped connection", async move {
            accept::connection(&server, near, Arrival::direct(client), room).await;
        });
        far
    }

    /// Waits until no connection is left; fails when one stays.
    pub(crate) async fn assert_no_connection_is_left(&self) {
        let gone = async {
            while self.ground.sessions.count() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, gone).await.expect("a connection's task is left");
    }
}
