//! The sessions that go through the gateway now, so that they can be counted, limited and cut.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use postern_gateway_core::refusal::Refusal;
use postern_identity::{AppId, InstanceId};
use postern_plumbing::relay::Progress;

use crate::metrics;

/// Every session. Clones share them.
#[derive(Debug, Clone)]
pub struct Sessions {
    live: Arc<Mutex<Live>>,
    max_per_app: usize,
}

#[derive(Debug, Default)]
struct Live {
    last: u64,
    instances: BTreeMap<InstanceId, BTreeMap<u64, Entry>>,
    apps: BTreeMap<AppId, usize>,
}

#[derive(Debug)]
struct Entry {
    shared: Arc<Shared>,
    metered: Metered,
}

/// What a session and whoever looks at it have in common. There is one task per session, which asks for each of its messages
/// whether it was cut: that takes no lock.
#[derive(Debug, Default)]
struct Shared {
    progress: Progress,
    cut: AtomicBool,
    task: AtomicWaker,
}

/// What of a session's bytes was given to the metrics already.
#[derive(Debug, Default)]
struct Metered {
    to_upstream: u64,
    to_client: u64,
}

/// One session, which is live until this is dropped.
#[derive(Debug)]
pub struct Session {
    number: u64,
    app: AppId,
    instance: InstanceId,
    shared: Arc<Shared>,
    owner: Sessions,
}

impl Sessions {
    /// No sessions yet; an app may have `max_per_app` at once.
    #[must_use]
    pub fn new(max_per_app: usize) -> Self {
        Self { live: Arc::default(), max_per_app }
    }

    /// Opens a session to an instance, if its app has room for it.
    ///
    /// # Errors
    /// [`Refusal::AppFull`].
    pub fn open(&self, app: AppId, instance: InstanceId) -> Result<Session, Refusal> {
        let mut live = self.live();
        let count = live.apps.entry(app).or_default();
        if *count >= self.max_per_app {
            return Err(Refusal::AppFull);
        }
        *count += 1;
        live.last += 1;
        let number = live.last;
        let shared = Arc::new(Shared::default());
        let entry = Entry { shared: Arc::clone(&shared), metered: Metered::default() };
        live.instances.entry(instance).or_default().insert(number, entry);
        Ok(Session { number, app, instance, shared, owner: self.clone() })
    }

    /// Cuts every session to an instance, and says how many there were.
    pub fn cut(&self, instance: &InstanceId) -> usize {
        let live = self.live();
        let entries = live.instances.get(instance).into_iter().flat_map(BTreeMap::values);
        entries.map(|entry| entry.shared.cut()).count()
    }

    /// How many sessions go to an instance.
    #[must_use]
    pub fn load(&self, instance: &InstanceId) -> usize {
        self.live().instances.get(instance).map_or(0, BTreeMap::len)
    }

    /// How many sessions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live().apps.values().sum()
    }

    /// Gives the metrics what was moved since the last time, so that a session of days shows while it lasts.
    pub fn meter(&self) {
        for entry in self.live().instances.values_mut().flat_map(BTreeMap::values_mut) {
            entry.metered.catch_up(&entry.shared.progress);
        }
    }

    fn close(&self, session: &Session) {
        let mut live = self.live();
        if let Some(entries) = live.instances.get_mut(&session.instance) {
            if let Some(mut entry) = entries.remove(&session.number) {
                entry.metered.catch_up(&entry.shared.progress);
            }
            if entries.is_empty() {
                live.instances.remove(&session.instance);
            }
        }
        if let Some(count) = live.apps.get_mut(&session.app) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                live.apps.remove(&session.app);
            }
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Counts and tokens are whole at every await-free step, wherever the last holder panicked.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Session {
    /// Resolves when the session has been cut. Only the last one that asks is told.
    pub async fn cut(&self) {
        poll_fn(|cx| {
            // Before the look: whoever cuts it later finds the task.
            self.shared.task.register(cx.waker());
            if self.shared.cut.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Does something unless the session has been cut, and until it is.
    ///
    /// # Errors
    /// [`Refusal::NotAdmitted`] when it was cut.
    pub async fn uncut<T>(&self, work: impl Future<Output = T>) -> Result<T, Refusal> {
        tokio::select! {
            biased;
            () = self.cut() => Err(Refusal::NotAdmitted),
            done = work => Ok(done),
        }
    }

    /// What it has moved.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.shared.progress
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.owner.close(self);
    }
}

impl Metered {
    fn catch_up(&mut self, progress: &Progress) {
        let (up, down) = (progress.to_upstream(), progress.to_client());
        metrics::bytes(up.saturating_sub(self.to_upstream), down.saturating_sub(self.to_client));
        *self = Self { to_upstream: up, to_client: down };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: AppId = AppId([1; 20]);
    const ONE: InstanceId = InstanceId([2; 20]);
    const OTHER: InstanceId = InstanceId([3; 20]);

    #[test]
    fn an_app_has_its_limit_whatever_instances_serve_it() {
        let sessions = Sessions::new(2);
        let first = sessions.open(APP, ONE).unwrap();
        let _second = sessions.open(APP, OTHER).unwrap();
        assert_eq!(sessions.open(APP, ONE).unwrap_err(), Refusal::AppFull);
        assert!(sessions.open(AppId([9; 20]), ONE).is_ok(), "another app has its own");
        drop(first);
        assert!(sessions.open(APP, ONE).is_ok());
    }

    #[tokio::test]
    async fn a_cut_meets_the_sessions_of_one_instance_only() {
        let sessions = Sessions::new(10);
        let (first, second) = (sessions.open(APP, ONE).unwrap(), sessions.open(APP, ONE).unwrap());
        let other = sessions.open(APP, OTHER).unwrap();
        assert_eq!((sessions.load(&ONE), sessions.load(&OTHER), sessions.count()), (2, 1, 3));
        assert_eq!(sessions.cut(&ONE), 2);
        first.cut().await;
        second.cut().await;
        assert!(!other.shared.cut.load(Ordering::Acquire));
    }

    #[tokio::test]
    async fn nothing_is_begun_for_a_session_that_was_cut() {
        let sessions = Sessions::new(10);
        let session = sessions.open(APP, ONE).unwrap();
        assert_eq!(session.uncut(async { 1 }).await, Ok(1));
        let (waiting, cut) = tokio::join!(session.uncut(std::future::pending::<()>()), async { sessions.cut(&ONE) });
        assert_eq!((waiting, cut), (Err(Refusal::NotAdmitted), 1));
        assert_eq!(session.uncut(async { 2 }).await, Err(Refusal::NotAdmitted));
    }

    #[test]
    fn nothing_is_left_of_sessions_that_ended() {
        let sessions = Sessions::new(10);
        let opened: Vec<_> = (0..5).map(|_| sessions.open(APP, ONE).unwrap()).collect();
        drop(opened);
        assert_eq!(sessions.count(), 0);
        assert!(sessions.live().instances.is_empty() && sessions.live().apps.is_empty());
    }
}
