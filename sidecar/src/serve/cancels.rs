//! The cancel keys of all sessions: ours outside, Postgres' inside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use postern_pgwire::cancel::{CancelKey, Slot};
use rand::RngCore;

/// Longest secret that we make.
const OUR_SECRET: usize = 32;

/// Maps the keys that clients know to the keys that Postgres knows.
#[derive(Clone, Debug, Default)]
pub struct Cancels {
    sessions: Arc<Mutex<Sessions>>,
}

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
}

/// Keeps a session's key valid for as long as it lives.
#[derive(Debug)]
pub struct Registered {
    cancels: Cancels,
    number: u64,
    ours: CancelKey,
}

impl Cancels {
    /// Makes a key for a session whose real key is `real`. It names `slot` and is as long as the protocol version of the
    /// session permits: exactly 4 bytes where Postgres sent 4, otherwise 32 random bytes.
    #[must_use]
    pub fn register(&self, slot: Slot, real: CancelKey) -> Option<Registered> {
        let mut random = [0; OUR_SECRET + 2];
        rand::rng().fill_bytes(&mut random);
        let (low, secret) = random.split_first_chunk::<2>()?;
        let secret = if real.secret().len() == 4 { secret.get(..4)? } else { secret };
        let ours = CancelKey::for_slot(slot, u16::from_be_bytes(*low), secret)?;

        let mut sessions = self.lock();
        sessions.next += 1;
        let number = sessions.next;
        let session = Session { number, ours: ours.clone(), real };
        sessions.by_process_id.entry(ours.process_id()).or_default().push(session);
        drop(sessions);
        Some(Registered { cancels: self.clone(), number, ours })
    }

    /// The real key of the session that knows `ours`.
    #[must_use]
    pub fn resolve(&self, ours: &CancelKey) -> Option<CancelKey> {
        let sessions = self.lock();
        let candidates = sessions.by_process_id.get(&ours.process_id())?;
        candidates.iter().find(|session| session.ours == *ours).map(|session| session.real.clone())
    }

    fn forget(&self, process_id: u32, number: u64) {
        let mut sessions = self.lock();
        if let Some(candidates) = sessions.by_process_id.get_mut(&process_id) {
            candidates.retain(|session| session.number != number);
            if candidates.is_empty() {
                sessions.by_process_id.remove(&process_id);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    /// The key to give to the client.
    #[must_use]
    pub const fn key(&self) -> &CancelKey {
        &self.ours
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.cancels.forget(self.ours.process_id(), self.number);
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
    fn long_keys_stay_long() {
        let session = Cancels::default().register(Slot::new(1).unwrap(), real(42, &[7; 48])).unwrap();
        assert_eq!(session.key().secret().len(), 32);
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
