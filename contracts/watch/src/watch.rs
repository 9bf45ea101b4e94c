//! The handle that everybody else holds.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use postern_allowlist::{
    Admission, Block, BootInfo, Freshness, LocalRules, NotAdmitted, Proven, View, standing, welcome,
};
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::{Task, Tasks, maintenance};
use tokio::sync::{Notify, broadcast, watch};

use crate::config::{ConfigError, WatchConfig};
use crate::endpoint::{Endpoint, EndpointStatus};
use crate::follow::Follower;
use crate::{poll, telemetry};

/// How many changes a slow reader may be behind before it misses some.
const CHANGES_KEPT: usize = 4096;

/// A verdict that turned into its opposite.
#[derive(Debug, Clone)]
pub struct Change {
    /// The workload.
    pub boot: Arc<BootInfo>,
    /// What is true from now on.
    pub verdict: Result<Admission, NotAdmitted>,
    /// The head at which the contract was asked.
    pub block: Block,
    /// When that head was first seen here.
    pub seen: Instant,
}

/// A view of the chain that keeps itself up to date. Clones share it; it ends with the shutdown that it was started with.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Shared>);

/// What the handles and the tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: WatchConfig,
    rules: LocalRules,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// The view that is being changed. Held only for moments, never across an await.
    view: Mutex<View>,
    /// The view as of the last change, for everybody to read.
    published: ArcSwap<View>,
    publications: watch::Sender<()>,
    changes: broadcast::Sender<Change>,
    /// There is somebody new to ask about.
    pub(crate) wake: Notify,
}

impl Watch {
    /// Starts to follow the chain, until `shutdown`. The tasks belong to `tasks`.
    ///
    /// # Errors
    /// When the configuration makes no sense.
    pub fn start(config: WatchConfig, tasks: &Tasks, shutdown: Shutdown) -> Result<Self, ConfigError> {
        if let Some((_, mistake)) = config.mistakes().into_iter().next() {
            return Err(mistake);
        }
        for endpoint in config.plain_endpoints() {
            tracing::warn!(
                endpoint,
                "INSECURE: the chain is read over plain HTTP, so that whoever is on the way decides"
            );
        }
        telemetry::describe();
        let shared = Arc::new(Shared::new(config)?);
        let running = start(&shared);
        tasks.spawn("chain-watch", async move {
            shutdown.triggered().await;
            drop(running);
        });
        Ok(Self(shared))
    }

    /// Follows a workload from now on, waits up to `deadline` until the chain has answered about it, and returns the
    /// verdict. Where there is an answer that nothing is known to have changed, that is the verdict, at once; so it is where
    /// our own rules refuse, and the chain is not asked.
    ///
    /// A workload is followed for as long as somebody asks about it: see [`Watch::changes`].
    ///
    /// An admission can be withdrawn before the caller has acted on it. Take [`Watch::changes`] first, act, and then ask
    /// [`Watch::current`] once more; or be sure to see the change.
    ///
    /// # Errors
    /// [`NotAdmitted`], also when nothing was heard in time.
    pub async fn evaluate(&self, proven: Proven<'_>, deadline: Duration) -> Result<Admission, NotAdmitted> {
        welcome(proven, &self.0.rules.welcome, self.0.now())?;
        if self.0.published.load().is_settled(proven.boot) {
            return self.current(proven);
        }
        let boot = Arc::new(proven.boot.clone());
        let mut publications = self.0.publications.subscribe();
        self.0.follow(&boot)?;
        let settled =
            async { while !self.0.published.load().is_settled(&boot) && publications.changed().await.is_ok() {} };
        // Without an answer in time, what is known so far is the verdict.
        let _in_time: Result<(), _> = tokio::time::timeout(deadline, settled).await;
        self.current(proven)
    }

    /// The verdict on a workload by what is known now. Takes no lock and waits for nothing.
    ///
    /// What was admitted stays so until the chain says otherwise or the view is older than `view_grace`.
    ///
    /// # Errors
    /// [`NotAdmitted`]; also for a workload that [`Watch::evaluate`] was never asked about, or nobody for long.
    pub fn current(&self, proven: Proven<'_>) -> Result<Admission, NotAdmitted> {
        standing(proven, &self.0.published.load(), &self.0.rules, self.0.now())
    }

