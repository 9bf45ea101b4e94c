//! The other implementations: programs that make an interface and are told the rest by the cross-platform userspace protocol
//! (wireguard.com/xplatform), whose sockets are below /run.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postern_wireguard::{DEFAULT_MTU, PrivateKey, PublicKey};

use crate::namespaces::{LONG, Machine};

/// The name of their interface.
const INTERFACE: &str = "other0";

/// A program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    WireguardGo,
    Boringtun,
}

/// The program at work on a machine.
pub(crate) struct Other {
    child: Child,
    pub(crate) key: PublicKey,
}

impl Program {
    /// Starts it on a machine, with an inner address and the one peer that it is to know.
    pub(crate) fn start(self, machine: &Machine, address: &str, peer: PublicKey, place: Option<&str>) -> Other {
        let (variable, arguments): (_, &[&str]) = match self {
            Self::WireguardGo => ("POSTERN_WIREGUARD_GO", &["--foreground", INTERFACE]),
            Self::Boringtun => ("POSTERN_BORINGTUN_CLI", &["--foreground", "--disable-drop-privileges", INTERFACE]),
        };
        let program = std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} does not say where it is"));
        let child = machine.run(async move {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        });
        let key = PrivateKey::generate();
        let other = Other { child: child.wait(), key: key.public() };
        let endpoint = place.map(|place| format!("endpoint={place}\n")).unwrap_or_default();
        configure(&format!(
            "set=1\nprivate_key={}\nlisten_port=51820\npublic_key={}\n{endpoint}allowed_ip=10.7.0.0/24\n\n",
            hex(key.expose()),
            hex(peer.as_bytes()),
        ));
        machine.ip(&format!("address add {address}/24 dev {INTERFACE}"));
        machine.ip(&format!("link set {INTERFACE} mtu {DEFAULT_MTU} up"));
        other
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Tells the program something, as soon as it listens.
fn configure(what: &str) {
    let started = Instant::now();
    let mut socket = loop {
        match UnixStream::connect(format!("/run/wireguard/{INTERFACE}.sock")) {
            Ok(socket) => break socket,
            Err(error) => assert!(started.elapsed() < LONG, "it does not listen: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    socket.write_all(what.as_bytes()).unwrap();
    let mut answer = String::new();
    let mut some = [0; 64];
    while !answer.ends_with("\n\n") {
        let count = socket.read(&mut some).unwrap();
        assert!(count > 0, "it hung up after {answer:?}");
        answer += std::str::from_utf8(&some[..count]).unwrap();
    }
    assert_eq!(answer, "errno=0\n\n");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
