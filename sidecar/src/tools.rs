//! The subcommands that write a file and end.

use std::path::PathBuf;
use std::time::Duration;

use postern_attest_io::agent::AgentError;
use postern_attest_io::{GuestAgent, Identity, IdentityError};
use postern_plumbing::exit;
use thiserror::Error;

use crate::cli::{Agent, Certificate, Password};
use crate::files::write_private;
use crate::keys;
use crate::postgres::privileges::is_plain_name;

/// Why there is no file.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The guest agent did not help.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// There is no certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The role's name is none.
    #[error("a role's name has 1 to 63 lower-case letters, digits and underscores")]
    Role,
}

impl ToolError {
    /// The code to exit with.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Role => exit::USAGE,
            Self::Agent(_) | Self::Identity(_) | Self::Write { .. } => exit::UNAVAILABLE,
        }
    }
}

/// Writes `client.crt` and `client.key`.
///
/// # Errors
/// See [`ToolError`].
pub async fn certificate(arguments: &Certificate) -> Result<(), ToolError> {
    let agent = agent(&arguments.agent)?;
    let validity = Duration::from_secs(u64::from(arguments.hours) * 60 * 60);
    let identity = Identity::issue(&agent, std::slice::from_ref(&arguments.name), validity).await?;
    let (certificate, key) = (identity.certificate_pem(), identity.private_key_pem());
    for (name, content) in [("client.crt", certificate.as_bytes()), ("client.key", key.as_bytes())] {
        let path = arguments.out_dir.join(name);
        write_private(&path, content).map_err(|source| ToolError::Write { path, source })?;
    }
    Ok(())
}

/// Writes a role's password and a newline.
///
/// # Errors
/// See [`ToolError`].
pub async fn password(arguments: &Password) -> Result<(), ToolError> {
    if !is_plain_name(&arguments.role) {
        return Err(ToolError::Role);
    }
    let agent = agent(&arguments.agent)?;
    let password = match arguments.role.as_str() {
        "postgres" => keys::superuser_password(&agent).await?,
        role => keys::role_password(&agent, role).await?,
    };
    let content = zeroize::Zeroizing::new(format!("{}\n", password.expose()));
    write_private(&arguments.out, content.as_bytes())
        .map_err(|source| ToolError::Write { path: arguments.out.clone(), source })
}

fn agent(arguments: &Agent) -> Result<GuestAgent, AgentError> {
    match &arguments.endpoint {
        Some(endpoint) => Ok(GuestAgent::new(endpoint.clone(), arguments.timeout())),
        None => GuestAgent::discover(arguments.timeout()),
    }
}
