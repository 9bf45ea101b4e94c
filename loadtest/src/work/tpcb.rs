//! The transaction of TPC-B as pgbench has it: three updates, a read and a line of history, which is the ledger's entry.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement};

use super::{Choices, Outcome, Piece, fate_of_commit, reason, simple};
use crate::client::Session;
use crate::ledger::Fate;
use crate::scenario::Work;

/// Tellers of the one branch of each tenant.
pub(super) const TELLERS: i64 = 10;

/// What a session has prepared.
#[derive(Debug)]
pub(crate) struct Statements {
    account: Statement,
    balance: Statement,
    teller: Statement,
    branch: Statement,
    history: Statement,
}

impl Statements {
    pub(super) async fn on(session: &Session) -> Result<Self, Error> {
        let client = session.client();
        Ok(Self {
            account: client.prepare("UPDATE loadtest_accounts SET balance = balance + $1 WHERE id = $2").await?,
            balance: client.prepare("SELECT balance FROM loadtest_accounts WHERE id = $1").await?,
            teller: client.prepare("UPDATE loadtest_tellers SET balance = balance + $1 WHERE id = $2").await?,
            branch: client.prepare("UPDATE loadtest_branches SET balance = balance + $1 WHERE id = 1").await?,
            history: client
                .prepare(
                    "INSERT INTO loadtest_ledger (number, teller, account, delta, at) VALUES ($1, $2, $3, $4, now())",
                )
                .await?,
        })
    }
}

pub(super) async fn perform(work: &Work, session: &Session, statements: &Statements, piece: Piece) -> Outcome {
    match until_commit(work, session, statements, piece).await {
        Ok(()) => {
            let committed = simple(session, "COMMIT").await;
            let fate = committed.as_ref().map_or_else(fate_of_commit, |()| Fate::Acknowledged);
            Outcome { write: Some(fate), ..Outcome::read(committed) }
        }
        // Postgres rolls back what is not committed, also when the session ends; if this fails, it has ended.
        Err(error) => {
            drop(simple(session, "ROLLBACK").await);
            Outcome { failed: Some(reason(&error)), write: Some(Fate::Refused), bytes: 0 }
        }
    }
}

async fn until_commit(work: &Work, session: &Session, statements: &Statements, piece: Piece) -> Result<(), Error> {
    let mut choices = Choices(piece.salt);
    let account = choices.between(1, i64::from(work.rows));
    let teller = choices.between(1, TELLERS);
    let delta = choices.between(-5000, 5000);
    let number = piece.number.cast_signed();
    let client = session.client();
    simple(session, "BEGIN").await?;
    client.execute(&statements.account, &[&delta, &account]).await?;
    client.query_one(&statements.balance, &[&account]).await?;
    client.execute(&statements.teller, &[&delta, &teller]).await?;
    client.execute(&statements.branch, &[&delta]).await?;
    let line: [&(dyn ToSql + Sync); 4] = [&number, &teller, &account, &delta];
    client.execute(&statements.history, &line).await?;
    Ok(())
}
