//! The checksum of the internet protocols (RFC 1071).
//!
//! Sums are kept unfolded, so that parts of a packet are summed once and put together. They are in the order in which the
//! machine reads bytes, as the arithmetic allows; only [`finish`] and [`add`] know the order of the network.

use std::net::IpAddr;

/// The sum of these bytes. A part of a packet whose length is odd may only come last.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let total: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    total + u64::from(u32::from_ne_bytes(last))
}

/// Adds a 16-bit field to a sum.
#[must_use]
pub fn add(sum: u64, field: u16) -> u64 {
    sum + u64::from(u16::from_ne_bytes(field.to_be_bytes()))
}

/// The sum of the pseudo-header before TCP (RFC 9293, section 3.1; RFC 8200, section 8.1) but for the length.
#[must_use]
pub fn pseudo_header(source: IpAddr, destination: IpAddr) -> u64 {
    let of = |address| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    add(of(source) + of(destination), TCP)
}

/// TCP's number among the protocols over IP.
const TCP: u16 = 6;

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
