//! A block of the chain, as a verdict names it.

use std::fmt;

/// A block by number and hash, with the time its producer gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// Its height.
    pub number: u64,
    /// Its hash, which we compute ourselves from the header before a block comes this far.
    pub hash: [u8; 32],
    /// Unix seconds, from the header.
    pub timestamp: u64,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} (0x{})", self.number, hex::encode(self.hash))
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} at {}", self.timestamp)
    }
}
