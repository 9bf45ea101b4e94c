mod refresh;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_attest::{Collateral, Fmspc};
use postern_plumbing::tasks::Tasks;

use super::failure::{FetchError, SourceFailure};
use super::fetch::Fetcher;
use super::flights::{Boarding, Flights};
use super::folder;
use crate::attestor::Attestor;
use crate::high_water::{CollateralRolledBack, HighWater};

/// How collateral is kept.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// A folder that survives restarts, so that a program that starts while all sources are away still knows what it knew.
    pub folder: Option<PathBuf>,
    /// The mark below which no collateral is accepted.
    pub high_water: Option<Arc<HighWater>>,
    /// How old collateral may get before newer is asked for. Default: a day.
    pub refresh_after: Duration,
    /// How long before its expiry newer collateral is asked for at the latest. Default: a week.
    pub refresh_before: Duration,
    /// How long a handshake waits for the collateral of a kind of platform that is not known. Default: two seconds.
    pub wait: Duration,
    /// For how long a kind of platform is not asked for again after all sources failed. Default: half a minute.
    pub pause: Duration,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            folder: None,
            high_water: None,
            refresh_after: Duration::from_secs(24 * 3600),
            refresh_before: Duration::from_secs(7 * 24 * 3600),
            wait: Duration::from_secs(2),
            pause: Duration::from_secs(30),
        }
    }
}

/// Supplies an [`Attestor`] with collateral: what was known before a restart, what is asked for in the background before it
/// expires, and what a handshake needs that nobody has asked for yet.
///
/// A handshake waits for the network only if its platform's collateral is not known, and then for a bounded time.
pub struct CollateralKeeper {
    attestor: Arc<Attestor>,
    fetcher: Option<Fetcher>,
    keeping: Keeping,
    flights: Arc<Flights>,
    tasks: Tasks,
    /// Held while what is known is replaced, so that nothing that comes at the same time is undone.
    replacing: tokio::sync::Mutex<()>,
}

/// Collateral of one kind of platform that was not taken, and why.
pub type NotTaken = (Fmspc, SourceFailure);

impl CollateralKeeper {
    /// Takes what the folder holds, lets go of what the attestor has been given that does not verify or was rolled back, and
    /// starts supplying the attestor, by tasks of `tasks`. Without a fetcher nobody is asked, and what is known has to be
    /// brought: by the folder, or by [`Self::offer`].
    pub async fn start(
        attestor: &Arc<Attestor>,
        fetcher: impl Into<Option<Fetcher>>,
        keeping: Keeping,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let flights = Flights::new(keeping.pause);
        let keeper = Arc::new(Self {
            attestor: Arc::clone(attestor),
            fetcher: fetcher.into(),
            keeping,
            flights,
            tasks: tasks.clone(),
            replacing: tokio::sync::Mutex::new(()),
        });
        keeper.take_stock().await;
        if keeper.fetcher.is_some() {
            attestor.supplied_by(Arc::downgrade(&keeper));
            let refreshing = Arc::clone(&keeper);
            tasks.spawn("collateral", async move { match refresh::refresh(&refreshing).await {} });
        }
        keeper
    }

    /// Takes over what somebody else has brought, as far as it verifies, is in force and is no step back. Says what was not
    /// taken.
    pub async fn offer(&self, collateral: &Collateral) -> Vec<NotTaken> {
        let mut refused = Vec::new();
        for (fmspc, set) in each(collateral) {
            match self.judge(&set) {
                Ok(()) => refused.extend(self.adopt(fmspc, set).await.err().map(|failure| (fmspc, failure))),
                Err(failure) => refused.push((fmspc, failure)),
            }
        }
        refused
    }

    /// Whether somebody is asked for what is not known.
    #[must_use]
    pub fn has_sources(&self) -> bool {
        self.fetcher.is_some()
    }

    /// Fetches the collateral of one kind of platform, or waits for whoever does already, at most for as long as a handshake
    /// may wait. The fetching goes on when the waiting ends.
    ///
    /// # Errors
    /// When it did not arrive, or is not asked for now.
    pub async fn ensure(self: &Arc<Self>, fmspc: Fmspc) -> Result<(), FetchError> {
        match tokio::time::timeout(self.keeping.wait, self.fetch_once(fmspc)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(FetchError::Pending(fmspc)),
        }
    }

