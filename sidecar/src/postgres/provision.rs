//! Makes Postgres know the roles and their passwords.

use postern_pgwire::login::LoginError;
use postern_pgwire::scram;
use postern_plumbing::secret::Secret;

use super::Socket;
use super::admin::{AdminError, Proof, Session};
use super::login::LoginFailed;
use super::privileges::{self, Privileges};

/// What a server does among others of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It takes changes.
    Primary,
    /// It repeats those of a primary, roles and privileges among them.
    Standby,
}

/// What Postgres must know.
#[derive(Debug)]
pub struct Provisioning {
    /// Where it listens.
    pub socket: Socket,
    /// The superuser, and how it shows who it is.
    pub superuser: (String, Proof),
    /// The databases whose schema `public` the privileges are granted in.
    pub databases: Vec<String>,
    /// The roles.
    pub roles: Vec<Login>,
}

/// A role that logs in with a password of ours.
#[derive(Debug)]
pub struct Login {
    /// Its name, a plain identifier.
    pub name: String,
    /// Its password in Postgres.
    pub password: Secret,
    /// What it may do.
    pub privileges: Privileges,
    /// Whether it may open replication connections.
    pub replication: bool,
}

impl Provisioning {
    /// Creates the roles, sets their verifiers, grants their privileges, and logs in as each of them to each database, so that
    /// a server that asks for no password is found out before a client is let in. On a standby all but the logins is left to
    /// the sidecar in front of its primary, which derives the same passwords.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn apply(&self) -> Result<Part, AdminError> {
        let (superuser, proof) = &self.superuser;
        let Some(first) = self.databases.first() else { return Ok(Part::Primary) };
        let mut session = Session::open(&self.socket, superuser, proof, first).await?;
        session.execute("keep quiet", privileges::QUIET).await?;
        session.execute("be served", privileges::NO_TRUST).await?;
        let part = part(&mut session).await?;
        if part == Part::Primary {
            self.make_roles(session).await?;
        }
        for role in &self.roles {
            let proof = Proof::Password(role.password.clone());
            for database in &self.databases {
                Session::open(&self.socket, &role.name, &proof, database).await?;
            }
        }
        Ok(part)
    }

    /// `session` is the superuser's in the first database.
    async fn make_roles(&self, mut session: Session) -> Result<(), AdminError> {
        let (superuser, proof) = &self.superuser;
        for role in &self.roles {
            let verifier = scram::verifier(role.password.expose().as_bytes(), &rand::random());
            session.execute("make a role", &privileges::role(&role.name, &verifier, role.replication)).await?;
        }
        self.grant(&mut session).await?;
        for database in self.databases.iter().skip(1) {
            let mut session = Session::open(&self.socket, superuser, proof, database).await?;
            self.grant(&mut session).await?;
        }
        Ok(())
    }

    /// Whether Postgres is there and lets the superuser in, and nobody without proof; and which part it has.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn probe(&self) -> Result<Part, AdminError> {
        let (superuser, proof) = &self.superuser;
        let Some(first) = self.databases.first() else { return Ok(Part::Primary) };
        let mut session = Session::open(&self.socket, superuser, proof, first).await?;
        session.execute("be served", privileges::NO_TRUST).await?;
        part(&mut session).await
    }

    async fn grant(&self, session: &mut Session) -> Result<(), AdminError> {
        let mut writers: Vec<&str> = vec![&self.superuser.0];
        let may_write = |role: &&Login| role.privileges == Privileges::ReadWrite;
        writers.extend(self.roles.iter().filter(may_write).map(|role| role.name.as_str()));
        for role in &self.roles {
            let sql = privileges::grants(&role.name, role.privileges, &writers);
            session.execute("grant privileges", &sql).await?;
        }
        Ok(())
    }
}

/// A server that does not say is taken for a primary: it refuses to make roles if it is none.
async fn part(session: &mut Session) -> Result<Part, AdminError> {
    let row = session.last_row("say whether it is a standby", privileges::IN_RECOVERY).await?;
    Ok(if row.is_some_and(|row| row.body() == b"\0\x01\0\0\0\x01t") { Part::Standby } else { Part::Primary })
}

/// Whether the server's authentication is set up in a way that the sidecar must not stand in front of.
#[must_use]
pub fn is_misconfigured(error: &AdminError) -> bool {
    match error {
        AdminError::Statement { error, .. } => error.sqlstate == privileges::TRUSTED,
        AdminError::Login { source, .. } => matches!(
            source.as_ref(),
            LoginFailed::Protocol(LoginError::NoPassword | LoginError::Method(_) | LoginError::Mechanism)
        ),
        AdminError::Unreachable { .. } | AdminError::Silent(_) | AdminError::Read(_) => false,
    }
}
