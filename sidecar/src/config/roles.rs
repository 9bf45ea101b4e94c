//! `[[roles]]`: the roles that clients may log in as, and the files with their secrets.

use std::path::PathBuf;

use postern_pgwire::roles::{ClusterSecret, Role};
use postern_plumbing::config::{Section, Text};
use postern_plumbing::secret::Secret;

use super::sessions::SessionPolicy;
use crate::postgres::privileges::{self, Privileges};

/// One role.
#[derive(Clone, Debug)]
pub struct RoleConfig {
    /// Its name and secrets, and the further roles that these open.
    pub role: Role,
    /// What it may do in Postgres.
    pub privileges: Privileges,
    /// What its sessions may be, and how many.
    pub sessions: SessionPolicy,
}

/// Reads the roles and their secrets.
pub(super) fn roles(sections: Vec<Section<'_>>) -> Vec<RoleConfig> {
    sections.into_iter().filter_map(|mut section| role(&mut section)).collect()
}

fn role(section: &mut Section<'_>) -> Option<RoleConfig> {
    let name: Option<String> = section.required("name");
    if name.as_deref().is_some_and(|name| !privileges::is_plain_name(name)) {
        section.problem("name", "expected 1 to 63 lower-case letters, digits and underscores, not starting with `pg_`");
    }
    let secrets = secrets(section);
    let opens = section.list("opens");
    let sessions = SessionPolicy::read(section);
    let privileges = section.optional::<Text<Privileges>>("privileges").map(Text::into_inner);
    let name = name?;
    let privileges = privileges.unwrap_or(match name.as_str() {
        "teesql_read" => Privileges::Read,
        "teesql_readwrite" => Privileges::ReadWrite,
        _ => Privileges::None,
    });
    Some(RoleConfig { role: Role { name, secrets, opens }, privileges, sessions })
}

fn secrets(section: &mut Section<'_>) -> Vec<ClusterSecret> {
    let files: Vec<PathBuf> = section.list("secret_files");
    if !section.has("secret_files") {
        section.problem("secret_files", "missing; expected an array with one path, or two while a secret is replaced");
    } else if !(1..=2).contains(&files.len()) {
        section.problem("secret_files", "expected one path, or two while a secret is replaced");
    }
    let mut secrets = Vec::new();
    for file in files {
        let secret = Secret::from_file(&file).map_err(|error| error.to_string()).and_then(|secret| {
            secret.expose().parse::<ClusterSecret>().map_err(|error| format!("{}: {error}", file.display()))
        });
        match secret {
            Ok(secret) => secrets.push(secret),
            Err(mistake) => section.problem("secret_files", mistake),
        }
    }
    secrets
}
