//! Keeps Postgres provisioned: at start, and whenever it comes back or has lost a role.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use postern_plumbing::admin::ReadinessCheck;
use postern_plumbing::backoff::Backoff;
use tokio::sync::{Notify, watch};

use super::admin::AdminError;
use super::provision::{Part, Provisioning, is_misconfigured};

/// How often Postgres is looked after while all is well.
const PROBE: Duration = Duration::from_secs(5);
/// How long one attempt may take. Grants wait for locks that sessions hold.
const ATTEMPT: Duration = Duration::from_secs(30);

/// What is known of Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has not been provisioned since the start.
    Starting,
    /// It is there and knows its roles.
    Ready,
    /// It was there and is away.
    Away,
    /// It lets anybody in; nothing may be sent to it.
    Misconfigured,
}

/// The rest of the program's view of Postgres.
#[derive(Clone, Debug)]
pub struct Watched {
    condition: watch::Receiver<Condition>,
    doubt: Arc<Notify>,
}

impl Watched {
    /// What is known now.
    #[must_use]
    pub fn condition(&self) -> Condition {
        *self.condition.borrow()
    }

    /// Says that a login failed that should not have: Postgres is looked at again, soon.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Waits until something new is known: Postgres is away, or was provisioned anew. For ever when nobody looks any more.
    pub async fn changed(&mut self) {
        if self.condition.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until Postgres was provisioned for the first time, or can never be.
    pub async fn decided(&mut self) -> Condition {
        let decided = self.condition.wait_for(|condition| *condition != Condition::Starting).await;
        decided.map_or(Condition::Misconfigured, |condition| *condition)
    }
}

/// The supervised half.
#[derive(Debug)]
pub struct Supervisor {
    provisioning: Provisioning,
    readiness: ReadinessCheck,
    condition: watch::Sender<Condition>,
    doubt: Arc<Notify>,
}

impl Supervisor {
    /// A supervisor that has not looked yet, and what it will find.
    #[must_use]
    pub fn new(provisioning: Provisioning, readiness: ReadinessCheck) -> (Self, Watched) {
        let (sender, condition) = watch::channel(Condition::Starting);
        let doubt = Arc::new(Notify::new());
        let watched = Watched { condition, doubt: Arc::clone(&doubt) };
        (Self { provisioning, readiness, condition: sender, doubt }, watched)
    }

    /// Provisions, then watches, for ever.
    ///
    /// # Errors
    /// Never.
    pub async fn run(self: Arc<Self>) -> Result<Infallible, Infallible> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
        loop {
            match tokio::time::timeout(ATTEMPT, self.provisioning.apply()).await {
                Ok(Ok(part)) => {
                    backoff.reset();
                    match part {
                        Part::Primary => tracing::info!("Postgres is ready and its roles are provisioned"),
                        Part::Standby => tracing::info!("Postgres is ready, a standby that knows its roles"),
                    }
                    self.readiness.ready();
                    self.condition.send_replace(Condition::Ready);
                    self.watch(part).await;
                }
                Ok(Err(error)) => self.failed(&error),
                Err(_) => self.readiness.not_ready("Postgres did not finish in time"),
            }
            backoff.wait().await;
        }
    }

    /// Returns when there is something to provision: what was lost, or a standby that has become a primary.
    async fn watch(&self, part: Part) {
        loop {
            tokio::select! {
                () = self.doubt.notified() => return,
                () = tokio::time::sleep(PROBE) => {}
            }
            match tokio::time::timeout(ATTEMPT, self.provisioning.probe()).await {
                Ok(Ok(now)) if now == part => {}
                Ok(Ok(_)) => return,
                Ok(Err(error)) => return self.failed(&error),
                Err(_) => return self.readiness.not_ready("Postgres does not answer"),
            }
        }
    }

    fn failed(&self, error: &AdminError) {
        self.readiness.not_ready(error.to_string());
        if is_misconfigured(error) {
            tracing::error!(%error, "Postgres must not be served like this");
            self.condition.send_replace(Condition::Misconfigured);
            return;
        }
        tracing::warn!(%error, "waiting for Postgres");
        self.condition.send_if_modified(|condition| {
            let was_ready = *condition != Condition::Starting;
            *condition = if was_ready { Condition::Away } else { Condition::Starting };
            was_ready
        });
    }
}
