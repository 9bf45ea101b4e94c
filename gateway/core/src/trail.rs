//! The hash chain of the audit trail: JSON lines, each of which names the one before by its SHA-256.
//!
//! A line begins with its number and that hash, `{"n":17,"prev":"<64 hex digits>"`, and goes on with what happened. What
//! counts are its bytes: they are hashed as they stand, without the end of line, so that nothing has to be read to be
//! checked. The first line has the number 1 and follows the hash of 32 zero bytes.
//!
//! A line is vouched for by those behind it. Any change, removal, insertion or exchange of lines breaks the chain at the next
//! line that was left alone. The last line has none behind it: that it was changed, or that lines behind it are missing, shows
//! only by an anchor, a [`Head`] that was kept elsewhere. Whoever can write the trail can also write a whole new one; what is
//! older than an anchor out of their reach, they cannot.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// How far a trail goes: the number of its last line, and that line's hash.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// How many lines there are.
    pub count: u64,
    /// SHA-256 of the last one; zero when there is none.
    pub hash: [u8; 32],
}

impl Head {
    /// The next line of the trail, without the end of line, and the head that it makes. `fields` is a JSON object.
    #[must_use]
    pub fn line(&self, fields: &str) -> (String, Self) {
        let fields = fields.trim().strip_prefix('{').unwrap_or_default().trim_start();
        let comma = if fields.starts_with('}') { "" } else { "," };
        let count = self.count + 1;
        let line = format!("{{\"n\":{count},\"prev\":\"{}\"{comma}{fields}", hex::encode(self.hash));
        let hash = Sha256::digest(line.as_bytes()).into();
        (line, Self { count, hash })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.count, hex::encode(self.hash))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the number of a line, a colon, and the SHA-256 of the line in hex")]
pub struct NotAHead;

impl FromStr for Head {
    type Err = NotAHead;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (count, digits) = text.split_once(':').ok_or(NotAHead)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(digits, &mut hash).map_err(|_| NotAHead)?;
        Ok(Self { count: count.parse().map_err(|_| NotAHead)?, hash })
    }
}

/// What is wrong with a trail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A line does not begin as lines of a trail do.
    #[error("it does not begin with a number and the hash of the line before")]
    NotALine,
    /// Lines are missing, repeated or out of order.
    #[error("it has the number {found}, and {expected} is next")]
    Number {
        /// The number that comes next.
        expected: u64,
        /// The number that the line has.
        found: u64,
    },
    /// The line before is not the one that this line was written behind.
    #[error("it was not written behind the line before, number {}", .number - 1)]
    Link {
        /// The number of the line.
        number: u64,
    },
    /// A line is not the one that an anchor vouches for.
    #[error("line {count} is not the one that the anchor vouches for")]
    Anchor {
        /// The number of the line.
        count: u64,
    },
    /// The trail is shorter than it was.
    #[error("the trail ends at line {count}, and the anchor vouches for line {anchored}")]
    Cut {
        /// The number of the last line.
        count: u64,
        /// The number of the line that the anchor names.
        anchored: u64,
    },
    /// An anchor names a line in front of the first one, so that it vouches for nothing here.
    #[error("the trail begins behind line {anchored}, which the anchor vouches for")]
    Before {
        /// The number of the line that the anchor names.
        anchored: u64,
    },
}

/// Reads a trail line by line and finds out whether it is as it was written.
#[derive(Debug, Clone)]
pub struct Verifier {
    start: Head,
    head: Head,
    anchors: BTreeMap<u64, [u8; 32]>,
}

impl Verifier {
    /// Of a trail whose first line follows `start`: [`Head::default`] for a whole one.
    #[must_use]
    pub fn behind(start: Head) -> Self {
        Self { start, head: start, anchors: BTreeMap::new() }
    }

    /// Adds what is known of the trail from elsewhere.
    #[must_use]
    pub fn anchored(mut self, anchors: impl IntoIterator<Item = Head>) -> Self {
        self.anchors.extend(anchors.into_iter().map(|head| (head.count, head.hash)));
        self
    }

    /// Takes the next line, without its end of line.
    ///
    /// # Errors
    /// When it is not the next one.
    pub fn line(&mut self, line: &[u8]) -> Result<(), Broken> {
        let (number, before) = follows(line).ok_or(Broken::NotALine)?;
        let expected = self.head.count + 1;
        if number != expected {
            return Err(Broken::Number { expected, found: number });
        }
        if before != self.head.hash {
            return Err(Broken::Link { number });
        }
        self.head = Head { count: number, hash: Sha256::digest(line).into() };
        match self.anchors.get(&number) {
            Some(hash) if *hash != self.head.hash => Err(Broken::Anchor { count: number }),
            Some(_) | None => Ok(()),
        }
    }

    /// How far the trail goes by the lines taken so far.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// The trail is over.
    ///
    /// # Errors
    /// When an anchor says that it should go further, or that another line should be in front of it.
    pub fn finish(self) -> Result<Head, Broken> {
        let Self { start, head, anchors } = self;
        for (&anchored, hash) in &anchors {
            if anchored > head.count {
                return Err(Broken::Cut { count: head.count, anchored });
            }
            if anchored < start.count {
                return Err(Broken::Before { anchored });
            }
            if anchored == start.count && *hash != start.hash {
                return Err(Broken::Anchor { count: anchored });
            }
        }
        Ok(head)
    }
}

/// The number of a line, and the hash of the line that it says it follows.
#[must_use]
pub fn follows(line: &[u8]) -> Option<(u64, [u8; 32])> {
    let rest = line.strip_prefix(b"{\"n\":")?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    let (number, rest) = rest.split_at_checked(digits)?;
    let rest = rest.strip_prefix(b",\"prev\":\"")?;
    let (before, rest) = rest.split_at_checked(64)?;
    let mut hash = [0; 32];
    hex::decode_to_slice(before, &mut hash).ok()?;
    let ends = rest.starts_with(b"\",") || rest == b"\"}";
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    ends.then_some((number, hash))
}

#[cfg(test)]
mod tests;
