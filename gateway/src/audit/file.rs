//! The file that the trail is appended to, and the two that go with it: a full one is set aside under the number of its last
//! line, and the head is kept beside it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postern_gateway_core::trail::{Broken, Head, NotAHead, Verifier, follows};

/// How often the head is written beside the trail at most.
const HEAD_EVERY: Duration = Duration::from_secs(1);

/// Where the trail is, and how it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// The file.
    pub file: PathBuf,
    /// The length in bytes at which it is set aside and a new one begun.
    pub rotate_at: u64,
    /// Whether every line is on the disk before what it tells of takes effect; otherwise the system decides when.
    pub sync: bool,
    /// Whether every session has a line.
    pub sessions: bool,
}

/// Why the trail cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The trail is not as it was written.
    #[error("{}: {}{source}", path.display(), line.map(|line| format!("line {line} of this file: ")).unwrap_or_default())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line in this file, from 1.
        line: Option<u64>,
        /// What is wrong.
        source: Broken,
    },
    /// The head beside the trail is missing or none.
    #[error("{}: {source}", path.display())]
    Head {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: NotAHead,
    },
}

/// What the trail needs of a file.
pub(super) trait Disk: Send + 'static {
    /// Appends all of the bytes, or some of them and fails.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to a length.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Waits until everything is on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for fs::File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The trail as it goes on.
#[derive(Debug)]
pub(super) struct TrailFile<D> {
    settings: AuditSettings,
    disk: D,
    /// Up to where whole lines are in the file.
    length: u64,
    head: Head,
    /// The head that was last written beside the trail, and when.
    kept: (Head, Option<Instant>),
    /// There may be part of a line behind `length`.
    torn: bool,
}

impl TrailFile<fs::File> {
    /// Goes on with the trail in a file, or begins one. What is in the file is checked against the head beside it.
    pub(super) fn open(settings: AuditSettings) -> Result<Self, OpenError> {
        let path = settings.file.as_path();
        let failed = |source| OpenError::File { path: path.to_owned(), source };
        let mut text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        // A line without an end was being written when everything ended. Nobody acted on it.
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        let head = judge(path, &text)?;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let disk = create(path).and_then(|file| file.set_len(length).map(|()| file)).map_err(failed)?;
        let mut file = Self { settings, disk, length, head, kept: (Head::default(), None), torn: false };
        file.keep_head().map_err(|source| OpenError::File { path: head_path(&file.settings.file), source })?;
        Ok(file)
    }

    /// Sets the file aside when it is full.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        if self.length < self.settings.rotate_at || self.torn {
            return Ok(());
        }
        let path = &self.settings.file;
        self.disk.sync()?;
        write_head(path, self.head)?;
        let fresh = beside(path, "new");
        let disk = create(&fresh)?;
        fs::rename(path, beside(path, &format!("{:012}", self.head.count)))?;
        fs::rename(fresh, path)?;
        (self.disk, self.length) = (disk, 0);
        match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl<D: Disk> TrailFile<D> {
    /// The trail so far.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Appends these events. Either all of them are in the trail then, or none.
    pub(super) fn append<'a>(&mut self, events: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        let (mut text, mut head) = (String::new(), self.head);
        for event in events {
            let (line, next) = head.line(event);
            text.push_str(&line);
            text.push('\n');
            head = next;
        }
        if self.torn {
            self.disk.truncate(self.length)?;
            self.torn = false;
        }
        let written = self.disk.append(text.as_bytes());
        let synced = written.and_then(|()| if self.settings.sync { self.disk.sync() } else { Ok(()) });
        if let Err(error) = synced {
            // What is behind the last whole line is no part of the trail.
            self.torn = self.disk.truncate(self.length).is_err();
            return Err(error);
        }
        self.length += u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.head = head;
        Ok(())
    }

    /// Writes the head beside the trail if that was not done just now.
    pub(super) fn keep_head_sometimes(&mut self, now: Instant) -> io::Result<()> {
        let (kept, at) = self.kept;
        if kept == self.head || at.is_some_and(|at| now.saturating_duration_since(at) < HEAD_EVERY) {
            return Ok(());
        }
        self.keep_head()?;
        self.kept.1 = Some(now);
        Ok(())
    }

    /// Writes the head beside the trail, once what it vouches for is on the disk.
    pub(super) fn keep_head(&mut self) -> io::Result<()> {
        self.disk.sync()?;
        write_head(&self.settings.file, self.head)?;
        self.kept.0 = self.head;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn on<E: Disk>(self, disk: impl FnOnce(D) -> E) -> TrailFile<E> {
        let Self { settings, disk: file, length, head, kept, torn } = self;
        TrailFile { settings, disk: disk(file), length, head, kept, torn }
    }
}

/// Where the head of a trail is kept.
pub(super) fn head_path(path: &Path) -> PathBuf {
    beside(path, "head")
}

/// The path with a further extension.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".");
    name.push(extension);
    name.into()
}

/// The head that is kept beside a trail, where there is one.
pub(super) fn read_head(path: &Path) -> Result<Option<Head>, OpenError> {
    let path = head_path(path);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|source| OpenError::Head { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::File { path, source }),
    }
}

/// Checks whole lines against the head that is kept beside their file, and says how far they go.
fn judge(path: &Path, text: &[u8]) -> Result<Head, OpenError> {
    let anchor = match read_head(path)? {
        Some(anchor) => anchor,
        None if text.is_empty() => return Ok(Head::default()),
        None => return Err(OpenError::Head { path: head_path(path), source: NotAHead }),
    };
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).peekable();
    let start = match lines.peek().map(|first| follows(first)) {
        // It was set aside a moment before everything ended.
        None => anchor,
        Some(None) => return Err(broken(path, Some(1), Broken::NotALine)),
        Some(Some((number, hash))) => Head { count: number.saturating_sub(1), hash },
    };
    // The file may begin behind older ones, whose end the anchor vouched for when this one began.
    let mut verifier = Verifier::behind(start).anchored([anchor]);
    for (line, number) in lines.zip(1..) {
        verifier.line(line).map_err(|source| broken(path, Some(number), source))?;
    }
    verifier.finish().map_err(|source| broken(path, None, source))
}

fn broken(path: &Path, line: Option<u64>, source: Broken) -> OpenError {
    OpenError::Broken { path: path.to_owned(), line, source }
}

/// Opens a file to append to. It is nobody else's to read.
fn create(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Replaces the head beside a trail, so that there is always a whole one.
fn write_head(path: &Path, head: Head) -> io::Result<()> {
    let kept = head_path(path);
    let fresh = beside(&kept, "new");
    let mut file = create(&fresh)?;
    file.set_len(0)?;
    file.write_all(format!("{head}\n").as_bytes())?;
    file.sync_data()?;
    fs::rename(fresh, kept)
}

#[cfg(test)]
pub(super) mod tests;
