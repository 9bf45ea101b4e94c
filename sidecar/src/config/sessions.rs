//! What the sessions of a role may be, and how many: the keys of `[[roles]]` that are about connections.

use postern_plumbing::config::Section;

use super::roles::RoleConfig;
use crate::serve::places::Share;

/// The rules for a role's sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionPolicy {
    /// Whether they may be replication connections, physical or logical.
    pub replication: bool,
    /// How many there may be.
    pub share: Share,
}

impl SessionPolicy {
    /// Reads the keys of one role.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let most: Option<usize> = section.optional("max_connections");
        if most == Some(0) {
            section.problem("max_connections", "expected at least 1");
        }
        let reserved = section.or("reserved_connections", 0);
        if most.is_some_and(|most| reserved > most) {
            section.problem("reserved_connections", "expected at most max_connections");
        }
        Self { replication: section.or("replication", false), share: Share { most, reserved } }
    }
}

/// Nobody can be kept more room for than there is.
pub(super) fn judge_shares(limits: &mut Section<'_>, roles: &[RoleConfig], sessions: usize) {
    let reserved = roles.iter().fold(0_usize, |sum, role| sum.saturating_add(role.sessions.share.reserved));
    if reserved > sessions {
        let text = format!("expected at least {reserved}, the sum of reserved_connections of [[roles]]");
        limits.problem("sessions", text);
    }
}
