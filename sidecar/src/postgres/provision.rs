//! Makes Postgres know the roles and their passwords.

use postern_pgwire::login::LoginError;
use postern_pgwire::scram;
use postern_plumbing::secret::Secret;

use super::Socket;
use super::admin::{AdminError, Proof, Session};
use super::login::LoginFailed;
use super::privileges::{self, Privileges};

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
    /// a server that asks for no password is found out before a client is let in.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn apply(&self) -> Result<(), AdminError> {
        let (superuser, proof) = &self.superuser;
        let Some(first) = self.databases.first() else { return Ok(()) };
        let mut session = Session::open(&self.socket, superuser, proof, first).await?;
        session.execute("keep quiet", privileges::QUIET).await?;
        session.execute("be served", privileges::NO_TRUST).await?;
        for role in &self.roles {
            let verifier = scram::verifier(role.password.expose().as_bytes(), &rand::random());
            session.execute("make a role", &privileges::role(&role.name, &verifier, role.replication)).await?;
        }
        self.grant(&mut session).await?;
        for database in self.databases.iter().skip(1) {
            let mut session = Session::open(&self.socket, superuser, proof, database).await?;
            self.grant(&mut session).await?;
        }
        for role in &self.roles {
            let proof = Proof::Password(role.password.clone());
            for database in &self.databases {
                Session::open(&self.socket, &role.name, &proof, database).await?;
            }
        }
        Ok(())
    }

    /// Whether Postgres is there and lets the superuser in, and nobody without proof.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn probe(&self) -> Result<(), AdminError> {
        let (superuser, proof) = &self.superuser;
        let Some(first) = self.databases.first() else { return Ok(()) };
        let mut session = Session::open(&self.socket, superuser, proof, first).await?;
        session.execute("be served", privileges::NO_TRUST).await
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
