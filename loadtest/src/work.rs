//! What one piece of work is, and what became of it.

mod bulk;
mod key_value;
mod prepare;
mod script;
mod tpcb;

use tokio_postgres::{Error, SimpleQueryMessage, Statement};

use crate::client::Session;
use crate::ledger::Fate;
use crate::scenario::{Work, WorkKind};

pub(crate) use prepare::{found, prepare};
pub use script::Script;

/// A piece of work that a session is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// Its number in the run.
    pub(crate) number: u64,
    /// What its random choices come from.
    pub(crate) salt: u64,
}

/// What became of a piece of work.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Why it was not done, by a short stable name.
    pub(crate) failed: Option<String>,
    /// What is known of its write, if it is one.
    pub(crate) write: Option<Fate>,
    /// How many bytes it copied.
    pub(crate) bytes: u64,
}

impl Outcome {
    fn read(result: Result<(), Error>) -> Self {
        Self { failed: result.err().map(|error| reason(&error)), write: None, bytes: 0 }
    }

    /// A write that is committed with its only statement.
    fn write(result: Result<(), Error>) -> Self {
        let fate = match &result {
            Ok(()) => Fate::Acknowledged,
            Err(error) => fate_of_commit(error),
        };
        Self { write: Some(fate), ..Self::read(result) }
    }

    /// Work that was broken off in the middle: if it writes, the commit may have been under way.
    pub(crate) fn broken_off(writes: bool, reason: &str) -> Self {
        Self { failed: Some(reason.to_owned()), write: writes.then_some(Fate::Unknown), bytes: 0 }
    }

    /// Work that was never begun.
    pub(crate) fn not_begun(reason: &str) -> Self {
        Self { failed: Some(reason.to_owned()), write: None, bytes: 0 }
    }
}

/// The SQLSTATE of what Postgres or Postern said, or what happened to the connection.
pub(crate) fn reason(error: &Error) -> String {
    if let Some(state) = error.code() {
        return state.code().to_owned();
    }
    if error.is_closed() { "closed" } else { "io" }.to_owned()
}

/// What is known of a commit that was answered with an error. A refusal by Postgres says that it was not done, but for the
/// classes of errors by which a session ends: then the answer may be about the session and not about the commit.
fn fate_of_commit(error: &Error) -> Fate {
    match error.code() {
        Some(state) if !["57", "08", "58", "XX"].iter().any(|class| state.code().starts_with(class)) => Fate::Refused,
        _ => Fate::Unknown,
    }
}

/// What a session has prepared for its work.
#[derive(Debug)]
pub(crate) enum Prepared {
    Nothing,
    Ping(Statement),
    KeyValue(key_value::Statements),
    TpcB(Box<tpcb::Statements>),
}

impl Prepared {
    /// Prepares on a new session what its work needs.
    pub(crate) async fn on(session: &Session, work: &Work) -> Result<Self, Error> {
        Ok(match &work.kind {
            WorkKind::Ping => Self::Ping(session.client().prepare("SELECT 1").await?),
            WorkKind::KeyValue => Self::KeyValue(key_value::Statements::on(session).await?),
            WorkKind::TpcB => Self::TpcB(Box::new(tpcb::Statements::on(session).await?)),
            WorkKind::Copy => {
                bulk::make_table(session).await?;
                Self::Nothing
            }
            WorkKind::Connect | WorkKind::Script { .. } | WorkKind::Idle => Self::Nothing,
        })
    }
}

/// Whether a piece of work writes what the ledger checks.
pub(crate) fn writes(work: &Work, piece: Piece) -> bool {
    match work.kind {
        WorkKind::TpcB => true,
        WorkKind::KeyValue => key_value::writes(work, piece),
        WorkKind::Ping | WorkKind::Connect | WorkKind::Copy | WorkKind::Script { .. } | WorkKind::Idle => false,
    }
}

/// Whether there is anything for a ledger to check.
pub(crate) fn has_ledger(work: &Work) -> bool {
    match work.kind {
        WorkKind::TpcB => true,
        WorkKind::KeyValue => work.writes > 0.0,
        WorkKind::Ping | WorkKind::Connect | WorkKind::Copy | WorkKind::Script { .. } | WorkKind::Idle => false,
    }
}

/// Does a piece of work on a session.
pub(crate) async fn perform(work: &Work, session: &Session, prepared: &Prepared, piece: Piece) -> Outcome {
    match (&work.kind, prepared) {
        (WorkKind::Ping, Prepared::Ping(statement)) => {
            Outcome::read(session.client().query(statement, &[]).await.map(drop))
        }
        (WorkKind::KeyValue, Prepared::KeyValue(statements)) => {
            key_value::perform(work, session, statements, piece).await
        }
        (WorkKind::TpcB, Prepared::TpcB(statements)) => tpcb::perform(work, session, statements, piece).await,
        (WorkKind::Copy, _) => bulk::perform(work, session, piece).await,
        (WorkKind::Script { script, .. }, _) => Outcome::read(simple(session, &script.statements(piece.salt)).await),
        _ => Outcome::read(ask(session).await),
    }
}

/// The one query of a session that is closed again, or that shows it is still there.
pub(crate) async fn ask(session: &Session) -> Result<(), Error> {
    simple(session, "SELECT 1").await
}

/// Runs statements without preparing them.
async fn simple(session: &Session, statements: &str) -> Result<(), Error> {
    let answer: Vec<SimpleQueryMessage> = session.client().simple_query(statements).await?;
    drop(answer);
    Ok(())
}

/// A sequence of random numbers from one (splitmix64): a piece of work makes a handful of choices.
#[derive(Debug, Clone, Copy)]
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = u128::from(high.abs_diff(low)) + 1;
        let offset = (u128::from(self.next()) * span) >> 64;
        low.wrapping_add_unsigned(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    /// From 0 to 1, without 1.
    fn fraction(&mut self) -> f64 {
        crate::arrivals::fraction(self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_within_their_bounds_and_reach_them() {
        let mut choices = Choices(7);
        let drawn: Vec<i64> = (0..1000).map(|_| choices.between(-2, 3)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&-2), Some(&3)));
        assert_eq!(choices.between(5, 5), 5);
        let any: Vec<i64> = (0..100).map(|_| choices.between(i64::MIN, i64::MAX)).collect();
        assert!(any.iter().any(|one| *one < 0) && any.iter().any(|one| *one > 0));
        assert!((0.0..1.0).contains(&choices.fraction()));
        let mut same = Choices(7);
        assert_eq!(drawn, (0..1000).map(|_| same.between(-2, 3)).collect::<Vec<_>>());
    }
}
