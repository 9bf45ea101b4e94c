//! The cancel keys of all sessions: ours outside, Postgres' inside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use postern_pgwire::cancel::{CancelKey, Slot};
use rand::RngCore;

/// The secret of protocol 3.0.
const SHORT: usize = 4;
/// The secret of later protocols: random bytes, and a MAC over the process id and them.
const RANDOM: usize = 16;
const MAC: usize = 16;

/// Maps the keys that clients know to the keys that Postgres knows.
#[derive(Clone, Debug)]
pub struct Cancels {
    sessions: Arc<Mutex<Sessions>>,
    seal: Arc<Seal>,
}

/// What our long keys are told by from invented ones, before any session is looked for. It is drawn at the start: keys die
/// with their sessions, and sessions with the process.
struct Seal(hmac::Key);

#[derive(Debug, Default)]
struct Sessions {
    next: u64,
    /// Few random bits are left in a process id, so that several sessions may share one.
    by_process_id: BTreeMap<u32, Vec<Session>>,
}

#[derive(Debug)]
struct Session {
    number: u64,
    ours: CancelKey,
    real: CancelKey,
    /// Whether the real key was given out. From then on its backend may be sent a signal at any time.
    used: bool,
}

/// Keeps a session's key valid for as long as it lives.
#[derive(Debug)]
pub struct Registered {
    cancels: Cancels,
    number: u64,
    ours: CancelKey,
}

impl Default for Cancels {
    fn default() -> Self {
        Self { sessions: Arc::default(), seal: Arc::new(Seal::random()) }
    }
}

impl Cancels {
    /// Makes a key for a session whose real key is `real`. It names `slot` and is as long as the protocol version of the
    /// session permits: exactly 4 bytes where Postgres sent 4, otherwise 16 random bytes and a MAC of 16 bytes.
    #[must_use]
    pub fn register(&self, slot: Slot, real: CancelKey) -> Option<Registered> {
        let ours = if real.secret().len() == SHORT { short(slot) } else { self.seal.sealed(slot) }?;
        let mut sessions = self.lock();
        sessions.next += 1;
        let number = sessions.next;
        let session = Session { number, ours: ours.clone(), real, used: false };
        sessions.by_process_id.entry(ours.process_id()).or_default().push(session);
        drop(sessions);
        Some(Registered { cancels: self.clone(), number, ours })
    }

    /// The real key of the session that knows `ours`.
    #[must_use]
    pub fn resolve(&self, ours: &CancelKey) -> Option<CancelKey> {
        if ours.secret().len() != SHORT && !self.seal.closes(ours) {
            return None;
        }
        let mut sessions = self.lock();
        let candidates = sessions.by_process_id.get_mut(&ours.process_id())?;
        let session = candidates.iter_mut().find(|session| session.ours == *ours)?;
        session.used = true;
        Some(session.real.clone())
    }

    /// The process ids that Postgres gave to the sessions that there are.
    #[must_use]
    pub fn backends(&self) -> Vec<u32> {
        self.lock().by_process_id.values().flatten().map(|session| session.real.process_id()).collect()
    }

    fn forget(&self, process_id: u32, number: u64) -> Option<Session> {
        let mut sessions = self.lock();
        let candidates = sessions.by_process_id.get_mut(&process_id)?;
        let place = candidates.iter().position(|session| session.number == number)?;
        let session = candidates.swap_remove(place);
        if candidates.is_empty() {
            sessions.by_process_id.remove(&process_id);
        }
        Some(session)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seal {
    fn random() -> Self {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(key.as_mut());
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    fn sealed(&self, slot: Slot) -> Option<CancelKey> {
        let random: [u8; RANDOM] = drawn();
        // The process id is part of what is sealed, so it is chosen first.
        let low = u16::from_be_bytes(drawn());
        let unsealed = CancelKey::for_slot(slot, low, &random)?;
        let secret = [random.as_slice(), &self.mac(unsealed.process_id(), &random)].concat();
        CancelKey::new(unsealed.process_id(), &secret)
    }

    fn closes(&self, key: &CancelKey) -> bool {
        let Some((random, mac)) = key.secret().split_at_checked(RANDOM) else { return false };
        verify_slices_are_equal(&self.mac(key.process_id(), random), mac).is_ok()
    }

    fn mac(&self, process_id: u32, random: &[u8]) -> [u8; MAC] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&process_id.to_be_bytes());
        context.update(random);
        let tag = context.sign();
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal([redacted])")
    }
}

fn short(slot: Slot) -> Option<CancelKey> {
    CancelKey::for_slot(slot, u16::from_be_bytes(drawn()), &drawn::<SHORT>())
}

fn drawn<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

impl Registered {
    /// The key to give to the client.
    #[must_use]
    pub const fn key(&self) -> &CancelKey {
        &self.ours
    }

