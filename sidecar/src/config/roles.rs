//! `[[roles]]`: the roles that clients may log in as, and the files with their secrets.

use std::collections::BTreeSet;
use std::path::PathBuf;

use postern_pgwire::roles::{ClusterSecret, Role};
use postern_plumbing::config::{Section, Text};

use super::sessions::SessionPolicy;
use crate::postgres::privileges::{self, Privileges};
use crate::secrets;
use crate::serve::identities::IdentityRule;

/// One role.
#[derive(Clone, Debug)]
pub struct RoleConfig {
    /// Its name and secrets, and the further roles that these open.
    pub role: Role,
    /// Where its secrets are read again.
    pub secret_files: Vec<PathBuf>,
    /// What it may do in Postgres.
    pub privileges: Privileges,
    /// What its sessions may be, and how many.
    pub sessions: SessionPolicy,
}

/// Reads the roles and their secrets. A role that a rule opens to attested clients may do without.
pub(super) fn roles(sections: Vec<Section<'_>>, rules: &[IdentityRule]) -> Vec<RoleConfig> {
    let open: BTreeSet<&str> = rules.iter().flat_map(|rule| &rule.roles).map(String::as_str).collect();
    sections.into_iter().filter_map(|mut section| role(&mut section, &open)).collect()
}

fn role(section: &mut Section<'_>, open: &BTreeSet<&str>) -> Option<RoleConfig> {
    let name: Option<String> = section.required("name");
    if name.as_deref().is_some_and(|name| !privileges::is_plain_name(name)) {
        section.problem("name", "expected 1 to 63 lower-case letters, digits and underscores, not starting with `pg_`");
    }
    let secret_files: Vec<PathBuf> = section.list("secret_files");
    if secret_files.is_empty() && !name.as_deref().is_some_and(|name| open.contains(name)) {
        section.problem(
            "secret_files",
            "missing; expected an array with the path of a secret, as no rule of [[clients.rules]] opens the role without one",
        );
    }
    let secrets = secrets(section, &secret_files);
    let opens: Vec<String> = section.list("opens");
    if secret_files.is_empty() && !opens.is_empty() {
        section.problem("opens", "the role has no secret that could open others");
    }
    let sessions = SessionPolicy::read(section);
    let privileges = section.optional::<Text<Privileges>>("privileges").map(Text::into_inner);
    let name = name?;
    let privileges = privileges.unwrap_or(match name.as_str() {
        "teesql_read" => Privileges::Read,
        "teesql_readwrite" => Privileges::ReadWrite,
        _ => Privileges::None,
    });
    Some(RoleConfig { role: Role { name, secrets, opens }, secret_files, privileges, sessions })
}

fn secrets(section: &mut Section<'_>, files: &[PathBuf]) -> Vec<ClusterSecret> {
    secrets::read(files).unwrap_or_else(|mistakes| {
        for mistake in mistakes {
            section.problem("secret_files", mistake);
        }
        Vec::new()
    })
}
