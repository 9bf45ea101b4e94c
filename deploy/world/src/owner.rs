//! The user that Postgres runs as, because it refuses to run as root.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use crate::WorldError;

/// A user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owner {
    /// The user `nobody` when this process is root, and nothing when it can run Postgres as itself.
    ///
    /// # Errors
    /// When this process is root and the machine has no such user.
    pub(crate) fn unprivileged() -> Result<Option<Self>, WorldError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let path = Path::new("/etc/passwd");
        let users = fs::read_to_string(path).map_err(|error| WorldError::file(path, error))?;
        let nobody = users.lines().find_map(|line| Self::parse(line, "nobody"));
        nobody.map(Some).ok_or_else(|| WorldError::Missing("there is no user `nobody` to run Postgres as".into()))
    }

    /// Gives a file or folder to this user.
    pub(crate) fn take(self, path: &Path) -> Result<(), WorldError> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(|error| WorldError::file(path, error))
    }

    /// Reads one line of passwd(5) if it is about `name`.
    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let matches = fields.next() == Some(name);
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        matches.then_some(Self { uid, gid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let line = "nobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin";
        assert_eq!(Owner::parse(line, "nobody"), Some(Owner { uid: 65_534, gid: 65_533 }));
        assert_eq!(Owner::parse(line, "nobod"), None);
        assert_eq!(Owner::parse("nobody:x", "nobody"), None);
    }
}
