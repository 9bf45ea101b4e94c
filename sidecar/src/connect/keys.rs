//! Which server a driver's cancel key is for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postern_identity::InstanceId;
use postern_pgwire::cancel::CancelKey;

/// The cancel keys of all sessions.
#[derive(Clone, Debug, Default)]
pub struct Keys(Arc<Mutex<Sessions>>);

#[derive(Debug, Default)]
struct Sessions {
    next: u64,
    by_number: BTreeMap<u64, (CancelKey, Holder)>,
}

/// Whose session a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which of the servers.
    pub target: usize,
    /// Which instance of it.
    pub instance: InstanceId,
}

/// Keeps a key known for as long as its session lives.
#[derive(Debug)]
pub struct Kept {
    keys: Keys,
    number: u64,
}

impl Keys {
    /// Remembers the key of a session.
    #[must_use]
    pub fn keep(&self, key: CancelKey, holder: Holder) -> Kept {
        let mut sessions = self.lock();
        sessions.next += 1;
        let number = sessions.next;
        sessions.by_number.insert(number, (key, holder));
        drop(sessions);
        Kept { keys: self.clone(), number }
    }

    /// Whose sessions have this key: one, unless two servers have given the same key out.
    #[must_use]
    pub fn holders(&self, key: &CancelKey) -> Vec<Holder> {
        let sessions = self.lock();
        sessions.by_number.values().filter(|(known, _)| known == key).map(|(_, holder)| *holder).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.keys.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use postern_identity::InstanceId;
    use postern_pgwire::cancel::CancelKey;

    use super::{Holder, Keys};

    #[test]
    fn a_key_leads_to_its_server_while_the_session_lives() {
        let keys = Keys::default();
        let key = |pid: u32, secret| CancelKey::new(pid, &[secret; 4]).unwrap();
        let holder = |target| Holder { target, instance: InstanceId([0; 20]) };
        let first = keys.keep(key(1, 1), holder(0));
        let _second = keys.keep(key(1, 2), holder(1));
        let _same = keys.keep(key(1, 1), holder(1));
        assert_eq!(keys.holders(&key(1, 1)), [holder(0), holder(1)], "both servers gave it out");
        assert_eq!(keys.holders(&key(1, 2)), [holder(1)]);
        assert_eq!(keys.holders(&key(2, 2)), []);
        drop(first);
        assert_eq!(keys.holders(&key(1, 1)), [holder(1)]);
    }
}
