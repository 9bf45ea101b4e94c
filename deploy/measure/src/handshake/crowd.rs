//! Strangers who arrive whether or not those before them were served.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use postern_attest::PeerPolicy;
use postern_attest_io::{Attestor, Connector};
use postern_plumbing::tasks::Task;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep_until};

use super::attested::DEADLINE;
use super::guest::{ALPN, Guest, NAME, SERVER};
use super::live::ask;

/// A peer that nobody has seen before.
pub(super) struct Stranger {
    connector: Connector,
    /// One of the machine's own addresses, since servers limit what one address may cost them.
    address: Ipv4Addr,
}

/// What became of a crowd.
pub(super) struct Crowd {
    /// How long those took who were served: from when they were due to the response to their first request.
    pub(super) served: Vec<Duration>,
    /// Why others were not.
    pub(super) refused: Vec<String>,
    /// From the beginning to the last arrival.
    pub(super) arriving: Duration,
    /// From the beginning to when the last arrival was due.
    pub(super) timetable: Duration,
}

impl Stranger {
    /// Strangers with a certificate and an address each.
    pub(super) async fn issue(guest: &Guest, attestor: &Arc<Attestor>, count: usize) -> anyhow::Result<Vec<Self>> {
        let mut strangers = Vec::with_capacity(count);
        for number in 0..count {
            let connector = Connector::new(Some(guest.identity().await?), Arc::clone(attestor), ALPN);
            strangers.push(Self { connector, address: address(number) });
        }
        Ok(strangers)
    }

    /// Connects, is judged, and leaves with a response.
    async fn visit(self, to: SocketAddr) -> anyhow::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.address, 0).into())?;
        socket.set_nodelay(true)?;
        let stream = socket.connect(to).await?;
        let mut session = self.connector.connect(stream, NAME, &PeerPolicy::app(SERVER), DEADLINE).await?;
        Ok(ask(&mut session).await?)
    }
}

/// An address of the loopback network, other than the usual one.
fn address(number: usize) -> Ipv4Addr {
    let [.., high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

/// Has strangers arrive at random, `rate` a second on average (a Poisson process, the same for the same seed), and waits
/// until all are gone.
pub(super) async fn arrive(strangers: Vec<Stranger>, to: SocketAddr, rate: f64, seed: u64) -> anyhow::Result<Crowd> {
    let mut random = SmallRng::seed_from_u64(seed);
    let begin = Instant::now();
    let (mut due, mut visits) = (begin, Vec::with_capacity(strangers.len()));
    for stranger in strangers {
        // 1 - u is never zero, of which there is no logarithm.
        let gap = -(1.0 - random.random::<f64>()).ln() / rate;
        due += Duration::from_secs_f64(gap);
        sleep_until(due).await;
        visits.push(Task::spawn("stranger", async move {
            let outcome = stranger.visit(to).await;
            (outcome, due.elapsed())
        }));
    }
    let (arriving, timetable) = (begin.elapsed(), due - begin);
    let mut crowd = Crowd { served: Vec::new(), refused: Vec::new(), arriving, timetable };
    for visit in visits {
        match visit.join().await? {
            (Ok(()), took) => crowd.served.push(took),
            (Err(error), _) => crowd.refused.push(format!("{error:#}")),
        }
    }
    Ok(crowd)
}
