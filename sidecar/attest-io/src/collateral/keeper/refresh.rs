//! Asking for newer collateral before the old one ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use postern_attest::{Fmspc, Window};
use postern_plumbing::backoff::Backoff;
use tokio::time::Instant;

use super::{CollateralKeeper, Keeping};

/// How often it is looked for kinds of platform that have become known meanwhile.
const LOOK: Duration = Duration::from_secs(60);
/// A source that gives nothing newer is not asked more often than this.
const RARELY: Duration = Duration::from_secs(600);

struct Due {
    at: Instant,
    backoff: Backoff,
}

pub(super) async fn refresh(keeper: &Arc<CollateralKeeper>) -> Infallible {
    let mut schedule: BTreeMap<Fmspc, Due> = BTreeMap::new();
    let keeping = &keeper.keeping;
    loop {
        let now = keeper.attestor.now();
        for (fmspc, window) in keeper.attestor.collateral().windows() {
            schedule.entry(fmspc).or_insert_with(|| Due {
                at: Instant::now() + first_delay(keeping, window, now),
                backoff: Backoff::new(keeping.pause, keeping.refresh_after.min(Duration::from_secs(3600))),
            });
        }
        let look = Instant::now() + LOOK;
        let next = schedule.values().map(|due| due.at).min().map_or(look, |at| at.min(look));
        tokio::time::sleep_until(next).await;
        for (fmspc, due) in &mut schedule {
            if due.at <= Instant::now() {
                due.at = Instant::now() + ask(keeper, *fmspc, &mut due.backoff).await;
            }
        }
    }
}

/// Asks for newer collateral, and says when to ask again.
async fn ask(keeper: &Arc<CollateralKeeper>, fmspc: Fmspc, backoff: &mut Backoff) -> Duration {
    match keeper.fetch_once(fmspc).await {
        Ok(()) => {
            backoff.reset();
            let (keeping, now) = (&keeper.keeping, keeper.attestor.now());
            let known = keeper.attestor.collateral();
            let window = known.windows().find_map(|(known, window)| (known == fmspc).then_some(window));
            window.map_or(keeping.refresh_after, |window| next_delay(keeping, window, now))
        }
        Err(error) => {
            metrics::counter!("collateral_refresh_failures_total").increment(1);
            tracing::debug!(%fmspc, %error, "what is known stays in use until it expires");
            // Never at once, whatever the random number.
            keeper.keeping.pause + backoff.next(rand::random())
        }
    }
}

/// When to ask for the first time.
fn first_delay(keeping: &Keeping, window: Window, now: u64) -> Duration {
    let age = Duration::from_secs(now.saturating_sub(window.from));
    keeping.refresh_after.saturating_sub(age).min(before_expiry(keeping, window, now))
}

/// When to ask again after an answer.
fn next_delay(keeping: &Keeping, window: Window, now: u64) -> Duration {
    keeping.refresh_after.min(before_expiry(keeping, window, now).max(RARELY))
}

fn before_expiry(keeping: &Keeping, window: Window, now: u64) -> Duration {
    Duration::from_secs(window.until.saturating_sub(now)).saturating_sub(keeping.refresh_before)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn after(days: f64) -> Duration {
        Duration::from_secs_f64(days * 86_400.0)
    }

    #[test]
    fn newer_is_asked_for_once_a_day_and_in_the_last_week_at_once() {
        let (keeping, window) = (Keeping::default(), Window { from: 100 * DAY, until: 130 * DAY });
        assert_eq!(first_delay(&keeping, window, 100 * DAY), after(1.0));
        assert_eq!(first_delay(&keeping, window, 100 * DAY + DAY / 4), after(0.75));
        assert_eq!(first_delay(&keeping, window, 110 * DAY), Duration::ZERO);
        assert_eq!(first_delay(&keeping, window, 123 * DAY), Duration::ZERO);
        let short = Window { from: 100 * DAY, until: 107 * DAY + DAY / 2 };
        assert_eq!(first_delay(&keeping, short, 100 * DAY), after(0.5));
    }

    #[test]
    fn a_source_that_has_nothing_newer_is_not_pestered() {
        let (keeping, window) = (Keeping::default(), Window { from: 100 * DAY, until: 130 * DAY });
        assert_eq!(next_delay(&keeping, window, 100 * DAY), after(1.0));
        assert_eq!(next_delay(&keeping, window, 122 * DAY + DAY / 2), after(0.5));
        assert_eq!(next_delay(&keeping, window, 129 * DAY), RARELY);
        assert_eq!(next_delay(&keeping, window, 200 * DAY), RARELY);
    }
}
