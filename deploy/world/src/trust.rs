//! Tells what this user wrote from what others put there: the folder for temporary files is everybody's.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The permissions of the group and of others to write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Whether a path is a folder, not a link to one, that belongs to this user and that nobody else can write to.
///
/// Nobody else can put another in its place either, as long as the folder around it is sticky, as `/tmp` is.
pub(crate) fn is_own_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir() && is_own(&metadata))
}

/// Opens a regular file that belongs to this user and that nobody else can write to. Follows no link, waits for no pipe.
///
/// # Errors
/// When it cannot be opened, or is another kind of file or somebody else's.
pub(crate) fn open_own_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && is_own(&metadata) {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a regular file of this user alone"))
    }
}

fn is_own(metadata: &Metadata) -> bool {
    belongs_to(rustix::process::geteuid().as_raw(), metadata.uid(), metadata.mode())
}

fn belongs_to(user: u32, owner: u32, mode: u32) -> bool {
    user == owner && mode & WRITABLE_BY_OTHERS == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn only_what_is_ours_alone_is_ours() {
        assert!(belongs_to(1000, 1000, 0o40711));
        assert!(!belongs_to(0, 1000, 0o40711), "root trusts nobody else's");
        assert!(!belongs_to(1000, 1000, 0o40731));
        assert!(!belongs_to(1000, 1000, 0o40713));
    }

    #[test]
    fn a_link_to_an_own_folder_is_not_an_own_folder() {
        let temporary = tempfile::tempdir().unwrap();
        let link = temporary.path().join("link");
        symlink(temporary.path(), &link).unwrap();
        assert!(is_own_folder(temporary.path()) && !is_own_folder(&link));
    }

    #[test]
    fn a_file_that_is_linked_or_open_to_others_is_not_opened() {
        let temporary = tempfile::tempdir().unwrap();
        let (file, link) = (temporary.path().join("file"), temporary.path().join("link"));
        fs::write(&file, "kept").unwrap();
        symlink(&file, &link).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        open_own_file(&file, File::options().read(true)).unwrap();
        open_own_file(&link, File::options().read(true)).unwrap_err();
        open_own_file(temporary.path(), File::options().read(true)).unwrap_err();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        open_own_file(&file, File::options().read(true)).unwrap_err();
    }
}
