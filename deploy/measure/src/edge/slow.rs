//! Slow clients: each begins a ClientHello, sends a byte of it now and then and never its end, and comes again when it is let
//! go (known as slow loris).

use std::io;
use std::iter::repeat;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use postern_plumbing::tasks::Task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

/// Where they come from: far more networks than an edge could tell to belong together.
pub(super) const NETWORKS: &str = "10.128.0.0/9";
/// How many come from one network, of 24 bits.
const OF_ONE_NETWORK: usize = 100;

/// How long they wait before the next byte.
const PAUSE: Duration = Duration::from_secs(1);
/// What lies between two who come for the first time: so that they do not all come, and go, at once.
const APART: Duration = Duration::from_micros(150);
/// How long it may take until all of them are there.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first bytes of a ClientHello: of the record, the kind, the version and the length, then of the message the same.
const BEGINNING: [u8; 11] = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

/// Slow clients, until this is dropped.
pub(super) struct Slow {
    wanted: usize,
    connected: Arc<AtomicUsize>,
    _clients: Vec<Task<()>>,
}

impl Slow {
    /// Waits until so many are connected.
    pub(super) async fn start(to: SocketAddr, wanted: usize) -> anyhow::Result<Self> {
        let connected = Arc::new(AtomicUsize::new(0));
        let clients = (0..wanted).zip(0_u32..).map(|(number, order)| {
            let connected = Arc::clone(&connected);
            Task::spawn("slow client", async move {
                sleep(APART * order).await;
                loop {
                    // However it ended, it comes again; not at once, if it could not come at all.
                    if dawdle(source(number), to, &connected).await.is_err() {
                        sleep(PAUSE / 10).await;
                    }
                }
            })
        });
        let slow = Self { wanted, _clients: clients.collect(), connected };
        let end = Instant::now() + PATIENCE;
        while slow.check().is_err() && Instant::now() < end {
            sleep(Duration::from_millis(20)).await;
        }
        slow.check()?;
        Ok(slow)
    }

    /// Makes sure that nearly all are connected; some are always on their way back.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let connected = self.connected.load(Ordering::Relaxed);
        ensure!(connected * 20 >= self.wanted * 19, "of {} slow clients, {connected} were connected", self.wanted);
        Ok(())
    }
}

/// Counts a connection while it exists.
struct Connected<'a>(&'a AtomicUsize);

impl<'a> Connected<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The address of a client.
fn source(number: usize) -> SocketAddr {
    let [.., high, low] = (number / OF_ONE_NETWORK).to_be_bytes();
    let [.., last] = (number % OF_ONE_NETWORK + 1).to_be_bytes();
    (Ipv4Addr::new(10, 128 | high, low, last), 0).into()
}

/// One connection, until the edge ends it.
async fn dawdle(from: SocketAddr, to: SocketAddr, count: &AtomicUsize) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    let mut stream = socket.connect(to).await?;
    let _connected = Connected::new(count);
    for byte in BEGINNING.into_iter().chain(repeat(0)) {
        stream.write_all(&[byte]).await?;
        if let Ok(answered) = timeout(PAUSE, stream.read(&mut [0; 64])).await {
            return answered.map(drop);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn everybody_has_an_address_and_no_network_has_many() {
        let addresses: Vec<Ipv4Addr> = (0..20_000)
            .map(|number| match source(number) {
                SocketAddr::V4(address) => *address.ip(),
                SocketAddr::V6(address) => panic!("{address}"),
            })
            .collect();
        assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len());
        assert!(addresses.iter().all(|address| address.octets()[0] == 10 && address.octets()[1] >= 128));
        let networks: BTreeSet<_> = addresses.iter().map(|address| address.octets()[..3].to_vec()).collect();
        assert_eq!(networks.len(), addresses.len() / OF_ONE_NETWORK);
    }
}
