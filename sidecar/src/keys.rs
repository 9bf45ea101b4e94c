//! What is derived from the guest's keys, and under which paths.

use postern_attest_io::GuestAgent;
use postern_attest_io::agent::AgentError;
use postern_identity::InstanceId;
use postern_plumbing::secret::Secret;
use postern_wireguard::PrivateKey;

/// What the guest agent signs the derived keys for.
const PURPOSE: &str = "postern";
/// The path of the superuser's password, whatever the superuser is called; TeeSQL uses the same.
const SUPERUSER: &str = "pg/superuser";

/// The password of a role in Postgres: 64 hex digits, the same for every instance of the app.
///
/// # Errors
/// When the guest agent does not answer with a key.
pub async fn role_password(agent: &GuestAgent, role: &str) -> Result<Secret, AgentError> {
    password(agent, &format!("pg/{role}")).await
}

/// The superuser's password, made in the same way.
///
/// # Errors
/// When the guest agent does not answer with a key.
pub async fn superuser_password(agent: &GuestAgent) -> Result<Secret, AgentError> {
    password(agent, SUPERUSER).await
}

/// The tunnel key of this instance. The guest's keys are the app's, so the instance is part of the path: a gateway takes no
/// key from two instances.
///
/// # Errors
/// When the guest agent does not answer with a key.
pub async fn tunnel(agent: &GuestAgent, instance: &InstanceId) -> Result<PrivateKey, AgentError> {
    let key = agent.key(&format!("wireguard/{instance}"), PURPOSE).await?;
    Ok(PrivateKey::from_bytes(*key))
}

async fn password(agent: &GuestAgent, path: &str) -> Result<Secret, AgentError> {
    let key = agent.key(path, PURPOSE).await?;
    Ok(Secret::new(hex::encode(key.as_slice())))
}
