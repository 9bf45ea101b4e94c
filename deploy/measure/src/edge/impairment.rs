//! A bad link in this process: packets between two machines arrive late, and some of them not at all. The kernel's own (netem)
//! is not everywhere, and loses up to 64 KiB at once of what crosses a cable joined; this one is given single packets.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::machine::Machine;
use super::network::{CVM, EDGE};

/// What part of the packets is lost.
pub(super) const LOSS: f64 = 0.01;
/// How much later each of them arrives. Both ways together are a round trip.
pub(super) const DELAY: Duration = Duration::from_millis(20);

/// How many packets may be under way in each direction; more are lost, as in any router.
const UNDER_WAY: usize = 20_000;
/// How long it may take until a stop is noticed, in milliseconds.
const LONGEST_WAIT: u16 = 100;

/// The link. It is there all the time, and used when the routes say so.
pub(super) struct Impairment {
    stop: Arc<AtomicBool>,
}

impl Impairment {
    pub(super) async fn start(edge: &Machine, cvm: &Machine) -> anyhow::Result<Self> {
        let [near, far] = [device(edge).await?, device(cvm).await?].map(Arc::new);
        let stop = Arc::new(AtomicBool::new(false));
        for (seed, from, to) in [(1, Arc::clone(&near), Arc::clone(&far)), (2, far, near)] {
            let stop = Arc::clone(&stop);
            let run = move || forward(&from, &to, &stop, SmallRng::seed_from_u64(seed));
            std::thread::Builder::new().name("lossy".to_owned()).spawn(run)?;
        }
        Ok(Self { stop })
    }

    /// Leads what the two machines send to each other over the link, or over the cable again.
    pub(super) async fn route(&self, edge: &Machine, cvm: &Machine, lossy: bool) -> anyhow::Result<()> {
        for (machine, from, to) in [(edge, EDGE, CVM), (cvm, CVM, EDGE)] {
            let change = if lossy { "add" } else { "del" };
            machine.ip(&format!("route {change} {to}/32 dev lossy src {from}")).await?;
        }
        Ok(())
    }
}

impl Drop for Impairment {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One end of the link.
async fn device(machine: &Machine) -> anyhow::Result<SyncDevice> {
    let open = async {
        let device = DeviceBuilder::new().name("lossy").mtu(1500).build_sync()?;
        device.set_nonblocking(true)?;
        std::io::Result::Ok(device)
    };
    let device = machine.run("device", open).await?.context("a TUN interface")?;
    machine.ip("link set lossy up").await?;
    Ok(device)
}

fn forward(from: &SyncDevice, to: &SyncDevice, stop: &AtomicBool, mut random: SmallRng) {
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        // An error is that there is nothing more, or comes again.
        while let Ok(count) = from.recv(&mut buffer) {
            let packet = buffer.get(..count).unwrap_or_default();
            if under_way.len() < UNDER_WAY && !random.random_bool(LOSS) {
                under_way.push_back((Instant::now() + DELAY, packet.to_vec()));
            }
        }
        let now = Instant::now();
        while let Some((_, packet)) = under_way.pop_front_if(|(due, _)| *due <= now) {
            // What the other machine does not take is lost on the way.
            drop(to.send(&packet));
        }
        let wait = under_way.front().map(|(due, _)| due.saturating_duration_since(now));
        let wait = wait.map_or(LONGEST_WAIT, milliseconds).min(LONGEST_WAIT);
        let mut waited = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waited, PollTimeout::from(wait)).is_err() {
            std::thread::sleep(Duration::from_millis(wait.into()));
        }
    }
}

/// Rounded up, so that nothing is waited for in vain.
fn milliseconds(duration: Duration) -> u16 {
    u16::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u16::MAX)
}
