//! TCP through a tunnel whose far end is not ours, begun by either end, over changes of the keys.

use std::net::SocketAddr;

use postern_plumbing::tasks::Task;
use postern_wireguard::{Datapath, Peer, PublicKey, Tunnel};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, sleep, timeout};

use crate::namespaces::{LONG, PORT, isolated, machines};
use crate::others::Program;

/// What is between two changes of the keys: a handshake is not repeated sooner.
const PAUSE: Duration = Duration::from_millis(1_100);
/// How often the keys change while bytes move.
const CHANGES: usize = 3;

/// Each program keeps its socket below /run, which is therefore the test's own.
const OWN_RUN: [&str; 7] = ["unshare", "--mount", "--", "sh", "-c", "mount -t tmpfs tmpfs /run && exec \"$@\"", "sh"];

fn ours(tunnel: &Tunnel, other: PublicKey, endpoint: Option<SocketAddr>) {
    let allowed = vec!["10.7.0.2/32".parse().unwrap()];
    tunnel.set_peer(Peer { public_key: other, endpoint, allowed, keepalive: None, mtu: None });
}

/// Sends blocks until `enough`, and then the end; returns the digest of what was sent.
async fn send(mut to: impl AsyncWrite + Unpin, enough: impl Fn(usize) -> bool) -> Vec<u8> {
    let block: Vec<u8> = (0..100_003_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let (mut hash, mut blocks) = (Sha256::new(), 0);
    while !enough(blocks) {
        to.write_all(&block).await.unwrap();
        hash.update(&block);
        blocks += 1;
    }
    to.shutdown().await.unwrap();
    hash.finalize().to_vec()
}

async fn receive(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut buffer, mut hash) = (vec![0; 64 * 1024], Sha256::new());
    loop {
        match from.read(&mut buffer).await.unwrap() {
            0 => return hash.finalize().to_vec(),
            count => hash.update(&buffer[..count]),
        }
    }
}

async fn echo(stream: impl AsyncRead + AsyncWrite) {
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await.unwrap();
    write.shutdown().await.unwrap();
}

/// Talks to an echo until `enough`; whether what came back is what was sent.
async fn talk(stream: impl AsyncRead + AsyncWrite, enough: impl Fn(usize) -> bool) -> bool {
    let (read, write) = tokio::io::split(stream);
    let (sent, received) = timeout(4 * LONG, async { tokio::join!(send(write, enough), receive(read)) }).await.unwrap();
    sent == received
}

fn we_call(test: &str, program: Program, datapath: Datapath) {
    isolated(test, &OWN_RUN, || {
        let (near, far) = machines();
        let tunnel = near.tunnel("10.7.0.1".parse().unwrap(), datapath);
        let other = program.start(&far, "10.7.0.2", tunnel.public_key(), None);
        ours(&tunnel, other.key, Some("192.0.2.2:51820".parse().unwrap()));
        let (tell, told) = std::sync::mpsc::channel();
        let served = far.run(async move {
            let listener = TcpListener::bind(("10.7.0.2", PORT)).await.unwrap();
            tell.send(()).unwrap();
            echo(listener.accept().await.unwrap().0).await;
        });
        told.recv().unwrap();
        let (calling, key) = (tunnel.clone(), other.key);
        let same = near.run(async move {
            let stream = calling.connect(SocketAddr::new("10.7.0.2".parse().unwrap(), PORT), LONG).await.unwrap();
            let rekeyed = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let (counted, changing) = (std::sync::Arc::clone(&rekeyed), calling.clone());
            let changes = Task::spawn("changes-of-keys", async move {
                for _ in 0..CHANGES {
                    sleep(PAUSE).await;
                    assert!(changing.handshake(&key));
                    while changing.peer(&key).unwrap().last_handshake.is_none_or(|age| age > PAUSE) {
                        sleep(Duration::from_millis(20)).await;
                    }
                    counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
            let enough = |blocks| blocks >= 100 && rekeyed.load(std::sync::atomic::Ordering::SeqCst) == CHANGES;
            let same = talk(stream, enough).await;
            changes.join().await.unwrap();
            same
        });
        assert!(same.wait(), "what came back is not what was sent");
        served.wait();
    });
}

fn they_call(test: &str, program: Program, datapath: Datapath) {
    isolated(test, &OWN_RUN, || {
        let (near, far) = machines();
        let tunnel = near.tunnel("10.7.0.1".parse().unwrap(), datapath);
        let other = program.start(&far, "10.7.0.2", tunnel.public_key(), Some("192.0.2.1:51820"));
        ours(&tunnel, other.key, None);
        let listening = tunnel.clone();
        let listener = near.run(async move { listening.listen(PORT).unwrap() }).wait();
        let served = near.run(async move { echo(listener.accept().await.0).await });
        let same = far.run(async move {
            let stream = timeout(LONG, TcpStream::connect(("10.7.0.1", PORT))).await.unwrap().unwrap();
            talk(stream, |blocks| blocks >= 200).await
        });
        assert!(same.wait(), "what came back is not what was sent");
        served.wait();
        let status = tunnel.peer(&other.key).unwrap();
        assert_eq!(status.endpoint, Some("192.0.2.2:51820".parse().unwrap()), "learned from its datagrams");
    });
}

/// A test for each way to meet.
macro_rules! meetings {
    ($($name:ident: $how:ident, $program:ident, $datapath:ident;)*) => {
        $(#[test]
        fn $name() {
            $how(concat!("talks::", stringify!($name)), Program::$program, Datapath::$datapath);
        })*
    };
}

meetings! {
    we_call_wireguard_go: we_call, WireguardGo, Tun;
    wireguard_go_calls_us: they_call, WireguardGo, Tun;
    we_call_boringtun: we_call, Boringtun, Tun;
    boringtun_calls_us: they_call, Boringtun, Tun;
    we_call_wireguard_go_without_privileges: we_call, WireguardGo, Netstack;
    wireguard_go_calls_us_without_privileges: they_call, WireguardGo, Netstack;
    we_call_boringtun_without_privileges: we_call, Boringtun, Netstack;
    boringtun_calls_us_without_privileges: they_call, Boringtun, Netstack;
}
