//! What the thread of a queue does: it waits for the interface and the socket at once, and moves packets both ways.
//!
//! One thread for both directions, as a connection's packets mostly cause packets the other way: what the kernel has to say
//! to those that came in is there when the thread looks, and nobody has to be woken for it. Nor is there anybody to wait for
//! at the session of a peer, whose datagrams all come to one socket, and its connections to the queue of the same number.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use postern_packets::join::Joiner;

use super::Tun;
use super::device::Queue;
use super::inbound;
use super::outbound::Splitter;
use crate::clock;
use crate::link::{PAUSE, Receiver, TICK, Udp};

/// As long as a thread waits at most, since others may have left something for the socket meanwhile.
const TIMEOUT: Duration = TICK;

/// How often the socket is read before the interface gets its turn. What the kernel has to say to what came in is then sent at
/// once, in one system call; it waits for no more than this.
const RECEIVES_IN_A_ROW: usize = 2;

/// The thread of one queue and one socket.
pub(super) struct Worker<'a> {
    tun: &'a Tun,
    queue: &'a Queue,
    udp: &'a Udp,
    receiver: Receiver,
    joiner: Joiner,
    splitter: Splitter<'a>,
    /// When the timers of the sessions are driven next, by the thread that does it for all.
    tick: Option<Instant>,
    /// Whether there was more to receive when the interface got its turn.
    more: bool,
}

/// What there is to do.
struct Ready {
    datagrams: bool,
    packets: bool,
    /// Whether the socket has room for what waits.
    room: bool,
}

impl<'a> Worker<'a> {
    pub(super) fn new(tun: &'a Tun, number: usize, mtu: u16) -> Self {
        let udp = tun.link.udp(number);
        Self {
            tun,
            queue: tun.device.queue(number),
            udp,
            receiver: Receiver::new(),
            joiner: Joiner::default(),
            splitter: Splitter::new(tun, udp, mtu),
            tick: (number == 0).then(clock::now),
            more: false,
        }
    }

    /// Moves packets until the tunnel stops, when `stop` is closed at its other end.
    pub(super) fn run(&mut self, stop: &UnixStream) {
        while !self.tun.shutdown.is_triggered() {
            if let Err(error) = self.turn(stop) {
                self.tun.link.note_unreadable("the tunnel's interface or socket", &error);
                sleep(PAUSE);
            }
        }
    }

    /// Waits until there is something to do, and does as much of it as is fair to the other direction.
    fn turn(&mut self, stop: &UnixStream) -> io::Result<()> {
        let ready = if self.more && !self.udp.is_backlogged() {
            // Nothing to wait for.
            Ready { datagrams: true, packets: true, room: false }
        } else {
            self.wait(stop)?
        };
        let now = clock::now();
        if self.tick.is_some_and(|tick| tick <= now) {
            self.tun.link.contain(|| self.tun.link.tick(now));
            self.tick = Some(now + TICK);
        }
        if ready.room {
            self.udp.send_backlog();
        }
        if ready.datagrams {
            self.more = false;
            self.more = self.receive(now)?;
        }
        // What the kernel is given it mostly answers at once. What it holds back while the socket is full makes its TCP send less.
        if (ready.packets || ready.datagrams) && !self.udp.is_congested() {
            let Self { tun, queue, splitter, .. } = self;
            tun.link.contain(|| splitter.send_some(queue, now)).unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    /// Hands on what the socket has, as much of it as is fair. Returns whether there may be more.
    fn receive(&mut self, now: Instant) -> io::Result<bool> {
        let Self { tun, queue, udp, receiver, joiner, .. } = self;
        for _ in 0..RECEIVES_IN_A_ROW {
            if !tun.link.receive_some(udp, receiver, now, |inbound, _| inbound::deliver(joiner, tun, queue, inbound))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn wait(&self, stop: &UnixStream) -> io::Result<Ready> {
        let socket = self.udp.socket()?;
        let of_socket =
            if self.udp.is_backlogged() { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
        let mut waited = [
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(socket.as_fd(), of_socket),
            PollFd::new(self.queue.as_fd(), PollFlags::POLLIN),
        ];
        let waited = if self.udp.is_congested() { waited.get_mut(..2).unwrap_or_default() } else { &mut waited };
        match poll(waited, PollTimeout::try_from(TIMEOUT).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let of = |place: usize| waited.get(place).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        // An error is found by reading.
        let others = PollFlags::all() - PollFlags::POLLOUT;
        Ok(Ready {
            datagrams: of(1).intersects(others),
            packets: !of(2).is_empty(),
            room: of(1).contains(PollFlags::POLLOUT),
        })
    }
}
