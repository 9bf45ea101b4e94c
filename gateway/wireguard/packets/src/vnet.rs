//! The header that is before each packet on the interface: `struct virtio_net_hdr` (virtio 1.2, section 5.1.6), in the byte
//! order of the machine, as tun(4) has it by default.

/// The length of the header.
pub const LEN: usize = 10;

/// VIRTIO_NET_HDR_F_NEEDS_CSUM: the checksum is to be completed.
const NEEDS_CHECKSUM: u8 = 1;
/// VIRTIO_NET_HDR_GSO_ECN, beside the kind: the first segment, and none after it, has CWR set.
const CONGESTION: u8 = 0x80;

/// What is to be cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cut {
    /// Nothing (VIRTIO_NET_HDR_GSO_NONE).
    #[default]
    Nothing,
    /// TCP over IPv4 (VIRTIO_NET_HDR_GSO_TCPV4).
    TcpV4,
    /// TCP over IPv6 (VIRTIO_NET_HDR_GSO_TCPV6).
    TcpV6,
}

/// The header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Whether the field for the checksum holds the sum of the pseudo-header, and the rest is to be added.
    pub needs_checksum: bool,
    /// What the packet is to be cut into.
    pub cut: Cut,
    /// How many bytes of headers there are. Only a hint.
    pub headers: u16,
    /// How many bytes each segment carries behind its headers; the last may carry fewer.
    pub size: u16,
    /// Where the part with a checksum of its own begins, in the packet.
    pub checksum_start: u16,
    /// Where its checksum is, from there.
    pub checksum_offset: u16,
}

impl Header {
    /// Reads the header and returns what is behind it. None for something shorter, or of a kind that is not carried here.
    #[must_use]
    pub fn read(frame: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (header, packet) = frame.split_at_mut_checked(LEN)?;
        let [flags, kind, h0, h1, s0, s1, c0, c1, o0, o1] = *header else { return None };
        let cut = match kind & !CONGESTION {
            0 => Cut::Nothing,
            1 => Cut::TcpV4,
            4 => Cut::TcpV6,
            _ => return None,
        };
        let [headers, size, checksum_start, checksum_offset] =
            [[h0, h1], [s0, s1], [c0, c1], [o0, o1]].map(u16::from_ne_bytes);
        let needs_checksum = flags & NEEDS_CHECKSUM != 0;
        Some((Self { needs_checksum, cut, headers, size, checksum_start, checksum_offset }, packet))
    }

    /// The header as bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; LEN] {
        let kind = match self.cut {
            Cut::Nothing => 0,
            Cut::TcpV4 => 1,
            Cut::TcpV6 => 4,
        };
        let [[h0, h1], [s0, s1], [c0, c1], [o0, o1]] =
            [self.headers, self.size, self.checksum_start, self.checksum_offset].map(u16::to_ne_bytes);
        let flags = if self.needs_checksum { NEEDS_CHECKSUM } else { 0 };
        [flags, kind, h0, h1, s0, s1, c0, c1, o0, o1]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kinds_that_are_not_tcp_are_not_carried() {
        for kind in [2, 3, 5, 0x7f, 0x82, 0xff] {
            assert_eq!(Header::read(&mut [0, kind, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        }
        assert_eq!(Header::read(&mut [0; LEN - 1]), None);
        let (header, rest) =
            Header::read(&mut [0, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 7]).map(|(h, r)| (h, r.to_vec())).unwrap();
        assert_eq!((header.cut, rest), (Cut::TcpV4, vec![7]));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            needs_checksum: bool,
            cut in prop_oneof![Just(Cut::Nothing), Just(Cut::TcpV4), Just(Cut::TcpV6)],
            [headers, size, checksum_start, checksum_offset]: [u16; 4],
        ) {
            let header = Header { needs_checksum, cut, headers, size, checksum_start, checksum_offset };
            let mut bytes = header.to_bytes();
            prop_assert_eq!(Header::read(&mut bytes), Some((header, &mut [][..])));
        }
    }
}
