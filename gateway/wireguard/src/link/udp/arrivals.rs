//! Datagrams that came in by one system call.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use postern_packets::congestion::Mark;

/// The largest UDP datagram, or several joined by the system, in bytes.
const LARGEST: usize = 65_535;

/// How many messages one system call receives at most: so many that its own cost is small beside theirs.
const MOST: usize = 32;

/// From one message's memory to that of the next: room for the largest, and so much more that the beginnings of all of them,
/// which are mostly all there is, do not compete for the same lines of the processor's cache.
const SLOT: usize = 65_536 + 1_600;

/// One or more datagrams of the same sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) from: SocketAddr,
    pub(crate) len: usize,
    /// The size of each datagram but the last, which may be shorter.
    pub(crate) stride: usize,
    /// What the outer headers say of the way.
    pub(crate) mark: Mark,
}

impl Received {
    fn is_joined(&self) -> bool {
        self.len > self.stride
    }
}

/// Memory for what one system call receives, and what the last one received. It is taken from the machine only as far as it
/// was used.
#[derive(Debug)]
pub(crate) struct Arrivals {
    memory: Vec<u8>,
    messages: Vec<Received>,
    /// Whether the system joined what came last, so that the next message may well be as much as is worked off at a time.
    joined: bool,
}

impl Arrivals {
    pub(crate) fn new() -> Self {
        Self { memory: vec![0; MOST * SLOT], messages: Vec::with_capacity(MOST), joined: false }
    }

    /// Has `receive` receive messages into the memory that it is given, and says whether there may be more. As many as possible
    /// while datagrams come one by one, but only one where the system joins them: what is to be decrypted should still be in
    /// the processor's cache.
    ///
    /// # Errors
    /// Those of `receive`.
    pub(super) fn fill(
        &mut self,
        receive: impl FnOnce(&mut [IoSliceMut<'_>], &mut Vec<Received>) -> io::Result<()>,
    ) -> io::Result<bool> {
        self.messages.clear();
        let most = if self.joined { 1 } else { MOST };
        let mut slots = self.memory.chunks_exact_mut(SLOT);
        let mut room: [_; MOST] = std::array::from_fn(|_| {
            IoSliceMut::new(slots.next().and_then(|slot| slot.get_mut(..LARGEST)).unwrap_or_default())
        });
        receive(room.get_mut(..most).unwrap_or_default(), &mut self.messages)?;
        for message in &mut self.messages {
            message.from.set_ip(message.from.ip().to_canonical());
        }
        self.joined = self.messages.iter().any(Received::is_joined);
        Ok(self.messages.len() >= most)
    }

    /// The messages.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (&Received, &[u8])> {
        let slots = self.memory.chunks_exact(SLOT);
        self.messages.iter().zip(slots).map(|(message, slot)| (message, slot.get(..message.len).unwrap_or_default()))
    }

    /// Every datagram, with the message that it came in.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (&Received, &[u8])> {
        self.messages()
            .flat_map(|(message, bytes)| bytes.chunks(message.stride.max(1)).map(move |datagram| (message, datagram)))
    }
}
