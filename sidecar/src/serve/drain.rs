//! The end of the sessions that are left when the sidecar has to stop.
//!
//! A relay that does not read what it moves cannot tell where a message ends, so it has no place to put an error of its own.
//! Postgres has: a superuser asks it to end the sessions, and each client reads Postgres' own 57P01 where it belongs.

use std::time::Duration;

use crate::postgres::Socket;
use crate::postgres::admin::{AdminError, Proof, Session};

/// How long Postgres may take to be asked.
const ASK: Duration = Duration::from_secs(3);

/// Who may end sessions, and where.
#[derive(Debug)]
pub struct Terminator {
    /// Where Postgres listens.
    pub socket: Socket,
    /// The superuser, and how it shows who it is.
    pub superuser: (String, Proof),
    /// A database to connect to.
    pub database: String,
}

impl Terminator {
    /// Asks Postgres to end the sessions of these backends. It has been asked when this returns; each session ends when its
    /// backend looks up from what it does.
    ///
    /// # Errors
    /// When Postgres cannot be asked.
    pub async fn terminate(&self, backends: &[u32]) -> Result<(), AdminError> {
        if backends.is_empty() {
            return Ok(());
        }
        let (superuser, proof) = &self.superuser;
        let asking = async {
            let mut session = Session::open(&self.socket, superuser, proof, &self.database).await?;
            session.execute("end sessions", &statement(backends)).await
        };
        let silent = |_| AdminError::Silent(superuser.clone());
        tokio::time::timeout(ASK, asking).await.map_err(silent)?
    }
}

/// A backend that has ended is none of the activity any more, so that nobody else is hit by its number.
fn statement(backends: &[u32]) -> String {
    let list: Vec<String> = backends.iter().map(u32::to_string).collect();
    format!(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid IN ({})",
        list.join(", ")
    )
}
