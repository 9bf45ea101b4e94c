//! Clients that are known by what they are, and need no secret.

use std::collections::BTreeSet;

use postern_attest::{Appraisal, PeerPolicy};

/// Roles that are open to clients of one kind.
#[derive(Clone, Debug)]
pub struct IdentityRule {
    /// The clients: an app, and what it may run.
    pub clients: PeerPolicy,
    /// The roles that they may log in as.
    pub roles: BTreeSet<String>,
}

/// Which attested client may log in as which role without a secret.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    rules: Vec<IdentityRule>,
}

impl Identities {
    /// Each of these rules opens what it says; without any, every client has to know a secret.
    #[must_use]
    pub const fn new(rules: Vec<IdentityRule>) -> Self {
        Self { rules }
    }

    /// The role that is open to `peer` under the name `user`. `peer` is what the client's evidence proved: a client without
    /// believed evidence is nobody, whatever else lets it in.
    #[must_use]
    pub fn role(&self, peer: Option<&Appraisal>, user: &[u8]) -> Option<&str> {
        let peer = peer?;
        let open = self.rules.iter().filter(|rule| rule.clients.check(peer).is_ok());
        open.flat_map(|rule| &rule.roles).find(|role| role.as_bytes() == user).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use postern_identity::{AppId, ComposeHash};

    use super::*;
    use crate::serve::clients;

    fn peer(app: u8, compose: u8) -> Appraisal {
        let mut peer = clients::tests::peer();
        (peer.identity.app_id, peer.identity.compose_hash) = (AppId([app; 20]), ComposeHash([compose; 32]));
        peer
    }

    fn rule(app: u8, compose: Option<u8>, roles: &[&str]) -> IdentityRule {
        let compose_hashes = compose.map(|byte| BTreeSet::from([ComposeHash([byte; 32])]));
        let clients = PeerPolicy { compose_hashes, ..PeerPolicy::app(AppId([app; 20])) };
        IdentityRule { clients, roles: roles.iter().map(|&role| role.to_owned()).collect() }
    }

    #[test]
    fn a_rule_opens_its_roles_to_its_clients_and_to_nobody_else() {
        let identities = Identities::new(vec![
            rule(1, Some(2), &["indexer"]),
            rule(1, None, &["teesql_read"]),
            rule(7, None, &["indexer", "teesql_read"]),
        ]);
        for (app, compose, user, role) in [
            (1, 2, "indexer", Some("indexer")),
            (1, 2, "teesql_read", Some("teesql_read")),
            (1, 3, "indexer", None),
            (1, 3, "teesql_read", Some("teesql_read")),
            (7, 2, "indexer", Some("indexer")),
            (8, 2, "indexer", None),
            (1, 2, "postgres", None),
            (1, 2, "INDEXER", None),
            (1, 2, "", None),
        ] {
            assert_eq!(identities.role(Some(&peer(app, compose)), user.as_bytes()), role, "{app} {compose} {user}");
        }
        assert_eq!(identities.role(None, b"indexer"), None, "a client without evidence is nobody");
        assert_eq!(Identities::default().role(Some(&peer(1, 2)), b"indexer"), None);
    }
}
