//! Where messages begin and end in what a server says, for those who pass it on without reading it.

/// Tag and length.
const HEAD: usize = 5;

/// A place in a stream of messages. It takes the lengths of messages from their heads and steps over everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boundary {
    /// How much of a head has been seen; none of it within a body.
    head: usize,
    /// The part of the length that has been seen with it.
    length: u32,
    /// What is left of a body.
    body: u32,
    /// A length was impossible, so that nobody can tell what follows.
    lost: bool,
}

impl Boundary {
    /// The place behind these bytes, the first of which begins a message.
    #[must_use]
    pub fn after(bytes: &[u8]) -> Self {
        let mut boundary = Self::default();
        boundary.follow(bytes);
        boundary
    }

    /// Goes on behind these bytes.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost {
            let body = usize::try_from(self.body).unwrap_or(usize::MAX);
            let Some(rest) = bytes.get(body..) else {
                self.body -= u32::try_from(bytes.len()).unwrap_or(self.body);
                return;
            };
            self.body = 0;
            bytes = match rest.split_first_chunk::<HEAD>() {
                Some(([_, length @ ..], rest)) if self.head == 0 => {
                    self.begin(u32::from_be_bytes(*length));
                    rest
                }
                _ => self.follow_head(rest),
            };
        }
    }

    /// A head that comes in parts.
    fn follow_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some((byte, rest)) = bytes.split_first() else { return bytes };
        // The tag is shifted out by the length.
        self.length = self.length << 8 | u32::from(*byte);
        self.head += 1;
        if self.head == HEAD {
            self.head = 0;
            self.begin(self.length);
        }
        rest
    }

    fn begin(&mut self, length: u32) {
        self.length = 0;
        self.lost = !(4..=i32::MAX.cast_unsigned()).contains(&length);
        self.body = length.saturating_sub(4);
    }

    /// How many of the bytes to come belong to a message that has begun, as far as is known: when they have come, it may turn
    /// out to be longer. None between two messages; `None` when the bytes so far were no messages.
    #[must_use]
    pub fn owed(&self) -> Option<usize> {
        let head = if self.head == 0 { 0 } else { HEAD - self.head };
        let owed = usize::try_from(self.body).unwrap_or(usize::MAX).saturating_add(head);
        (!self.lost).then_some(owed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Boundary;

    #[test]
    fn only_the_end_of_a_message_is_between_two() {
        let said = b"T\0\0\0\x06\0\0D\0\0\0\x08\0\0\0\x05Z\0\0\0\x05I";
        let owed: Vec<_> = (0..=said.len()).map(|end| Boundary::after(&said[..end]).owed().unwrap()).collect();
        assert_eq!(owed, [0, 4, 3, 2, 1, 2, 1, 0, 4, 3, 2, 1, 4, 3, 2, 1, 0, 4, 3, 2, 1, 1, 0]);
    }

    #[test]
    fn a_body_may_look_like_anything() {
        let row = b"D\0\0\0\x10Z\0\0\0\x05IZ\0\0\0\x05I";
        assert_eq!(Boundary::after(&row[..11]).owed(), Some(6));
        assert_eq!(Boundary::after(row).owed(), Some(0));
    }

    #[test]
    fn what_is_no_message_leads_nowhere() {
        for bytes in [&b"HTTP/1.1 400"[..], b"R\0\0\0\x03", b"R\0\0\0\0", b"R\x80\0\0\0", b"R\xff\xff\xff\xff"] {
            let mut boundary = Boundary::after(bytes);
            // The first of them announces a gigabyte, which nobody can tell from a message.
            let expected = (bytes[0] == b'H').then_some(0x5454_502f - 4 - 7);
            assert_eq!(boundary.owed(), expected, "{bytes:?}");
            boundary.follow(b"Z\0\0\0\x05I");
            assert_eq!(boundary.owed(), expected.map(|owed| owed - 6));
        }
        assert_eq!(Boundary::after(b"d\x7f\xff\xff\xff").owed(), Some(0x7fff_fffb));
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_place_is_the_same(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            cuts in prop::collection::vec(0_usize..60, 0..60),
        ) {
            let (mut said, mut ends) = (Vec::new(), vec![0]);
            for body in &bodies {
                said.push(b'D');
                said.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
                said.extend_from_slice(body);
                ends.push(said.len());
            }
            let (mut boundary, mut at) = (Boundary::default(), 0);
            for cut in cuts {
                let end = said.len().min(at + cut);
                boundary.follow(&said[at..end]);
                at = end;
                prop_assert_eq!(boundary, Boundary::after(&said[..at]));
                prop_assert_eq!(boundary.owed() == Some(0), ends.contains(&at));
            }
        }
    }
}
