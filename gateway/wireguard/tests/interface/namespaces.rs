//! Two machines that have nothing but a cable between them.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use postern_plumbing::tasks::Tasks;
use postern_wireguard::{DEFAULT_MTU, Datapath, Peer, PrivateKey, TcpSettings, Tunnel, TunnelConfig};
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::oneshot;

/// Long enough for anything on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// The port that servers in tests listen on.
pub(crate) const PORT: u16 = 5433;
/// Where the ends of the cable are, by the host's number.
const CABLE: &str = "192.0.2.";
/// Says that this process is in a network namespace of its own.
const INSIDE: &str = "POSTERN_TEST_IN_NAMESPACE";

/// Runs a test again in a process that has a user and a network namespace of its own, in which it may do what root may.
/// `wrapper` is what starts the process there, if something has to.
pub(crate) fn isolated(test: &str, wrapper: &[&str], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--"]).args(wrapper).arg(std::env::current_exe().unwrap());
    let status = command.args([test, "--exact", "--nocapture"]).env(INSIDE, "yes").status().unwrap();
    assert!(status.success(), "{test} failed in its own network namespace");
}

/// A machine. Everything that belongs to its network has to be made by tasks that run there.
pub(crate) struct Machine {
    handle: Handle,
    thread: nix::unistd::Pid,
    _running: oneshot::Sender<()>,
}

impl Machine {
    fn new() -> Self {
        let (tell, told) = mpsc::channel();
        let (running, stop) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let runtime: Runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tell.send((runtime.handle().clone(), gettid())).unwrap();
            runtime.block_on(stop).unwrap_err();
        });
        let (handle, thread) = told.recv().unwrap();
        Self { handle, thread, _running: running }
    }

    /// Runs a future on the machine.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Running<T> {
        let (tell, told) = mpsc::channel();
        self.handle.spawn(async move { drop(tell.send(work.await)) });
        Running(told)
    }

    pub(crate) fn ip(&self, arguments: &str) {
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let done = self.run(async move { Command::new("ip").args(&arguments).status().map(|status| status.success()) });
        assert!(done.wait().unwrap());
    }

    /// An end of a tunnel on this machine.
    pub(crate) fn tunnel(&self, address: IpAddr, datapath: Datapath) -> Tunnel {
        self.tunnel_with("0.0.0.0:51820", address, DEFAULT_MTU, datapath)
    }

    /// An end with an MTU of its own, which listens on an address of its own.
    pub(crate) fn tunnel_with(&self, listen: &str, address: IpAddr, mtu: u16, datapath: Datapath) -> Tunnel {
        self.tunnel_of(config(listen, address, mtu), datapath)
    }

    /// An end with this configuration.
    pub(crate) fn tunnel_of(&self, config: TunnelConfig, datapath: Datapath) -> Tunnel {
        let tcp = TcpSettings::default();
        self.run(async move { Tunnel::start_with(config, datapath, tcp, &Tasks::new()).await.unwrap() }).wait()
    }
}

/// The configuration of an end with a key of its own.
pub(crate) fn config(listen: &str, address: IpAddr, mtu: u16) -> TunnelConfig {
    TunnelConfig {
        private_key: PrivateKey::generate(),
        listen: listen.parse().unwrap(),
        address,
        mtu,
        in_batches: true,
    }
}

/// What a machine is busy with.
pub(crate) struct Running<T>(mpsc::Receiver<T>);

impl<T> Running<T> {
    pub(crate) fn wait(self) -> T {
        self.0.recv_timeout(4 * LONG).unwrap_or_else(|error| panic!("a task of a machine did not end well: {error}"))
    }
}

/// Two machines with a cable between them, the addresses 192.0.2.1 and 192.0.2.2 at its ends.
pub(crate) fn machines() -> (Machine, Machine) {
    let (one, other) = (Machine::new(), Machine::new());
    one.ip(&format!("link add cable type veth peer name cable netns {}", other.thread));
    for (machine, number) in [(&one, 1), (&other, 2)] {
        machine.ip("link set lo up");
        machine.ip(&format!("address add {CABLE}{number}/24 dev cable"));
        machine.ip("link set cable up");
    }
    (one, other)
}

/// An end of a tunnel on each of two machines, which know each other. Only the first knows where the other is.
pub(crate) struct Pair {
    pub(crate) client: Tunnel,
    pub(crate) server: Tunnel,
    pub(crate) near: Machine,
    pub(crate) far: Machine,
    /// Where the server's datagrams arrive.
    endpoint: SocketAddr,
}

impl Pair {
    pub(crate) fn new(datapaths: [Datapath; 2]) -> Self {
        Self::with_addresses(datapaths, ["10.7.0.1", "10.7.0.2"])
    }

    pub(crate) fn with_addresses(datapaths: [Datapath; 2], addresses: [&str; 2]) -> Self {
        Self::over(machines(), ["0.0.0.0:51820", &format!("{CABLE}2:51820")], datapaths, addresses)
    }

    /// A pair whose datagrams are IPv6.
    pub(crate) fn over_ipv6(datapaths: [Datapath; 2]) -> Self {
        let (near, far) = machines();
        for (machine, number) in [(&near, 1), (&far, 2)] {
            machine.ip(&format!("address add 2001:db8::{number}/64 dev cable nodad"));
        }
        Self::over((near, far), ["[::]:51820", "[2001:db8::2]:51820"], datapaths, ["10.7.0.1", "10.7.0.2"])
    }

    fn over(
        machines: (Machine, Machine),
        [listen, endpoint]: [&str; 2],
        datapaths: [Datapath; 2],
        addresses: [&str; 2],
    ) -> Self {
        let (near, far) = machines;
        let client = near.tunnel_with(listen, addresses[0].parse().unwrap(), DEFAULT_MTU, datapaths[0]);
        let server = far.tunnel_with(listen, addresses[1].parse().unwrap(), DEFAULT_MTU, datapaths[1]);
        let pair = Self { client, server, near, far, endpoint: endpoint.parse().unwrap() };
        pair.introduce();
        pair
    }

    /// Makes the ends know each other.
    pub(crate) fn introduce(&self) {
        self.client.set_peer(peer(&self.server, Some(self.endpoint)));
        self.server.set_peer(peer(&self.client, None));
    }

    /// Where [`PORT`] of the server is.
    pub(crate) fn at(&self) -> SocketAddr {
        SocketAddr::new(self.server.address(), PORT)
    }
}

fn peer(tunnel: &Tunnel, endpoint: Option<SocketAddr>) -> Peer {
    let allowed = vec![tunnel.address().into()];
    Peer { public_key: tunnel.public_key(), endpoint, allowed, keepalive: None, mtu: None }
}
