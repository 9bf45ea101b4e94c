//! A cursor over bytes that never reads past their end.

/// What the reader answers when a field is cut short or its length is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Short;

/// Reads big-endian fields and length-prefixed vectors (RFC 8446 section 3.4).
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Short)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Short> {
        let (first, rest) = self.0.split_first().ok_or(Short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Short> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Short)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*head))
    }

    /// A vector behind a one-byte length, possibly empty.
    pub(super) fn vec8(&mut self) -> Result<Reader<'a>, Short> {
        let length = self.u8()?;
        self.take(length.into()).map(Self)
    }

    /// A vector behind a two-byte length, possibly empty.
    pub(super) fn vec16(&mut self) -> Result<Reader<'a>, Short> {
        let length = self.u16()?;
        self.take(length.into()).map(Self)
    }

    /// A vector of at least one byte behind a one-byte length.
    pub(super) fn filled8(&mut self) -> Result<Reader<'a>, Short> {
        self.vec8()?.filled()
    }

    /// A vector of at least one byte behind a two-byte length.
    pub(super) fn filled16(&mut self) -> Result<Reader<'a>, Short> {
        self.vec16()?.filled()
    }

    fn filled(self) -> Result<Self, Short> {
        if self.is_empty() { Err(Short) } else { Ok(self) }
    }

    /// Reads items until the end.
    pub(super) fn each(mut self, mut item: impl FnMut(&mut Reader<'a>) -> Result<(), Short>) -> Result<(), Short> {
        while !self.is_empty() {
            item(&mut self)?;
        }
        Ok(())
    }

    /// Succeeds when nothing is left.
    pub(super) fn end(self) -> Result<(), Short> {
        if self.is_empty() { Ok(()) } else { Err(Short) }
    }
}
