//! A whole gateway in a simulated CVM, and instances in theirs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway::app::{self, Gateway, Ground};
use gateway::config::Config;
use gateway::register::ALPN;
use postern_attest::{Appraiser, Collateral, PeerPolicy, TcbPolicy, TrustRoot};
use postern_attest_io::{Attestor, Connector, GuestAgent, IdentityKeeper};
use postern_identity::AppId;
use postern_plumbing::admin::Readiness;
use postern_plumbing::clock::unix_now;
use postern_plumbing::http::{Connection, Request, Response};
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::{Task, Tasks};
use postern_simulator::{Cvm, Tee, agent};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixListener};

use super::PATIENCE;
use super::chain::TestChain;

/// The app of the gateway itself.
pub(crate) const GATEWAY_APP: AppId = AppId([0x99; 20]);

/// One TEE with its root, and a folder for everything.
pub(crate) struct Site {
    pub(crate) tee: Arc<Tee>,
    pub(crate) folder: TempDir,
    tasks: Tasks,
}

impl Site {
    pub(crate) fn new(seed: u8) -> Self {
        let (tee, folder) = (Arc::new(Tee::new([seed; 32]).unwrap()), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("root.pem"), tee.root_pem()).unwrap();
        let bundle = tee.collateral_bundle_json(unix_now()).unwrap();
        std::fs::write(folder.path().join("collateral.json"), bundle).unwrap();
        Self { tee, folder, tasks: Tasks::new() }
    }

    pub(crate) fn cvm(&self, app: AppId, instance: &str) -> Arc<Cvm> {
        Arc::new(Cvm::new(Arc::clone(&self.tee), app, b"{\"name\":\"test\"}".to_vec(), instance))
    }

    /// Where the guest agent of a CVM is.
    pub(crate) fn socket(&self, cvm: &Cvm) -> PathBuf {
        self.folder.path().join(format!("{}.sock", &cvm.instance_id().to_string()[..8]))
    }

    /// The guest agent of a CVM, from now on.
    pub(crate) fn agent(&self, cvm: &Arc<Cvm>) -> GuestAgent {
        let path = self.socket(cvm);
        let listener = UnixListener::bind(&path).unwrap();
        let serving = agent::serve(listener, Arc::clone(cvm), unix_now, std::future::pending());
        self.tasks.spawn("agent", async move { serving.await.unwrap() });
        GuestAgent::new(path.display().to_string().parse().unwrap(), Duration::from_secs(5))
    }

    pub(crate) fn attestor(&self) -> Arc<Attestor> {
        let root = TrustRoot::from_pem(self.tee.root_pem().as_bytes()).unwrap();
        let bundle = self.tee.collateral_bundle_json(unix_now()).unwrap();
        Attestor::new(Appraiser::new(root, TcbPolicy::default()), Collateral::from_json(bundle.as_bytes()).unwrap())
    }

    /// The identity of a CVM.
    pub(crate) async fn keeper(&self, cvm: &Arc<Cvm>) -> Arc<IdentityKeeper> {
        let validity = Duration::from_secs(3_600);
        IdentityKeeper::start(self.agent(cvm), vec!["cvm.test".to_owned()], validity, &self.tasks).await.unwrap()
    }

    /// A configuration file for a gateway with this admin port.
    pub(crate) fn write_config(&self, admin: &str) -> PathBuf {
        let path = self.folder.path().join("gateway.toml");
        std::fs::write(&path, config(self.folder.path(), admin)).unwrap();
        path
    }

    /// A gateway with its doors open, in a CVM of its own.
    pub(crate) async fn gateway(&self, chain: &Arc<TestChain>, shutdown: &Shutdown) -> Gateway {
        self.gateway_with(chain, shutdown, &[]).await
    }

    /// The same, with some keys set from the environment.
    pub(crate) async fn gateway_with(
        &self,
        chain: &Arc<TestChain>,
        shutdown: &Shutdown,
        keys: &[(&str, &str)],
    ) -> Gateway {
        self.judged_gateway(chain, shutdown, keys).await.0
    }

