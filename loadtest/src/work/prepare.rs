//! The tables of a tenant: made before the load, read back after it.

use tokio_postgres::Error;

use super::tpcb::TELLERS;
use super::{has_ledger, simple};
use crate::client::Session;
use crate::scenario::{Work, WorkKind};

/// Makes the tables that a tenant's work needs, anew.
pub(crate) async fn prepare(session: &Session, work: &Work) -> Result<(), Error> {
    let rows = work.rows;
    match &work.kind {
        WorkKind::KeyValue => {
            let script = format!(
                "DROP TABLE IF EXISTS loadtest_values, loadtest_ledger;\n\
                 CREATE TABLE loadtest_values (key bigint PRIMARY KEY, value bigint NOT NULL);\n\
                 INSERT INTO loadtest_values SELECT key, 0 FROM generate_series(1, {rows}) AS key;\n\
                 CREATE TABLE loadtest_ledger (number bigint NOT NULL);"
            );
            simple(session, &script).await
        }
        WorkKind::TpcB => {
            let script = format!(
                "DROP TABLE IF EXISTS loadtest_accounts, loadtest_tellers, loadtest_branches, loadtest_ledger;\n\
                 CREATE TABLE loadtest_accounts (id bigint PRIMARY KEY, balance bigint NOT NULL, filler char(84));\n\
                 CREATE TABLE loadtest_tellers (id bigint PRIMARY KEY, balance bigint NOT NULL, filler char(84))\n\
                 WITH (fillfactor = 50);\n\
                 CREATE TABLE loadtest_branches (id bigint PRIMARY KEY, balance bigint NOT NULL, filler char(88))\n\
                 WITH (fillfactor = 50);\n\
                 INSERT INTO loadtest_accounts SELECT id, 0, '' FROM generate_series(1, {rows}) AS id;\n\
                 INSERT INTO loadtest_tellers SELECT id, 0, '' FROM generate_series(1, {TELLERS}) AS id;\n\
                 INSERT INTO loadtest_branches VALUES (1, 0, '');\n\
                 CREATE TABLE loadtest_ledger (number bigint NOT NULL, teller bigint, account bigint, delta bigint,\n\
                 at timestamptz);"
            );
            simple(session, &script).await
        }
        WorkKind::Script { setup, .. } => simple(session, setup).await,
        WorkKind::Ping | WorkKind::Connect | WorkKind::Copy | WorkKind::Idle => Ok(()),
    }
}

/// The numbers of all writes that are in a tenant's ledger.
pub(crate) async fn found(session: &Session, work: &Work) -> Result<Vec<u64>, Error> {
    if !has_ledger(work) {
        return Ok(Vec::new());
    }
    let rows = session.client().query("SELECT number FROM loadtest_ledger", &[]).await?;
    Ok(rows.iter().map(|row| row.get::<_, i64>(0).cast_unsigned()).collect())
}
