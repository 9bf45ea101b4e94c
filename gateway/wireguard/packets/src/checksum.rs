//! The checksum of the internet protocols (RFC 1071).
//!
//! Sums are kept unfolded, so that parts of a packet are summed once and put together. They are in the order in which the
//! machine reads bytes, as the arithmetic allows; only [`finish`] and [`add`] know the order of the network.

/// The sum of these bytes. A part of a packet whose length is odd may only come last.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    // Whole words are summed, whatever overflows, and their high halves beside. What the low halves come to is the
    // difference, which does not overflow: less work for a vector than to take each word apart.
    let (whole, high) = words.iter().fold((0_u64, 0_u64), |(whole, high), word| {
        let word = u64::from_ne_bytes(*word);
        (whole.wrapping_add(word), high + (word >> 32))
    });
    let low = whole.wrapping_sub(high << 32);
    let mut last = [0; 8];
    if let Some(room) = last.get_mut(..rest.len()) {
        room.copy_from_slice(rest);
    }
    let last = u64::from_ne_bytes(last);
    low + high + (last >> 32) + (last & u64::from(u32::MAX))
}

/// Adds a 16-bit field to a sum.
#[must_use]
pub fn add(sum: u64, field: u16) -> u64 {
    sum + u64::from(u16::from_ne_bytes(field.to_be_bytes()))
}

/// A sum as a field of a packet, not complemented.
#[must_use]
pub fn fold(mut sum: u64) -> [u8; 2] {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // It is below 2^16 now.
    u16::try_from(sum).unwrap_or(u16::MAX).to_ne_bytes()
}

/// A sum as the checksum of what was summed.
#[must_use]
pub fn finish(sum: u64) -> [u8; 2] {
    fold(sum).map(|byte| !byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As RFC 1071 describes it.
    fn plainly(bytes: &[u8]) -> [u8; 2] {
        let mut total = 0_u32;
        for pair in bytes.chunks(2) {
            total += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            total = (total & 0xffff) + (total >> 16);
        }
        (!u16::try_from(total).unwrap()).to_be_bytes()
    }

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), [0xdd, 0xf2]);
    }

    proptest! {
        #[test]
        fn it_is_what_a_plain_sum_would_be(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(finish(sum(&bytes)), plainly(&bytes));
        }

        #[test]
        fn parts_can_be_put_together(
            one in prop::collection::vec(any::<[u8; 2]>(), 0..50), field: u16, other in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let one = one.concat();
            let whole = [&one[..], &field.to_be_bytes(), &other].concat();
            prop_assert_eq!(finish(add(sum(&one) + sum(&other), field)), plainly(&whole));
        }
    }
}