    /// The chain's verdicts that turn into their opposite from now on. A receiver that was too slow is told how many it missed,
    /// and should ask [`Watch::current`] about everything it holds.
    ///
    /// A workload that nobody asks about is forgotten: after `view_grace`, or after three minutes when room is needed for
    /// newcomers. Whoever must hear of a workload's changes therefore asks about it each minute, and where the verdict is
    /// [`NotAdmitted::NotEvaluated`] has it evaluated again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// Follows a workload no longer.
    pub fn forget(&self, boot: &BootInfo) {
        self.0.change(|view| view.forget(boot));
    }

    /// How fresh the view is.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.0.published.load().freshness(&self.0.config.freshness, self.0.now())
    }

    /// The last block that a quorum agreed on.
    #[must_use]
    pub fn head(&self) -> Option<Block> {
        self.0.published.load().head().copied()
    }

    /// How many workloads are followed.
    #[must_use]
    pub fn workloads(&self) -> usize {
        self.0.published.load().len()
    }

    /// How the endpoints are doing.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.0.endpoints.iter().map(|endpoint| endpoint.status()).collect()
    }
}

impl Shared {
    fn new(config: WatchConfig) -> Result<Self, ConfigError> {
        let endpoint = |url| {
            Endpoint::new(url, config.call_deadline)
                .map(Arc::new)
                .map_err(|source| ConfigError::Endpoint { name: crate::transport::public_name(url), source })
        };
        let view = View::new(config.rules);
        Ok(Self {
            endpoints: config.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?,
            published: ArcSwap::from_pointee(view.clone()),
            view: Mutex::new(view),
            publications: watch::Sender::new(()),
            changes: broadcast::Sender::new(CHANGES_KEPT),
            wake: Notify::new(),
            rules: config.local_rules(),
            config,
        })
    }

    pub(crate) fn now(&self) -> u64 {
        (self.config.clock)()
    }

    /// The view as of the last change.
    pub(crate) fn view(&self) -> Arc<View> {
        self.published.load_full()
    }

    /// Changes the view, publishes it, and wakes those who wait for an answer.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        let outcome = self.change_quietly(change);
        self.publications.send_replace(());
        outcome
    }

    /// Changes the view and publishes it, where no answer can be in what changed: were all who wait woken by each newcomer, a
    /// crowd of them would keep itself busy.
    fn change_quietly<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut view);
        self.published.store(Arc::new(view.clone()));
        outcome
    }

    /// Tells everybody about a verdict that turned.
    pub(crate) fn announce(&self, change: Change) {
        // Nobody listening is no fault.
        drop(self.changes.send(change));
    }

    fn follow(&self, boot: &Arc<BootInfo>) -> Result<(), NotAdmitted> {
        let now = self.now();
        if self.published.load().ask(boot, now) {
            return Ok(());
        }
        let max = self.config.max_workloads;
        self.change_quietly(|view| {
            if !view.follows(boot) && view.len() >= max {
                view.make_room(now);
                if view.len() >= max {
                    return Err(NotAdmitted::TooManyWorkloads);
                }
            }
            view.follow(boot, now);
            Ok(())
        })?;
        self.wake.notify_one();
        Ok(())
    }
}

/// Starts the tasks: one for each endpoint, and one that follows what they report.
fn start(shared: &Arc<Shared>) -> Vec<Task<Infallible>> {
    let (reports, reported) = watch::channel(vec![None; shared.endpoints.len()]);
    let mut tasks: Vec<Task<Infallible>> = shared
        .endpoints
        .iter()
        .enumerate()
        .map(|(position, endpoint)| {
            let (endpoint, reports) = (Arc::clone(endpoint), reports.clone());
            let config = shared.config.clone();
            maintenance("chain-endpoint", move || {
                poll::poll(Arc::clone(&endpoint), position, config.clone(), reports.clone())
            })
        })
        .collect();
    let shared = Arc::clone(shared);
    tasks.push(maintenance("chain-view", move || Follower::new(Arc::clone(&shared), reported.clone()).run()));
    tasks
}

#[cfg(test)]
mod tests;
