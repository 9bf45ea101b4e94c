//! Text that must not be seen: passwords, cluster secrets, tokens.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The largest secret file, in bytes. Anything longer is a mistaken path.
const MAX_FILE: usize = 64 * 1024;

/// A secret text. It is wiped when dropped, and its `Debug` and `Display` say `[redacted]`.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// Why a secret could not be read. Never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read.
    #[error("cannot read the secret file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds nothing, or only the newline at its end.
    #[error("the secret file {} is empty", .0.display())]
    Empty(PathBuf),
    /// The file is longer than 64 KiB.
    #[error("the secret file {} is longer than 64 KiB", .0.display())]
    TooLong(PathBuf),
    /// The file is not UTF-8 text.
    #[error("the secret file {} is not UTF-8 text", .0.display())]
    NotText(PathBuf),
}

impl Secret {
    /// Takes a text into custody.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. The name marks the place for a reader: what is done with it there?
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads a secret from a file, without one trailing line end, which editors and `echo` add.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, is longer than 64 KiB, or is not UTF-8.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let unreadable = |source| SecretError::Unreadable { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(unreadable)?;
        // Room for all of it from the start: growing would leave copies behind that nobody wipes.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
        file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > MAX_FILE {
            return Err(SecretError::TooLong(path.to_path_buf()));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::NotText(path.to_path_buf()))?;
        let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if text.is_empty() {
            return Err(SecretError::Empty(path.to_path_buf()));
        }
        Ok(Self::new(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn neither_debug_nor_display_shows_it() {
        let secret = Secret::new("hunter2".into());
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "[redacted] [redacted] Some([redacted])");
    }

    #[test]
    fn one_line_end_is_dropped_and_no_more() {
        let cases: [(&[u8], &str); 5] =
            [(b"s", "s"), (b"s\n", "s"), (b"s\r\n", "s"), (b"s\n\n", "s\n"), (b" s \n", " s ")];
        for (content, expected) in cases {
            assert_eq!(Secret::from_file(file_with(content).path()).unwrap().expose(), expected);
        }
    }

    #[test]
    fn a_file_that_holds_no_secret_is_refused() {
        let refused = |content: &[u8]| Secret::from_file(file_with(content).path()).unwrap_err();
        assert!(matches!(refused(b""), SecretError::Empty(_)));
        assert!(matches!(refused(b"\n"), SecretError::Empty(_)));
        assert!(matches!(refused(b"\xff"), SecretError::NotText(_)));
        assert!(matches!(refused(&vec![b'x'; MAX_FILE + 1]), SecretError::TooLong(_)));
        assert!(Secret::from_file(file_with(&vec![b'x'; MAX_FILE]).path()).is_ok());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Secret::from_file(Path::new("/nonexistent/secret")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the secret file /nonexistent/secret: "));
    }
}
