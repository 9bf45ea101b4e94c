//! What an auditor wants to find: who was let in, who was refused, who was thrown out, by which block and on which evidence.
//!
//! Each of these is a line of the ordinary log and, where one is configured, of the audit trail: a file of JSON lines in which
//! each vouches for the one before ([`postern_gateway_core::trail`]). An admission is in the trail before it takes effect, or
//! it does not take effect. Sessions, refusals and revocations take effect at once, whatever becomes of their lines; lines that
//! could not be written are counted in the trail as soon as it can be.

mod event;
mod file;
mod keeper;
pub mod verify;

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_allowlist::{Admission, Block, BootInfo, NotAdmitted};
use postern_gateway_core::registration::Assignment;
use postern_identity::AppId;
use postern_plumbing::sparing::Sparing;
use postern_wireguard::PublicKey;

use self::event::Event;
use self::file::TrailFile;
pub use self::file::{AuditSettings, OpenError};
use self::keeper::Keeper;
pub use self::keeper::Unwritten;
use crate::proxy_header::ConnectionId;

/// The target of these lines in the ordinary log, so that they can be kept longer than others.
const AUDIT: &str = "audit";

/// How many refusals of one kind are told of in a while; anybody can cause them.
const REFUSALS: u32 = 20;
/// How many sessions of one app are; anybody can cause them, too, and a busy app has many.
const SESSIONS: u32 = 6_000;
/// How long that while is.
const WHILE: Duration = Duration::from_secs(60);

/// Where all of it is written down. Clones write to the same place.
#[derive(Debug, Clone)]
pub struct Audit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keeper: Option<Keeper>,
    /// By event and reason.
    refusals: Sparing<(&'static str, &'static str)>,
    /// `None` where sessions are not written down.
    sessions: Option<Sparing<AppId>>,
}

impl Audit {
    /// Goes on with the trail of a file, or begins it.
    ///
    /// # Errors
    /// When it is not as it was left, or cannot be written.
    pub fn open(settings: AuditSettings) -> Result<Self, OpenError> {
        let (path, sessions) = (settings.file.clone(), settings.sessions);
        let keeper = TrailFile::open(settings).and_then(|file| {
            keeper::tell(file.head());
            Keeper::start(file).map_err(|source| OpenError::File { path, source })
        })?;
        keeper.hand_in(&Event { version: Some(env!("CARGO_PKG_VERSION")), ..Event::now("started") });
        Ok(Self::of(Some(keeper), sessions))
    }

    /// The ordinary log only.
    #[must_use]
    pub fn log_only() -> Self {
        Self::of(None, false)
    }

    fn of(keeper: Option<Keeper>, sessions: bool) -> Self {
        let sessions = sessions.then(|| Sparing::new(SESSIONS, WHILE));
        Self(Arc::new(Inner { keeper, refusals: Sparing::new(REFUSALS, WHILE), sessions }))
    }

