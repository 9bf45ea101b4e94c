//! Numbers in headers, in the order of the network. What is not there reads as zero, and is not written.

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from_be_bytes(two.try_into().unwrap_or_default()))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_be_bytes(four.try_into().unwrap_or_default()))
}

pub(crate) fn set_u16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(room) = bytes.get_mut(at..at + 2) {
        room.copy_from_slice(&value.to_be_bytes());
    }
}

pub(crate) fn set_u32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(room) = bytes.get_mut(at..at + 4) {
        room.copy_from_slice(&value.to_be_bytes());
    }
}
