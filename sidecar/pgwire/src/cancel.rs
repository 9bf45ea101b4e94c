//! Cancel keys: what BackendKeyData gives to a client and CancelRequest brings back.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The code of a CancelRequest, in place of a protocol version.
pub(crate) const CANCEL_REQUEST: u32 = 80_877_102;
/// Shortest secret, the only length that protocol 3.0 knows.
pub(crate) const MIN_SECRET: usize = 4;
/// Longest secret that protocol 3.2 permits.
pub(crate) const MAX_SECRET: usize = 256;
/// Bits of the process id that name the slot. The bit above them stays 0: drivers that read the process id as a signed
/// number take a negative one for no key, and never cancel.
const SLOT_BITS: u32 = 19;
/// Bits of the process id that stay random below the slot.
const LOW_BITS: u32 = 12;
const LOW_MASK: u32 = (1 << LOW_BITS) - 1;
/// Length, code and process id precede the secret.
const FIXED: usize = 12;

/// Number of an instance in a gateway's table of cancel slots; 19 bits wide, and never 0 for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    /// The slot of nobody: no gateway gives it to an instance.
    pub const NONE: Self = Self(0);
    /// Largest slot number.
    pub const MAX: u32 = (1 << SLOT_BITS) - 1;

    /// The slot with this number, or `None` above [`Slot::MAX`].
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// The slot's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// Process id and secret of one session. The secret is compared in constant time and never printed.
#[derive(Clone)]
pub struct CancelKey {
    process_id: u32,
    secret: Zeroizing<Vec<u8>>,
}

impl CancelKey {
    /// A key from its parts, or `None` when the secret is shorter than 4 or longer than 256 bytes.
    #[must_use]
    pub fn new(process_id: u32, secret: &[u8]) -> Option<Self> {
        (MIN_SECRET..=MAX_SECRET)
            .contains(&secret.len())
            .then(|| Self { process_id, secret: Zeroizing::new(secret.to_vec()) })
    }

    /// A key that names `slot` in bits 12 to 30 of its process id and takes the lower 12 from `random`. The process id is
    /// never 0 nor negative as a signed number, which some clients read as "no key". `None` as for [`CancelKey::new`].
    #[must_use]
    pub fn for_slot(slot: Slot, random: u16, secret: &[u8]) -> Option<Self> {
        let process_id = (slot.0 << LOW_BITS) | (u32::from(random) & LOW_MASK);
        Self::new(process_id.max(1), secret)
    }

    /// The process id as it stands on the wire.
    #[must_use]
    pub const fn process_id(&self) -> u32 {
        self.process_id
    }

    /// The slot that the process id names, if the key was made by [`CancelKey::for_slot`]; [`Slot::NONE`] if it cannot
    /// have been.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        match Slot::new(self.process_id >> LOW_BITS) {
            Some(slot) => slot,
            None => Slot::NONE,
        }
    }

    /// The secret bytes.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// The CancelRequest packet that carries this key.
    #[must_use]
    pub fn request(&self) -> Bytes {
        let mut packet = BytesMut::with_capacity(FIXED + self.secret.len());
        packet.put_u32(u32::try_from(FIXED + self.secret.len()).unwrap_or(u32::MAX));
        packet.put_u32(CANCEL_REQUEST);
        packet.put_u32(self.process_id);
        packet.put_slice(&self.secret);
        packet.freeze()
    }

    /// The BackendKeyData message that carries this key.
    #[must_use]
    pub fn backend_key_data(&self) -> Bytes {
        let mut message = BytesMut::with_capacity(9 + self.secret.len());
        message.put_u8(b'K');
        message.put_u32(u32::try_from(8 + self.secret.len()).unwrap_or(u32::MAX));
        message.put_u32(self.process_id);
        message.put_slice(&self.secret);
        message.freeze()
    }

    /// Reads process id and secret, the common end of BackendKeyData and CancelRequest.
    /// `None` when the secret's length is out of bounds.
    #[must_use]
    pub(crate) fn from_body(body: &[u8]) -> Option<Self> {
        let (process_id, secret) = body.split_first_chunk::<4>()?;
        Self::new(u32::from_be_bytes(*process_id), secret)
    }
}

impl PartialEq for CancelKey {
    fn eq(&self, other: &Self) -> bool {
        self.process_id == other.process_id && self.secret.as_slice().ct_eq(other.secret.as_slice()).into()
    }
}

impl Eq for CancelKey {}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelKey").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CancelKey, Slot};

    #[test]
    fn slot_survives_the_process_id() {
        for number in [0, 1, 77, Slot::MAX] {
            let slot = Slot::new(number).unwrap();
            let key = CancelKey::for_slot(slot, 0xffff, &[1, 2, 3, 4]).unwrap();
            assert_eq!(key.slot(), slot);
            assert_eq!(key.process_id() & 0xfff, 0xfff);
        }
        assert_eq!(Slot::new(Slot::MAX + 1), None);
    }

    #[test]
    fn process_id_is_never_zero() {
        let key = CancelKey::for_slot(Slot::NONE, 0, &[0; 4]).unwrap();
        assert_ne!(key.process_id(), 0);
        assert_eq!(key.slot(), Slot::NONE);
    }

    #[test]
    fn a_process_id_that_we_never_give_names_no_slot() {
        for process_id in [0x8000_0000, 0x8000_1fff, u32::MAX] {
            assert_eq!(CancelKey::new(process_id, &[0; 4]).unwrap().slot(), Slot::NONE);
        }
    }

    proptest! {
        #[test]
        fn random_bodies_never_panic_and_read_back(body in prop::collection::vec(any::<u8>(), 0..300)) {
            match CancelKey::from_body(&body) {
                Some(key) => prop_assert_eq!(&key.request()[8..], &body[..]),
                None => prop_assert!(!(8..=260).contains(&body.len())),
            }
        }

        #[test]
        fn a_process_id_is_positive_as_a_signed_number_and_names_its_slot(
            number in prop_oneof![0..=Slot::MAX, Just(Slot::MAX)], random: u16,
        ) {
            let slot = Slot::new(number).unwrap();
            let key = CancelKey::for_slot(slot, random, &[0; 4]).unwrap();
            let signed = i32::from_be_bytes(key.process_id().to_be_bytes());
            prop_assert!(signed > 0, "{}", signed);
            prop_assert_eq!(key.slot(), slot);
        }
    }

    #[test]
    fn secrets_have_bounds() {
        assert!(CancelKey::new(1, &[0; 3]).is_none());
        assert!(CancelKey::new(1, &[0; 4]).is_some());
        assert!(CancelKey::new(1, &[0; 256]).is_some());
        assert!(CancelKey::new(1, &[0; 257]).is_none());
    }

    #[test]
    fn the_request_has_the_documented_bytes() {
        let key = CancelKey::new(0x0102_0304, &[9, 8, 7, 6]).unwrap();
        assert_eq!(&key.request()[..], &[0, 0, 0, 16, 4, 210, 22, 46, 1, 2, 3, 4, 9, 8, 7, 6]);
        assert_eq!(&key.backend_key_data()[..], &[b'K', 0, 0, 0, 12, 1, 2, 3, 4, 9, 8, 7, 6]);
    }

    #[test]
    fn debug_hides_the_secret() {
        let text = format!("{:?}", CancelKey::new(5, &[201, 202, 203, 204]).unwrap());
        assert!(!text.contains("201"), "{text}");
    }
}