    /// Whether the trail cannot be written, so that nobody new is admitted.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.0.keeper.as_ref().is_some_and(Keeper::is_broken)
    }

    /// Writes down that an instance is about to be let in.
    ///
    /// # Errors
    /// When that is not in the trail: it must not be let in.
    pub async fn admit(
        &self,
        boot: &BootInfo,
        fingerprint: &[u8; 32],
        admission: &Admission,
        key: &PublicKey,
    ) -> Result<(), Unwritten> {
        let event = Event::about("admitted", boot, Some(fingerprint)).at_block(Some(&admission.block));
        self.write(&Event { key: Some(key.to_string()), expires: Some(admission.expires), ..event }).await
    }

    /// Writes down that a revoked instance is about to be let in again.
    ///
    /// # Errors
    /// When that is not in the trail: it must not be let in.
    pub async fn restore(&self, boot: &BootInfo, fingerprint: &[u8; 32], block: &Block) -> Result<(), Unwritten> {
        self.write(&Event::about("restored", boot, Some(fingerprint)).at_block(Some(block))).await
    }

    /// An instance was registered; the trail has it already.
    pub fn entered(&self, boot: &BootInfo, admission: &Admission, assignment: &Assignment, key: &PublicKey) {
        tracing::info!(
            target: AUDIT,
            instance = %boot.instance_id,
            app = %boot.app_id,
            compose_hash = %boot.compose_hash,
            device = %boot.device_id,
            block = admission.block.number,
            address = %assignment.address,
            slot = assignment.slot.number(),
            %key,
            "instance admitted"
        );
    }

    /// A revoked instance was let in again; the trail has it already.
    pub fn restored(&self, boot: &BootInfo, block: &Block) {
        tracing::info!(
            target: AUDIT,
            instance = %boot.instance_id,
            app = %boot.app_id,
            compose_hash = %boot.compose_hash,
            block = block.number,
            "instance admitted again"
        );
    }

    /// An instance was refused at its registration.
    pub fn refused(&self, boot: &BootInfo, fingerprint: &[u8; 32], not_admitted: &NotAdmitted) {
        let reason = not_admitted.label();
        let Some(left_out) = self.turn("refused", reason) else { return };
        tracing::info!(
            target: AUDIT,
            instance = %boot.instance_id,
            app = %boot.app_id,
            compose_hash = %boot.compose_hash,
            device = %boot.device_id,
            reason,
            left_out,
            "instance refused: {not_admitted}"
        );
        self.hand_in(&Event::about("refused", boot, Some(fingerprint)).because(not_admitted));
    }

    /// An instance that the chain allows was refused for another reason, after [`Audit::admit`].
    pub fn turned_away(&self, boot: &BootInfo, fingerprint: &[u8; 32], reason: &'static str) {
        let Some(left_out) = self.turn("refused", reason) else { return };
        let instance = boot.instance_id;
        tracing::warn!(target: AUDIT, %instance, app = %boot.app_id, reason, left_out, "registration refused");
        self.hand_in(&Event { reason: Some(reason), ..Event::about("refused", boot, Some(fingerprint)) });
    }

    /// A session was opened to an instance, which the chain allows by this block.
    pub fn session(&self, id: ConnectionId, boot: &BootInfo, fingerprint: &[u8; 32], admission: &Admission) {
        let block = admission.block;
        tracing::debug!(target: AUDIT, connection = %id, instance = %boot.instance_id, %block, "session allowed");
        let (Some(sessions), Some(keeper)) = (&self.0.sessions, &self.0.keeper) else { return };
        let Some(left_out) = sessions.turn(boot.app_id, Instant::now()) else { return };
        if left_out > 0 {
            self.hand_in(&Event::sessions_left_out(&boot.app_id, left_out));
        }
        let event = Event::about("session", boot, Some(fingerprint)).at_block(Some(&block));
        keeper.hand_in_where_room_is(&Event { connection: Some(id.to_string()), ..event });
    }

    /// A connection was refused because an instance is not admitted.
    pub fn session_refused(
        &self,
        id: ConnectionId,
        boot: &BootInfo,
        fingerprint: &[u8; 32],
        not_admitted: &NotAdmitted,
    ) {
        let reason = not_admitted.label();
        tracing::debug!(target: AUDIT, connection = %id, instance = %boot.instance_id, "session refused: {not_admitted}");
        if self.turn("session_refused", reason).is_some() {
            let event = Event::about("session_refused", boot, Some(fingerprint)).because(not_admitted);
            self.hand_in(&Event { connection: Some(id.to_string()), ..event });
        }
    }

    /// Somebody's evidence was not believed: that of the certificate with this fingerprint, where one was shown.
    pub fn unbelieved(&self, fingerprint: Option<&[u8; 32]>, reason: &'static str, detail: &str) {
        let Some(left_out) = self.turn("evidence_refused", reason) else { return };
        tracing::info!(target: AUDIT, reason, left_out, "evidence refused: {detail}");
        let evidence = fingerprint.map(hex::encode);
        self.hand_in(&Event { reason: Some(reason), evidence, ..Event::now("evidence_refused") });
    }

    /// A registered instance is not allowed any more. `after` is the time from the sight of the block to here.
    pub fn revoked(
        &self,
        boot: &BootInfo,
        fingerprint: &[u8; 32],
        not_admitted: &NotAdmitted,
        cut: usize,
        after: Option<Duration>,
    ) {
        let milliseconds = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        tracing::warn!(
            target: AUDIT,
            instance = %boot.instance_id,
            app = %boot.app_id,
            compose_hash = %boot.compose_hash,
            block = not_admitted.block().map(|block| block.number),
            reason = not_admitted.label(),
            sessions_cut = cut,
            milliseconds,
            "instance revoked: {not_admitted}"
        );
        let event = Event::about("revoked", boot, Some(fingerprint)).because(not_admitted);
        self.hand_in(&Event { sessions_cut: Some(cut), milliseconds, ..event });
    }

    /// The evidence of a registered instance is not believed any more.
    pub fn disbelieved(&self, boot: &BootInfo, fingerprint: &[u8; 32], reason: &'static str, cut: usize) {
        tracing::warn!(
            target: AUDIT,
            instance = %boot.instance_id,
            app = %boot.app_id,
            compose_hash = %boot.compose_hash,
            reason,
            sessions_cut = cut,
            "the evidence of an instance is not believed any more"
        );
        let event = Event::about("disbelieved", boot, Some(fingerprint));
        self.hand_in(&Event { reason: Some(reason), sessions_cut: Some(cut), ..event });
    }

    /// A registered instance was dropped because its time or its evidence is over.
    pub fn expired(&self, boot: &BootInfo, fingerprint: &[u8; 32]) {
        tracing::info!(target: AUDIT, instance = %boot.instance_id, app = %boot.app_id, "registration expired");
        self.hand_in(&Event::about("expired", boot, Some(fingerprint)));
    }

    /// Tells of the refusals and sessions that were left out, once nothing more of their kind comes.
    pub fn tell_left_out(&self, now: Instant) {
        self.tell(self.0.refusals.left_out(now), self.0.sessions.as_ref().map(|sessions| sessions.left_out(now)));
    }

    /// Writes the last line, and waits until everything is on the disk.
    pub async fn close(&self) {
        self.tell(self.0.refusals.all_left_out(), self.0.sessions.as_ref().map(Sparing::all_left_out));
        if let Some(keeper) = &self.0.keeper {
            keeper.close(&Event::now("stopped")).await;
        }
    }

    fn tell(&self, refusals: Vec<((&'static str, &'static str), u64)>, sessions: Option<Vec<(AppId, u64)>>) {
        for (app, count) in sessions.unwrap_or_default() {
            tracing::info!(target: AUDIT, %app, count, "more sessions were left out");
            self.hand_in(&Event::sessions_left_out(&app, count));
        }
        for ((of, reason), count) in refusals {
            tracing::info!(target: AUDIT, of, reason, count, "more of the same was left out");
            self.hand_in(&Event { of: Some(of), reason: Some(reason), count: Some(count), ..Event::now("left_out") });
        }
    }

    /// Whether a refusal is told of, and if so how many of its kind were not since the last one that was.
    fn turn(&self, event: &'static str, reason: &'static str) -> Option<u64> {
        let left_out = self.0.refusals.turn((event, reason), Instant::now())?;
        if left_out > 0 {
            self.hand_in(&Event {
                of: Some(event),
                reason: Some(reason),
                count: Some(left_out),
                ..Event::now("left_out")
            });
        }
        Some(left_out)
    }

    fn hand_in(&self, event: &Event<'_>) {
        if let Some(keeper) = &self.0.keeper {
            keeper.hand_in(event);
        }
    }

    async fn write(&self, event: &Event<'_>) -> Result<(), Unwritten> {
        match &self.0.keeper {
            Some(keeper) => keeper.write(event).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
