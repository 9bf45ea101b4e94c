//! Small files that survive a crash: always the old content or the new one, never a mixture.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Reads a file of at most `limit` bytes; `None` when there is none.
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut content)?;
    if content.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
    }
    Ok(Some(content))
}

/// Puts `content` in place of a file. When this returns, it is on the disk, and so is the file's name.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let next = beside(path);
    let mut file = File::create(&next)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&next, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Where the new content is prepared. Each file has one writer, so that the name need not be unique.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_content_takes_the_place_of_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        assert_eq!(read(&path, 10).unwrap(), None);
        for content in [b"one".as_slice(), b"", b"three"] {
            replace(&path, content).unwrap();
            assert_eq!(read(&path, 10).unwrap().unwrap(), content);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_crash_while_writing_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        replace(&path, b"old").unwrap();
        fs::write(beside(&path), b"ne").unwrap();
        assert_eq!(read(&path, 10).unwrap().unwrap(), b"old");
        replace(&path, b"new").unwrap();
        assert_eq!(read(&path, 10).unwrap().unwrap(), b"new");
    }

    #[test]
    fn what_is_too_large_or_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        replace(&path, b"12345").unwrap();
        assert_eq!(read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read(&path, 5).is_ok());
        assert!(replace(&folder.path().join("no/such/folder"), b"").is_err());
    }
}