    /// Forgets the client's key, and gives the real one if nobody was ever given it: a cancel that is still on its way would
    /// hit the backend's next session.
    #[must_use]
    pub fn retire(self) -> Option<CancelKey> {
        let session = self.cancels.forget(self.ours.process_id(), self.number)?;
        (!session.used).then_some(session.real)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        drop(self.cancels.forget(self.ours.process_id(), self.number));
    }
}

#[cfg(test)]
mod tests {
    use postern_pgwire::cancel::{CancelKey, Slot};

    use super::Cancels;

    fn real(process_id: u32, secret: &[u8]) -> CancelKey {
        CancelKey::new(process_id, secret).unwrap()
    }

    #[test]
    fn a_key_is_known_while_its_session_lives() {
        let cancels = Cancels::default();
        let slot = Slot::new(321).unwrap();
        let session = cancels.register(slot, real(42, &[1, 2, 3, 4])).unwrap();
        assert_eq!(session.key().slot(), slot);
        assert_eq!(session.key().secret().len(), 4);
        assert_eq!(cancels.resolve(session.key()), Some(real(42, &[1, 2, 3, 4])));
        let key = session.key().clone();
        drop(session);
        assert_eq!(cancels.resolve(&key), None);
        assert!(cancels.lock().by_process_id.is_empty());
    }

    #[test]
    fn a_wrong_secret_is_unknown() {
        let cancels = Cancels::default();
        let session = cancels.register(Slot::new(1).unwrap(), real(42, &[1, 2, 3, 4])).unwrap();
        let mut secret = session.key().secret().to_vec();
        secret[3] ^= 1;
        assert_eq!(cancels.resolve(&real(session.key().process_id(), &secret)), None);
        assert_eq!(cancels.resolve(&real(42, &[1, 2, 3, 4])), None, "the real key is not ours");
    }

    #[test]
    fn long_keys_are_known_by_every_bit_of_them() {
        let cancels = Cancels::default();
        let session = cancels.register(Slot::new(1).unwrap(), real(42, &[7; 48])).unwrap();
        let key = session.key();
        assert_eq!((key.secret().len(), key.slot()), (32, Slot::new(1).unwrap()));
        assert_eq!(cancels.resolve(key), Some(real(42, &[7; 48])));
        for bit in 0..256 {
            let mut secret = key.secret().to_vec();
            secret[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cancels.resolve(&real(key.process_id(), &secret)), None, "{bit}");
        }
        assert_eq!(
            cancels.resolve(&real(key.process_id() ^ 1, key.secret())),
            None,
            "the process id is sealed as well"
        );
        for length in [5, 16, 31, 33, 256] {
            let mut secret = key.secret().to_vec();
            secret.resize(length, 0);
            assert_eq!(cancels.resolve(&real(key.process_id(), &secret)), None, "{length}");
        }
    }

    #[test]
    fn only_our_own_keys_pass_the_seal() {
        let (one, other) = (Cancels::default(), Cancels::default());
        let key = one.seal.sealed(Slot::new(9).unwrap()).unwrap();
        assert!(one.seal.closes(&key) && !other.seal.closes(&key));
        assert_ne!(one.seal.sealed(Slot::new(9).unwrap()).unwrap(), key);
        assert!(!format!("{one:?}").contains("hmac"));
    }

    #[test]
    fn the_backends_are_those_of_living_sessions() {
        let cancels = Cancels::default();
        let slot = Slot::new(2).unwrap();
        let first = cancels.register(slot, real(41, &[0; 4])).unwrap();
        let _second = cancels.register(slot, real(42, &[0; 32])).unwrap();
        drop(first);
        assert_eq!(cancels.backends(), [42]);
    }

    #[test]
    fn more_sessions_than_process_ids() {
        let cancels = Cancels::default();
        let slot = Slot::new(5).unwrap();
        let sessions: Vec<_> = (1..=6_000).map(|pid| cancels.register(slot, real(pid, &[0; 4])).unwrap()).collect();
        for (pid, session) in (1..=6_000).zip(&sessions) {
            assert_eq!(cancels.resolve(session.key()).map(|key| key.process_id()), Some(pid));
        }
    }
}
