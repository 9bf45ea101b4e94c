//! `gateway audit verify`: whether a trail is as it was written.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use postern_gateway_core::trail::{Head, Verifier, follows};

use super::file::{OpenError, read_head};

/// The longest line that is read, in bytes.
const LONGEST_LINE: usize = 1024 * 1024;

/// What is to be checked.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Verify {
    /// The files of one trail, in any order. Heads among them, and those beside them, are anchors.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// The last line before these files, when older ones were archived.
    #[arg(long, value_name = "N:HASH")]
    pub after: Option<Head>,

    /// What is known of the trail from elsewhere, such as a head that the gateway logged.
    #[arg(long, value_name = "N:HASH")]
    pub anchor: Vec<Head>,
}

/// A trail that is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// The line that it follows.
    pub after: Head,
    /// Its last line.
    pub head: Head,
    /// How far the newest anchor vouches for it; `None` where there is no anchor.
    pub anchored: Option<u64>,
}

/// Why a trail cannot be said to be in order.
#[derive(Debug, thiserror::Error)]
pub enum Unsound {
    /// A file cannot be read, or is not as it was written.
    #[error(transparent)]
    File(#[from] OpenError),
    /// The last line of a file has no end.
    #[error("{}: the last line is not whole", .0.display())]
    Partial(PathBuf),
    /// A line is longer than any that is written.
    #[error("{}: a line is longer than 1 MiB", .0.display())]
    TooLong(PathBuf),
}

impl Verify {
    /// Reads all of it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn run(&self) -> Result<Sound, Unsound> {
        let mut anchors = self.anchor.clone();
        let mut files = Vec::new();
        for path in &self.files {
            let of_trail = path.to_str().and_then(|path| path.strip_suffix(".head")).map(Path::new);
            if let Some(anchor) = read_head(of_trail.unwrap_or(path))? {
                anchors.push(anchor);
            } else if of_trail.is_some() {
                return Err(unreadable(path, io::ErrorKind::NotFound.into()));
            }
            if of_trail.is_none() {
                files.push((first_number(path)?, path.as_path()));
            }
        }
        // A file that was just begun is empty and comes last.
        files.sort_by_key(|(number, _)| number.unwrap_or(u64::MAX));
        let after = self.after.unwrap_or_default();
        let anchored = anchors.iter().map(|anchor| anchor.count).max();
        let mut verifier = Verifier::behind(after).anchored(anchors);
        for (_, path) in &files {
            read(path, &mut verifier)?;
        }
        let last = files.last().map(|(_, path)| path.to_path_buf()).unwrap_or_default();
        let head = verifier.finish().map_err(|source| OpenError::Broken { path: last, line: None, source })?;
        Ok(Sound { after, head, anchored })
    }
}

impl std::fmt::Display for Sound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { after, head, anchored } = self;
        writeln!(
            f,
            "{} lines, from {} to {}, are as they were written",
            head.count - after.count,
            after.count + 1,
            head.count
        )?;
        writeln!(f, "head {head}")?;
        match anchored {
            Some(count) if *count == head.count => writeln!(f, "nothing is missing at the end, by its anchor"),
            Some(count) => writeln!(f, "nothing is missing up to line {count}, by its anchor; it may be behind it"),
            None => writeln!(f, "without an anchor nobody can say whether lines are missing at the end"),
        }
    }
}

fn read(path: &Path, verifier: &mut Verifier) -> Result<(), Unsound> {
    let mut lines = Lines::open(path)?;
    let mut number = 0;
    while let Some(line) = lines.next()? {
        number += 1;
        let broken = |source| OpenError::Broken { path: path.to_owned(), line: Some(number), source };
        verifier.line(line).map_err(broken)?;
    }
    Ok(())
}

/// The number of the first line of a file; `None` of an empty one, and of one that is no trail, which is found out later.
fn first_number(path: &Path) -> Result<Option<u64>, Unsound> {
    let mut lines = Lines::open(path)?;
    Ok(lines.next()?.and_then(follows).map(|(number, _)| number))
}

fn unreadable(path: &Path, source: io::Error) -> Unsound {
    OpenError::File { path: path.to_owned(), source }.into()
}

struct Lines<'a> {
    path: &'a Path,
    file: BufReader<File>,
    line: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn open(path: &'a Path) -> Result<Self, Unsound> {
        let file = File::open(path).map_err(|error| unreadable(path, error))?;
        Ok(Self { path, file: BufReader::new(file), line: Vec::new() })
    }

    fn next(&mut self) -> Result<Option<&[u8]>, Unsound> {
        self.line.clear();
        let mut limited = io::Read::take(&mut self.file, u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX));
        limited.read_until(b'\n', &mut self.line).map_err(|error| unreadable(self.path, error))?;
        match self.line.split_last() {
            None => Ok(None),
            Some((b'\n', line)) => Ok(Some(line)),
            Some(_) if self.line.len() >= LONGEST_LINE => Err(Unsound::TooLong(self.path.to_owned())),
            Some(_) => Err(Unsound::Partial(self.path.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
