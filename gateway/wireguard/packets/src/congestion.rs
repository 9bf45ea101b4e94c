//! Explicit congestion notification through a tunnel: what the outer header says of the way is told to the inner one
//! (RFC 6040).

use crate::checksum;
use crate::field::u16_at;

/// The two bits of an IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    /// The ends do not take part.
    #[default]
    NotCapable,
    /// ECT(1).
    One,
    /// ECT(0).
    Zero,
    /// A router on the way is about to drop packets.
    Congested,
}

impl Mark {
    /// The mark in the byte that was the type of service.
    #[must_use]
    pub fn of_byte(byte: u8) -> Self {
        match byte & 3 {
            0 => Self::NotCapable,
            1 => Self::One,
            2 => Self::Zero,
            _ => Self::Congested,
        }
    }

    /// The mark of an inner packet; not capable when it is none.
    #[must_use]
    pub fn of_packet(packet: &[u8]) -> Self {
        match packet.first().map(|first| first >> 4) {
            Some(4) => Self::of_byte(packet.get(1).copied().unwrap_or(0)),
            Some(6) => Self::of_byte(packet.get(1).copied().unwrap_or(0) >> 4),
            _ => Self::NotCapable,
        }
    }

    /// The byte that was the type of service, with this mark and nothing else.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        match self {
            Self::NotCapable => 0,
            Self::One => 1,
            Self::Zero => 2,
            Self::Congested => 3,
        }
    }

    /// Tells a packet that came out of the tunnel what its outer header had to say. Returns false when it has to be dropped:
    /// its ends would not understand, and loss is all that they notice.
    #[must_use]
    pub fn tell(self, packet: &mut [u8]) -> bool {
        let inner = Self::of_packet(packet);
        match (inner, self) {
            (Self::NotCapable, Self::Congested) => return false,
            (Self::Zero, Self::One) => inner.replace_by(Self::One, packet),
            (Self::Zero | Self::One, Self::Congested) => inner.replace_by(Self::Congested, packet),
            _ => {}
        }
        true
    }

    fn replace_by(self, new: Self, packet: &mut [u8]) {
        let [first, second, ..] = packet else { return };
        let changed = self.to_byte() ^ new.to_byte();
        if *first >> 4 == 6 {
            *second ^= changed << 4;
            return;
        }
        *second ^= changed;
        // RFC 1624: the sum of the header is what it was, less the old bits and with the new ones.
        let sum = checksum::add(0, !u16_at(packet, 10));
        let sum = checksum::add(checksum::add(sum, !u16::from(self.to_byte())), u16::from(new.to_byte()));
        if let Some(field) = packet.get_mut(10..12) {
            field.copy_from_slice(&checksum::finish(sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(mark: Mark, noise: [u8; 20]) -> Vec<u8> {
        let mut packet = noise.to_vec();
        packet[0] = 0x45;
        packet[1] = packet[1] & !3 | mark.to_byte();
        packet[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&packet));
        packet[10..12].copy_from_slice(&sum);
        packet
    }

    fn v6(mark: Mark) -> Vec<u8> {
        let mut packet = vec![0; 40];
        (packet[0], packet[1]) = (0x60, mark.to_byte() << 4 | 0x0f);
        packet
    }

    #[test]
    fn the_table_of_the_rfc() {
        use Mark::{Congested, NotCapable, One, Zero};
        // Inner, outer, and what comes out (RFC 6040, figure 4).
        for (inner, outer, expected) in [
            (NotCapable, NotCapable, Some(NotCapable)),
            (NotCapable, Zero, Some(NotCapable)),
            (NotCapable, One, Some(NotCapable)),
            (NotCapable, Congested, None),
            (Zero, NotCapable, Some(Zero)),
            (Zero, Zero, Some(Zero)),
            (Zero, One, Some(One)),
            (Zero, Congested, Some(Congested)),
            (One, NotCapable, Some(One)),
            (One, Zero, Some(One)),
            (One, One, Some(One)),
            (One, Congested, Some(Congested)),
            (Congested, NotCapable, Some(Congested)),
            (Congested, Zero, Some(Congested)),
            (Congested, One, Some(Congested)),
            (Congested, Congested, Some(Congested)),
        ] {
            for mut packet in [v4(inner, [9; 20]), v6(inner)] {
                let kept = outer.tell(&mut packet);
                assert_eq!(kept.then(|| Mark::of_packet(&packet)), expected, "{inner:?} in {outer:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_header_stays_intact(noise: [u8; 20], inner in 0_u8..4, outer in 0_u8..4) {
            let mut packet = v4(Mark::of_byte(inner), noise);
            if Mark::of_byte(outer).tell(&mut packet) {
                prop_assert_eq!(checksum::finish(checksum::sum(&packet)), [0, 0]);
            }
        }

        #[test]
        fn nothing_makes_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..60), outer in 0_u8..4) {
            let _kept: bool = Mark::of_byte(outer).tell(&mut bytes);
        }
    }
}
