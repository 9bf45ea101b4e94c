//! What a line of the trail says.

use std::fmt;

use postern_allowlist::{Block, BootInfo, NotAdmitted};
use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};
use postern_plumbing::clock::unix_now;
use serde::{Serialize, Serializer};

/// Most lines are shorter, in bytes.
const USUAL: usize = 768;

/// One line. What does not concern an event is left out of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Event<'a> {
    /// Unix seconds.
    pub(super) at: u64,
    /// What happened.
    pub(super) event: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) who: Option<Who<'a>>,
    /// The app, of lines that tell of no instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) app: Option<String>,
    /// The connection, by its name in the ordinary log and in the PROXY header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection: Option<String>,
    /// SHA-256 of the certificate that carried the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) evidence: Option<String>,
    /// The head at which the contract was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) block: Option<At>,
    /// A word of a closed set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
    /// The contract's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
    /// The WireGuard key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// Unix seconds until which the admission holds without another word of the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sessions_cut: Option<usize>,
    /// From the sight of the block to the cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) milliseconds: Option<u64>,
    /// How many lines this one stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u64>,
    /// What those lines would have told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) of: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<&'static str>,
}

/// Whom a line is about.
#[derive(Debug, Serialize)]
pub(super) struct Who<'a> {
    #[serde(serialize_with = "shown")]
    app: &'a AppId,
    #[serde(serialize_with = "shown")]
    instance: &'a InstanceId,
    #[serde(serialize_with = "shown")]
    compose_hash: &'a ComposeHash,
    #[serde(serialize_with = "shown")]
    device: &'a DeviceId,
    #[serde(serialize_with = "shown")]
    os_image: &'a OsImageHash,
    tcb_status: &'a str,
}

/// As it is shown to people.
fn shown<T: fmt::Display, S: Serializer>(id: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// A block.
#[derive(Debug, Serialize)]
pub(super) struct At {
    number: u64,
    hash: String,
}

impl<'a> Event<'a> {
    /// About somebody.
    pub(super) fn about(event: &'static str, boot: &'a BootInfo, evidence: Option<&[u8; 32]>) -> Self {
        let who = Who {
            app: &boot.app_id,
            instance: &boot.instance_id,
            compose_hash: &boot.compose_hash,
            device: &boot.device_id,
            os_image: &boot.os_image_hash,
            tcb_status: &boot.tcb_status,
        };
        Self { who: Some(who), evidence: evidence.map(hex::encode), ..Self::now(event) }
    }

    /// About nobody in particular.
    pub(super) fn now(event: &'static str) -> Self {
        Self { at: unix_now(), event, ..Self::default() }
    }

    /// Sessions of an app that have no line of their own.
    pub(super) fn sessions_left_out(app: &AppId, count: u64) -> Self {
        Self { of: Some("session"), app: Some(app.to_string()), count: Some(count), ..Self::now("left_out") }
    }

    /// Lines that were not written.
    pub(super) fn lost(kind: &'static str, count: u64) -> Self {
        Self { of: Some(kind), count: Some(count), ..Self::now("lost") }
    }

    /// With a block, where one is known.
    pub(super) fn at_block(mut self, block: Option<&Block>) -> Self {
        self.block = block.map(|block| At { number: block.number, hash: hex::encode(block.hash) });
        self
    }

    /// With the reason of a refusal.
    pub(super) fn because(mut self, not_admitted: &'a NotAdmitted) -> Self {
        self.reason = Some(not_admitted.label());
        if let NotAdmitted::Refused { refusal, .. } = not_admitted {
            self.text = Some(&refusal.text).filter(|text| !text.is_empty()).map(String::as_str);
        }
        self.at_block(not_admitted.block())
    }

    /// As JSON.
    pub(super) fn text(&self) -> String {
        let mut text = Vec::with_capacity(USUAL);
        // Strings and numbers under fixed names can always be written, and JSON is text.
        let written = serde_json::to_writer(&mut text, self);
        written.ok().and_then(|()| String::from_utf8(text).ok()).unwrap_or_default()
    }
}
