use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_attest::{Collateral, Fmspc, Issued};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::attestor::Clock;
use crate::durable;

const MAX_BYTES: usize = 256 * 1024;

/// A clock that is behind by less than this is corrected without a word: NTP does that.
const TOLERATED: u64 = 5;

/// Time that never runs backwards, nor does collateral, across restarts.
///
/// The clock of a confidential VM belongs to its host, which could set it back to when a revoked platform was still good, and
/// present the collateral of that day. The latest time seen is kept on disk, and so is when the newest parts of all accepted
/// collateral were issued. Between two looks at the host's clock the processor's own counter goes on, which the host cannot
/// turn back, so that time does not stand still while the host's clock is wrong.
///
/// A mark that is kept in memory alone holds until the next restart.
///
/// Two things it does not do. It cannot tell a clock that was set forward; only the file's removal undoes one. And whoever
/// can put an old disk in place of the current one takes the mark back with it: `min_tcb_evaluation_number` and `expires` in
/// the signed policy hold where the mark does not.
pub struct HighWater {
    /// Where the mark is written; `None` keeps it in memory.
    path: Option<PathBuf>,
    source: Clock,
    /// When this began, and what time it was.
    began: (Instant, u64),
    latest: AtomicU64,
    state: Mutex<State>,
}

/// What is on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    now: u64,
    #[serde(default)]
    collateral: BTreeMap<String, Issued>,
}

/// Why the mark cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum HighWaterError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} does not hold a high-water mark; if it was damaged, remove it, and time starts anew: {detail}")]
    Malformed {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

/// Collateral with a part from before one that was accepted earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {part} for FMSPC {fmspc} is older than one that was accepted before")]
pub struct CollateralRolledBack {
    /// The kind of platform.
    pub fmspc: Fmspc,
    /// Which part is older.
    pub part: &'static str,
}

impl HighWater {
    /// Reads the mark and raises it to the time of `source`. Reads and writes the disk at once.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds something else: time without a mark is the host's.
    pub fn open(path: impl Into<PathBuf>, source: Clock) -> Result<Arc<Self>, HighWaterError> {
        let path = path.into();
        let opened = Self::risen(read(&path)?, Some(path), source);
        opened.save()?;
        Ok(Arc::new(opened))
    }

    /// Reads the mark as [`Self::open`] does and never writes it, for whoever only wants to know what would count.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn look(path: &Path, source: Clock) -> Result<Arc<Self>, HighWaterError> {
        Ok(Arc::new(Self::risen(read(path)?, None, source)))
    }

    /// A mark for the life of this process, which begins at the time of `source`.
    #[must_use]
    pub fn in_memory(source: Clock) -> Arc<Self> {
        Arc::new(Self::risen(State::default(), None, source))
    }

    fn risen(state: State, path: Option<PathBuf>, source: Clock) -> Self {
        let told = source();
        let now = told.max(state.now);
        if told.saturating_add(TOLERATED) < now {
            tracing::error!(
                clock = told,
                mark = state.now,
                "the clock was set back since the last start; the mark counts, and the host should be asked why"
            );
        }
        Self { path, source, began: (Instant::now(), now), latest: AtomicU64::new(now), state: Mutex::new(state) }
    }

    /// The time, in seconds since 1970: never earlier than it was.
    #[must_use]
    pub fn now(&self) -> u64 {
        let (began, then) = self.began;
        let counted = then.saturating_add(began.elapsed().as_secs());
        let now = (self.source)().max(counted);
        self.latest.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// The time as others ask for it.
    #[must_use]
    pub fn clock(self: &Arc<Self>) -> Clock {
        let this = Arc::clone(self);
        Arc::new(move || this.now())
    }

    /// By how many seconds the host's clock is behind.
    #[must_use]
    pub fn behind(&self) -> u64 {
        let now = self.now();
        now.saturating_sub((self.source)())
    }

    /// Whether nothing of `collateral` is older than what was recorded.
    ///
    /// # Errors
    /// When a part is, with the first one.
    pub fn check(&self, collateral: &Collateral) -> Result<(), CollateralRolledBack> {
        let state = self.state();
        for (fmspc, issued) in collateral.issued() {
            let mark = state.collateral.get(&fmspc.to_string());
            if let Some(part) = mark.and_then(|mark| issued.older_than(mark)) {
                return Err(CollateralRolledBack { fmspc, part });
            }
        }
        Ok(())
    }

    /// Remembers when the parts of `collateral` were issued. Writes the disk at once if anything is newer.
    ///
    /// The collateral has to be verified: what a liar dated into the future would keep everything else out for ever.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record(&self, collateral: &Collateral) -> Result<(), HighWaterError> {
        let mut state = self.state();
        let mut next = state.clone();
        for (fmspc, issued) in collateral.issued() {
            let mark = next.collateral.entry(fmspc.to_string()).or_insert(issued);
            *mark = mark.latest(&issued);
        }
        self.write(&mut state, next)
    }

    /// Writes the mark, if it has risen since it was written last.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> Result<(), HighWaterError> {
        let mut state = self.state();
        let next = State { now: self.now(), ..state.clone() };
        self.write(&mut state, next)
    }

    /// Writes the mark every `every`, for ever. After a restart, time may be as much earlier than it was.
    pub async fn keep(self: Arc<Self>, every: Duration) -> Infallible {
        let mut was_behind = false;
        loop {
            tokio::time::sleep(every).await;
            let behind = self.behind();
            metrics::gauge!("clock_behind_seconds").set(u32::try_from(behind).map_or(f64::MAX, f64::from));
            if (behind > TOLERATED) != was_behind {
                was_behind = behind > TOLERATED;
                tracing::warn!(behind, was_behind, "the host's clock was set back, or is right again");
            }
            let this = Arc::clone(&self);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || this.save()).await {
                tracing::error!(%error, "the high-water mark of the time cannot be written");
            }
        }
    }

    /// Held while the file is written, so that an older mark does not overtake a newer one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &mut State, next: State) -> Result<(), HighWaterError> {
        if *state == next {
            return Ok(());
        }
        if let Some(path) = &self.path {
            serde_json::to_vec(&next)
                .map_err(io::Error::other)
                .and_then(|content| durable::replace(path, &content))
                .map_err(|source| HighWaterError::File { path: path.clone(), source })?;
        }
        *state = next;
        Ok(())
    }
}

fn read(path: &Path) -> Result<State, HighWaterError> {
    let content =
        durable::read(path, MAX_BYTES).map_err(|source| HighWaterError::File { path: path.to_owned(), source })?;
    let Some(content) = content else { return Ok(State::default()) };
    serde_json::from_slice(&content)
        .map_err(|error| HighWaterError::Malformed { path: path.to_owned(), detail: error.to_string() })
}

impl std::fmt::Debug for HighWater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HighWater").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