    /// The same, with the one who judges evidence for it.
    pub(crate) async fn judged_gateway(
        &self,
        chain: &Arc<TestChain>,
        shutdown: &Shutdown,
        keys: &[(&str, &str)],
    ) -> (Gateway, Arc<Attestor>) {
        let variables = keys.iter().map(|(key, value)| (format!("POSTERN_GATEWAY__{key}"), (*value).to_owned()));
        let config = Config::parse(&config(self.folder.path(), "127.0.0.1:0"), variables).unwrap();
        let agent = self.agent(&self.cvm(GATEWAY_APP, "gateway"));
        let attestor = app::judge(&config.attestation, &Readiness::new(), &self.tasks).await.unwrap();
        let keeper = app::identity(&agent, &config, &self.tasks).await.unwrap();
        let tunnel = app::tunnel(&agent, &keeper, &config.tunnel, &self.tasks).await.unwrap();
        let ground = Ground { keeper, attestor: Arc::clone(&attestor), tunnel, audit: app::audit(&config).unwrap() };
        let chain = Arc::clone(chain);
        (Gateway::open(&config, ground, chain, &Readiness::new(), shutdown.clone()).await.unwrap(), attestor)
    }

    /// Connects to a gateway's registration door, as a CVM or as nobody.
    pub(crate) async fn connect(&self, door: SocketAddr, keeper: Option<Arc<IdentityKeeper>>) -> Registration {
        let connector = Connector::new(keeper, self.attestor(), &[ALPN]);
        let stream = TcpStream::connect(door).await.unwrap();
        let expected = PeerPolicy::app(GATEWAY_APP);
        let attested = connector.connect(stream, "gateway.postern.test", &expected, PATIENCE).await.unwrap();
        Registration { http: Connection::open(attested.stream).await.unwrap() }
    }
}

fn config(folder: &Path, admin: &str) -> String {
    format!(
        r#"
        [edge]
        domains = ["postern.test"]
        listen = ["127.0.0.1:0"]
        [admin]
        listen = "{admin}"
        [registration]
        listen = "127.0.0.1:0"
        url = "https://gateway.postern.test:8432"
        [attestation]
        root = "{root}"
        collateral = "{collateral}"
        [wireguard]
        datapath = "netstack"
        listen = "127.0.0.1:0"
        endpoint = "198.51.100.7:51820"
        [chain]
        rpc_urls = ["http://127.0.0.1:1"]
        kms_contract = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
        [limits]
        drain = "300ms"
        "#,
        root = folder.join("root.pem").display(),
        collateral = folder.join("collateral.json").display(),
    )
}

/// A registration connection.
pub(crate) struct Registration {
    http: Connection,
}

impl Registration {
    pub(crate) async fn post(&mut self, path: &str, body: impl Into<bytes::Bytes>) -> (u16, Value) {
        let request = Request::post("gateway.postern.test", path, body);
        let response: Response = self.http.send(request, 64 * 1024, PATIENCE).await.unwrap();
        (response.status, serde_json::from_slice(&response.body).unwrap())
    }

    pub(crate) async fn register(&mut self, key: &str) -> (u16, Value) {
        let body = serde_json::json!({
            "client_public_key": key,
            "port_policy": { "ports": [{ "port": 5433, "pp": true }], "restrict_mode": true },
            "postern": { "sidecar_port": 5433 },
        });
        self.post("/prpc/RegisterCvm?json", body.to_string()).await
    }

    pub(crate) async fn closed(&mut self) {
        tokio::time::timeout(PATIENCE, self.http.closed()).await.expect("the gateway keeps the connection");
    }
}

/// Runs a gateway until its shutdown.
pub(crate) fn run(gateway: Gateway) -> Task<postern_plumbing::tasks::Drained> {
    Task::spawn("gateway", gateway.run())
}

/// The status and the reason of a refused registration.
pub(crate) fn reason(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["reason"].as_str().unwrap())
}
