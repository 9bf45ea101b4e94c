//! `[[clients.rules]]`: the clients that need no secret, because of what they are.

use std::collections::BTreeSet;

use postern_attest::PeerPolicy;
use postern_identity::{AppId, ComposeHash};
use postern_plumbing::config::{Section, Text};

use super::roles::RoleConfig;
use crate::serve::identities::IdentityRule;

/// Reads the rules. `policy`: whether a signed policy judges evidence; `chain`: whether the chain has to allow every client as
/// well.
pub(super) fn rules(clients: &mut Section<'_>, policy: bool, chain: bool) -> Vec<IdentityRule> {
    // App id and compose hash are what the guest's own system says that it measured. Which system that is, only the images of a
    // policy tell. The chain is no substitute: it judges the hash of the image that the guest claims.
    if clients.has("rules") && !policy {
        clients.problem("rules", "need attestation.policy: without one, any guest can claim to be any app");
    }
    clients.sections("rules").iter_mut().filter_map(|section| rule(section, chain)).collect()
}

fn rule(section: &mut Section<'_>, chain: bool) -> Option<IdentityRule> {
    let app_id = section.required::<Text<AppId>>("app_id").map(Text::into_inner);
    let compose_hashes = section.list::<Text<ComposeHash>>("compose_hashes");
    let compose_hashes: BTreeSet<ComposeHash> = compose_hashes.into_iter().map(Text::into_inner).collect();
    // A quote proves that some guest measured this app id. Who may measure it is for a compose hash or the chain to say.
    if !section.has("compose_hashes") && !chain {
        section.problem("compose_hashes", "missing; without [chain], nothing else says what may run under this app id");
    } else if section.has("compose_hashes") && compose_hashes.is_empty() {
        section.problem("compose_hashes", "expected at least one");
    }
    let roles: BTreeSet<String> = section.list("roles").into_iter().collect();
    if roles.is_empty() {
        section.problem("roles", "expected at least one of the names in [[roles]]");
    }
    let clients = PeerPolicy {
        compose_hashes: section.has("compose_hashes").then_some(compose_hashes),
        ..PeerPolicy::app(app_id?)
    };
    Some(IdentityRule { clients, roles })
}

/// A rule that names a role that does not exist would open nothing, and nobody would notice.
pub(super) fn judge(clients: &mut Section<'_>, rules: &[IdentityRule], roles: &[RoleConfig]) {
    for name in rules.iter().flat_map(|rule| &rule.roles) {
        if !roles.iter().any(|role| role.role.name == *name) {
            clients.problem("rules", format!("`{name}` is none of [[roles]]"));
        }
    }
}
