//! A session that goes on while others arrive.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use postern_attest::PeerPolicy;
use postern_attest_io::{Attested, Connector};
use postern_plumbing::Io;
use postern_plumbing::shutdown::Shutdown;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::attested::DEADLINE;
use super::guest::{NAME, SERVER};
use super::service::{REQUEST, RESPONSE};

/// Between two requests, in microseconds: at random, so that requests do not march in step with anything else.
const GAP: std::ops::Range<u64> = 500..1500;

/// Sends requests from a thread of its own until `stop` is raised, and tells how long each took. Says when the session
/// is up.
///
/// Requests have a timetable. One that has to wait for the response before it counts as sent when it was due.
pub(super) async fn converse(
    connector: Connector,
    to: SocketAddr,
    up: oneshot::Sender<()>,
    stop: Shutdown,
) -> anyhow::Result<Vec<Duration>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut session = connector.connect(stream, NAME, &PeerPolicy::app(SERVER), DEADLINE).await?;
    ask(&mut session).await.context("the first request")?;
    up.send(()).ok().context("nobody waits for the session")?;

    let mut random = SmallRng::seed_from_u64(1);
    let (mut due, mut took) = (Instant::now(), Vec::new());
    while !stop.is_triggered() {
        due += Duration::from_micros(random.random_range(GAP));
        let early = due.saturating_duration_since(Instant::now());
        if early > Duration::ZERO {
            // The runtime's timer counts in milliseconds, and this thread has nothing else to do.
            std::thread::sleep(early);
            due = Instant::now();
        }
        ask(&mut session).await?;
        took.push(due.elapsed());
    }
    Ok(took)
}

/// One request and its response.
pub(super) async fn ask<S: Io>(session: &mut Attested<S>) -> std::io::Result<()> {
    session.stream.write_all(&[0; REQUEST]).await?;
    session.stream.read_exact(&mut [0; RESPONSE]).await.map(drop)
}
