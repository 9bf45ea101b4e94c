//! A password that logs in often.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::Keys;

/// A password of ours, and the keys that it led to last. Postgres stores a password with one salt, so that the 4,096 rounds of
/// HMAC, which are most of what a login costs us, lead to the same keys each time; RFC 5802 lets clients keep them. Another salt,
/// as after the password was set again, takes the place of the one before. Clones share what is kept, and all of it is wiped.
#[derive(Clone)]
pub struct Password(Arc<Inner>);

struct Inner {
    text: Zeroizing<Vec<u8>>,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    keys: Arc<Keys>,
}

impl Password {
    /// A password that has led to no keys yet.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        Self(Arc::new(Inner { text: Zeroizing::new(text.to_vec()), kept: Mutex::default() }))
    }

    /// The keys for this salt and number of iterations. They are computed without the lock: who logs in for the first time does
    /// not keep others waiting.
    pub(crate) fn keys(&self, salt: &[u8], iterations: NonZeroU32) -> Arc<Keys> {
        let known = |kept: &Kept| (kept.salt == salt && kept.iterations == iterations).then(|| Arc::clone(&kept.keys));
        let kept = || self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = kept().as_ref().and_then(known) {
            return keys;
        }
        let keys = Arc::new(Keys::derive(&self.0.text, salt, iterations));
        *kept() = Some(Kept { salt: salt.to_vec(), iterations, keys: Arc::clone(&keys) });
        keys
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use super::Password;
    use crate::scram::Keys;

    const FEW: NonZeroU32 = NonZeroU32::new(2).unwrap();
    const MORE: NonZeroU32 = NonZeroU32::new(3).unwrap();

    #[test]
    fn the_rounds_are_computed_once_for_a_salt() {
        let password = Password::new(b"secret");
        let clone = password.clone();
        let first = password.keys(b"salt", FEW);
        assert_eq!(first.stored(), Keys::derive(b"secret", b"salt", FEW).stored());
        assert!(Arc::ptr_eq(&first, &clone.keys(b"salt", FEW)), "clones share them");
    }

    #[test]
    fn another_salt_or_count_takes_the_place_of_the_one_before() {
        let password = Password::new(b"secret");
        let first = password.keys(b"salt", FEW);
        for (salt, iterations) in [(b"tlas", FEW), (b"salt", MORE)] {
            let keys = password.keys(salt, iterations);
            assert_eq!(keys.stored(), Keys::derive(b"secret", salt, iterations).stored());
        }
        assert_eq!(Arc::strong_count(&first), 1, "nothing is kept of what was replaced");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Password::new(b"secret")), "Password([redacted])");
    }
}