    /// Fetches, unless somebody does already, and waits for the outcome.
    async fn fetch_once(self: &Arc<Self>, fmspc: Fmspc) -> Result<(), FetchError> {
        let mut outcome = match self.flights.board(fmspc)? {
            Boarding::Wait(outcome) => outcome,
            Boarding::Fly(flight, outcome) => {
                let keeper = Arc::clone(self);
                self.tasks.spawn("collateral-fetch", async move {
                    let fetched = keeper.fetch(fmspc).await;
                    if let Err(error) = &fetched {
                        tracing::warn!(%fmspc, %error, "collateral could not be fetched");
                    }
                    flight.land(fetched);
                });
                outcome
            }
        };
        let landed = outcome.wait_for(Option::is_some).await;
        // A flight that was broken off, at shutdown, lands nowhere.
        landed.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(FetchError::Pending(fmspc)))
    }

    async fn fetch(&self, fmspc: Fmspc) -> Result<(), FetchError> {
        let Some(fetcher) = &self.fetcher else { return Err(FetchError::AllFailed { fmspc, failures: Vec::new() }) };
        let appraiser = self.attestor.appraiser();
        let accept = |collateral: &Collateral| self.check_mark(collateral);
        let fetched = fetcher.fetch(fmspc, appraiser.root(), self.attestor.now(), accept).await?;
        if let Err(failure) = self.adopt(fmspc, fetched).await {
            tracing::debug!(%fmspc, %failure, "something newer has come meanwhile");
        }
        Ok(())
    }

    /// Puts verified collateral in use, unless something newer was put there since it was judged.
    async fn adopt(&self, fmspc: Fmspc, newer: Collateral) -> Result<(), SourceFailure> {
        let _replacing = self.replacing.lock().await;
        self.check_mark(&newer)?;
        let known = self.attestor.collateral();
        let mut all = Collateral::clone(&known);
        all.merge(newer.clone());
        // The same again is no reason to judge every peer again.
        if all != *known {
            self.attestor.replace_collateral(all);
            tracing::info!(%fmspc, "newer collateral is in use");
        }
        self.remember(newer).await;
        Ok(())
    }

    /// A disk that cannot be written does not keep good collateral out of use; the alternative is none.
    async fn remember(&self, collateral: Collateral) {
        let (folder, high_water) = (self.keeping.folder.clone(), self.keeping.high_water.clone());
        let written = tokio::task::spawn_blocking(move || {
            if let Some(Err(error)) = high_water.map(|high_water| high_water.record(&collateral)) {
                tracing::error!(%error, "the mark of accepted collateral cannot be written");
            }
            if let Some(Err(error)) = folder.map(|folder| folder::write(&folder, &collateral)) {
                tracing::error!(%error, "collateral cannot be kept on disk");
            }
        });
        if written.await.is_err() {
            tracing::error!("the writing of collateral broke off");
        }
    }

    /// Puts together what is known at start: of the attestor's and the folder's collateral, what verifies and is newest.
    async fn take_stock(&self) {
        let stored = match self.keeping.folder.clone() {
            None => Vec::new(),
            Some(folder) => tokio::task::spawn_blocking(move || folder::read(&folder)).await.unwrap_or_default(),
        };
        let given = self.attestor.collateral();
        let given: Vec<_> = each(&given).map(|(_, set)| set).collect();
        let mut known = Collateral::default();
        for set in given.into_iter().chain(stored) {
            match self.judge(&set) {
                Ok(()) if is_newer(&set, &known) => known.merge(set),
                Ok(()) => {}
                Err(failure @ SourceFailure::RolledBack(_)) => {
                    tracing::info!(%failure, "newer collateral was known before")
                }
                Err(failure) => tracing::warn!(%failure, "collateral that was kept or given is of no use"),
            }
        }
        if known != *self.attestor.collateral() {
            self.attestor.replace_collateral(known.clone());
        }
        self.remember(known).await;
    }

    fn judge(&self, collateral: &Collateral) -> Result<(), SourceFailure> {
        collateral.verify(self.attestor.appraiser().root(), self.attestor.now())?;
        self.check_mark(collateral)
    }

    fn check_mark(&self, collateral: &Collateral) -> Result<(), SourceFailure> {
        match &self.keeping.high_water {
            Some(high_water) => Ok(high_water.check(collateral)?),
            None => {
                // Without a mark on disk, what is in use is the mark.
                let known = self.attestor.collateral();
                for (fmspc, issued) in collateral.issued() {
                    let mark = known.issued().find(|(known, _)| *known == fmspc);
                    if let Some(part) = mark.and_then(|(_, mark)| issued.older_than(&mark)) {
                        return Err(CollateralRolledBack { fmspc, part }.into());
                    }
                }
                Ok(())
            }
        }
    }
}

/// What is known of each kind of platform alone.
fn each(collateral: &Collateral) -> impl Iterator<Item = (Fmspc, Collateral)> {
    collateral.windows().filter_map(|(fmspc, _)| Some((fmspc, collateral.only(fmspc)?)))
}

/// Whether no part of `set` is older than what is known of its platforms.
fn is_newer(set: &Collateral, known: &Collateral) -> bool {
    set.issued().all(|(fmspc, issued)| {
        known.issued().all(|(other, known)| other != fmspc || issued.older_than(&known).is_none())
    })
}

impl std::fmt::Debug for CollateralKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollateralKeeper").field("keeping", &self.keeping).finish_non_exhaustive()
    }
}
