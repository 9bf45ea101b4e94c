//! The answers of the guest agent, in the fields that are of use here. Unknown fields are skipped: agents differ.

use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// What the agent says about the application and its machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Info {
    /// The application.
    pub app_id: AppId,
    /// The CVM within the application; an application may run without instance ids.
    #[serde(default, deserialize_with = "non_empty")]
    pub instance_id: Option<InstanceId>,
    /// The application's name.
    #[serde(default)]
    pub app_name: String,
    /// SHA-256 of `app-compose.json`; older agents say it only within their TCB info.
    #[serde(default, deserialize_with = "non_empty")]
    pub compose_hash: Option<ComposeHash>,
    /// The OS image.
    #[serde(default, deserialize_with = "non_empty")]
    pub os_image_hash: Option<OsImageHash>,
    /// The machine. The agent's word, and a digest of nothing with real agents; the verified one is in an appraisal.
    #[serde(default, deserialize_with = "non_empty")]
    pub device_id: Option<DeviceId>,
}

/// The version of a guest agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Version {
    /// The version.
    pub version: String,
    /// The revision of its source.
    #[serde(default)]
    pub rev: String,
}

#[derive(Deserialize)]
pub(super) struct Quote {
    #[serde(deserialize_with = "hex_bytes")]
    pub(super) quote: Vec<u8>,
    /// JSON within JSON.
    pub(super) event_log: String,
}

/// The key of an answer to `GetKey`, without a copy that is not wiped. The error says what is wrong and never what was read.
pub(super) fn key(body: &[u8]) -> Result<Zeroizing<[u8; 32]>, String> {
    #[derive(Deserialize)]
    struct Key<'a> {
        key: &'a str,
    }
    let answer: Key<'_> = serde_json::from_slice(body).map_err(|_| "it holds no key".to_owned())?;
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(answer.key, key.as_mut()).map_err(|_| "the key is not 32 bytes in hex".to_owned())?;
    Ok(key)
}

/// What a refusal says, short enough for a log line.
pub(super) fn refusal(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let text = serde_json::from_slice::<Refusal>(body)
        .map_or_else(|_| String::from_utf8_lossy(body).into_owned(), |refusal| refusal.error);
    text.chars().filter(|char| !char.is_control()).take(200).collect()
}

fn hex_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    hex::decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn non_empty<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}
