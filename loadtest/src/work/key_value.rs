//! One row, read or written by its key.

use tokio_postgres::{Error, Statement};

use super::{Choices, Outcome, Piece};
use crate::client::Session;
use crate::scenario::Work;

/// What a session has prepared.
#[derive(Debug)]
pub(crate) struct Statements {
    read: Statement,
    write: Statement,
}

impl Statements {
    pub(super) async fn on(session: &Session) -> Result<Self, Error> {
        let client = session.client();
        Ok(Self {
            read: client.prepare("SELECT value FROM loadtest_values WHERE key = $1").await?,
            // One statement, so that the change and its entry in the ledger are one transaction.
            write: client
                .prepare(
                    "WITH change AS (UPDATE loadtest_values SET value = $2 WHERE key = $1) \
                     INSERT INTO loadtest_ledger (number) VALUES ($3)",
                )
                .await?,
        })
    }
}

/// Whether a piece of work writes.
pub(super) fn writes(work: &Work, piece: Piece) -> bool {
    Choices(piece.salt).fraction() < work.writes
}

pub(super) async fn perform(work: &Work, session: &Session, statements: &Statements, piece: Piece) -> Outcome {
    let mut choices = Choices(piece.salt);
    let is_write = choices.fraction() < work.writes;
    let key = choices.between(1, i64::from(work.rows));
    if !is_write {
        return Outcome::read(session.client().query_opt(&statements.read, &[&key]).await.map(drop));
    }
    let (value, number) = (choices.next().cast_signed(), piece.number.cast_signed());
    Outcome::write(session.client().execute(&statements.write, &[&key, &value, &number]).await.map(drop))
}
