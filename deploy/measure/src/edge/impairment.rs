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

/// How many bytes it carries a second each way. Fewer than anybody here could send: what is compared is what becomes of TCP on
/// such a way, and not whose packets cost less.
pub(super) const RATE: u32 = 25_000_000;
/// How long a packet waits for those before it at most; then it is lost, as in any router.
const LONGEST_QUEUE: Duration = Duration::from_millis(40);
/// How many packets the kernel holds for an end of the link: more than are sent while the threads wait for a processor.
const HELD: u32 = 5_000;
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
            let run = move || forward(&from, &to, &stop, Way::new(seed, Instant::now()));
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
    machine.ip(&format!("link set lossy txqueuelen {HELD} up")).await?;
    Ok(device)
}

/// One direction of the link.
struct Way {
    random: SmallRng,
    /// When all that was taken has left.
    free: Instant,
}

impl Way {
    fn new(seed: u64, now: Instant) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), free: now }
    }

    /// Takes a packet of some bytes, and says when it arrives; none when it is lost.
    fn take(&mut self, length: usize, now: Instant) -> Option<Instant> {
        let begins = self.free.max(now);
        if begins - now > LONGEST_QUEUE || self.random.random_bool(LOSS) {
            return None;
        }
        let takes = Duration::from_secs(1) * u32::try_from(length).unwrap_or(u32::MAX) / RATE;
        self.free = begins + takes;
        Some(self.free + DELAY)
    }
}

fn forward(from: &SyncDevice, to: &SyncDevice, stop: &AtomicBool, mut way: Way) {
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        // An error is that there is nothing more, or comes again.
        while let Ok(count) = from.recv(&mut buffer) {
            let packet = buffer.get(..count).unwrap_or_default();
            if let Some(due) = way.take(count, Instant::now()) {
                under_way.push_back((due, packet.to_vec()));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What arrives of packets of 1,000 bytes that are sent for a second, so many bytes a second, and how late the last one is.
    fn arrives(rate: u32) -> (f64, Duration) {
        let begin = Instant::now();
        let (mut way, mut arrived, mut late) = (Way::new(1, begin), 0, Duration::ZERO);
        for number in 0..rate / 1000 {
            let now = begin + Duration::from_secs(1) * number / (rate / 1000);
            if let Some(due) = way.take(1000, now) {
                arrived += 1000;
                late = due - now;
            }
        }
        (f64::from(arrived), late)
    }

    #[test]
    fn one_percent_is_lost_and_all_are_late_but_nothing_waits_below_the_rate() {
        let (arrived, late) = arrives(RATE / 2);
        let lost = 1.0 - arrived / f64::from(RATE / 2);
        assert!((0.005..0.015).contains(&lost), "{lost}");
        assert_eq!(late, DELAY + Duration::from_secs(1) * 1000 / RATE);
    }

    #[test]
    fn above_the_rate_packets_wait_and_the_queue_has_an_end() {
        let (arrived, late) = arrives(RATE * 2);
        let carried = f64::from(RATE) * (Duration::from_secs(1) + LONGEST_QUEUE).as_secs_f64();
        assert!((arrived / carried - 1.0).abs() < 0.01, "{arrived} of {carried}");
        assert!(late > DELAY + LONGEST_QUEUE * 9 / 10 && late < DELAY + LONGEST_QUEUE * 11 / 10, "{late:?}");
    }
}
