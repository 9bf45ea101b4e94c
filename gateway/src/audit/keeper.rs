//! The thread that writes the trail, so that no task ever waits for the disk, and what becomes of lines that cannot be written.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use postern_gateway_core::trail::Head;
use tokio::sync::{mpsc, oneshot};

use postern_plumbing::sparing::Sparing;

use super::event::Event;
use super::file::{Disk, TrailFile};
use crate::metrics;

/// How many lines may wait to be written.
pub(super) const QUEUE: usize = 8_192;
/// How many of them are written at once.
const BATCH: usize = 512;

/// How long a line that nobody waits for may wait for more of them: one trip to the disk is for all.
const GATHERED: Duration = Duration::from_millis(20);

/// How often the head is put into the ordinary log, while lines are written.
const TELL_EVERY: Duration = Duration::from_secs(10 * 60);

/// The trail has not taken a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit trail cannot be written")]
pub struct Unwritten;

/// A line on its way.
struct Pending {
    kind: &'static str,
    text: String,
    /// Who waits until it is written.
    done: Option<oneshot::Sender<Result<(), Unwritten>>>,
    /// Whether it is the last one.
    last: bool,
}

impl Pending {
    fn is_urgent(&self) -> bool {
        self.done.is_some() || self.last
    }
}

/// Where lines are handed in.
#[derive(Debug)]
pub(super) struct Keeper {
    queue: mpsc::Sender<Pending>,
    /// Who writes. It is woken where somebody waits.
    thread: Thread,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Lines that are not in the trail, by kind, and not yet told of in it.
    lost: Mutex<BTreeMap<&'static str, u64>>,
    broken: AtomicBool,
}

impl Keeper {
    /// Starts to write. The thread ends with [`Keeper::close`], or with its last handle.
    pub(super) fn start(file: TrailFile<fs::File>) -> std::io::Result<Self> {
        Self::of(file, TrailFile::rotate)
    }

    fn of<D: Disk>(
        mut file: TrailFile<D>,
        rotate: impl Fn(&mut TrailFile<D>) -> std::io::Result<()> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("audit".into()).spawn(move || {
            let (mut told, complaints) = (Instant::now(), Sparing::new(1, Duration::from_secs(60)));
            while let Some(batch) = next(&mut waiting) {
                let last = batch.iter().any(|pending| pending.last);
                for_thread.write(&mut file, batch);
                let kept = rotate(&mut file).and_then(|()| file.keep_head_sometimes(Instant::now()));
                if let Err(error) = kept
                    && complaints.turn((), Instant::now()).is_some()
                {
                    tracing::warn!(%error, "the audit trail is not set aside, or its head not kept beside it");
                }
                if told.elapsed() >= TELL_EVERY {
                    tell(file.head());
                    told = Instant::now();
                }
                if last {
                    break;
                }
            }
            if let Err(error) = file.keep_head() {
                tracing::warn!(%error, "the head of the audit trail is not kept beside it");
            }
            tell(file.head());
        })?;
        Ok(Self { queue, thread: thread.thread().clone(), shared })
    }

    /// Whether the last line could not be written.
    pub(super) fn is_broken(&self) -> bool {
        self.shared.broken.load(Ordering::Relaxed)
    }

    /// Hands in a line. When it cannot be written, the trail says later how many of its kind are missing.
    pub(super) fn hand_in(&self, event: &Event<'_>) {
        let pending = Pending { kind: event.event, text: event.text(), done: None, last: false };
        if self.queue.try_send(pending).is_err() {
            self.shared.lose(event.event);
        }
    }

    /// The same for a line of which there may be very many, so that they never take the room of the others.
    pub(super) fn hand_in_where_room_is(&self, event: &Event<'_>) {
        if self.queue.capacity() > QUEUE / 2 {
            self.hand_in(event);
        } else {
            self.shared.lose(event.event);
        }
    }

    /// Hands in a line and waits until it is written.
    pub(super) async fn write(&self, event: &Event<'_>) -> Result<(), Unwritten> {
        let (done, written) = oneshot::channel();
        let pending = Pending { kind: event.event, text: event.text(), done: Some(done), last: false };
        if self.queue.try_send(pending).is_err() {
            self.shared.lose(event.event);
            return Err(Unwritten);
        }
        self.thread.unpark();
        written.await.unwrap_or(Err(Unwritten))
    }

    /// Writes a last line, and waits until everything is on the disk.
    pub(super) async fn close(&self, event: &Event<'_>) {
        let last = Pending { kind: event.event, text: event.text(), done: None, last: true };
        // It waits for room. Where the thread has ended, there is nothing to wait for.
        let _sent: Result<(), _> = self.queue.send(last).await;
        self.thread.unpark();
        self.queue.closed().await;
    }
}

impl Shared {
    fn write<D: Disk>(&self, file: &mut TrailFile<D>, batch: Vec<Pending>) {
        let lost = self.lost();
        let told: Vec<String> = lost.iter().map(|(kind, count)| Event::lost(kind, *count).text()).collect();
        let lines = told.iter().map(String::as_str).chain(batch.iter().map(|pending| pending.text.as_str()));
        let written = file.append(lines);
        match &written {
            Ok(()) => metrics::audit_lines(file.head().count),
            Err(_) => {
                let missing = batch.iter().map(|pending| (pending.kind, 1));
                lost.iter().map(|(kind, count)| (*kind, *count)).chain(missing).for_each(|(kind, count)| {
                    self.lose_some(kind, count);
                });
                metrics::audit_lost(batch.len());
            }
        }
        let answer = written.as_ref().map(drop).map_err(|_| Unwritten);
        self.note(written.map_err(|error| error.to_string()));
        for done in batch.into_iter().filter_map(|pending| pending.done) {
            // Whoever does not wait any more has refused already.
            let _heard: Result<(), _> = done.send(answer);
        }
    }

    /// Takes what has been lost so far, to be told of.
    fn lost(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lose(&self, kind: &'static str) {
        metrics::audit_lost(1);
        self.lose_some(kind, 1);
    }

    fn lose_some(&self, kind: &'static str, count: u64) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += count;
    }

    /// Notes whether writing works, and says so when that has changed.
    fn note(&self, outcome: Result<(), String>) {
        let was_broken = self.broken.swap(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Err(error) if !was_broken => {
                tracing::error!(error, "the audit trail cannot be written: nobody new is admitted");
            }
            Ok(()) if was_broken => tracing::info!("the audit trail is written again"),
            Ok(()) | Err(_) => {}
        }
    }
}

/// The next lines: as soon as somebody waits for one of them, or some have gathered. `None` when nobody can hand in any more.
fn next(waiting: &mut mpsc::Receiver<Pending>) -> Option<Vec<Pending>> {
    let mut batch = vec![waiting.blocking_recv()?];
    let due = Instant::now() + GATHERED;
    loop {
        while batch.len() < BATCH
            && let Ok(pending) = waiting.try_recv()
        {
            batch.push(pending);
        }
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() || batch.len() >= BATCH || batch.iter().any(Pending::is_urgent) {
            return Some(batch);
        }
        // Whoever waits wakes this thread after handing in.
        thread::park_timeout(left);
    }
}

/// Puts the head into the ordinary log, which usually ends up on another machine: an anchor out of reach of whoever changes
/// the file.
pub(super) fn tell(head: Head) {
    tracing::info!(head = %head, "audit trail");
}

#[cfg(test)]
mod tests;
