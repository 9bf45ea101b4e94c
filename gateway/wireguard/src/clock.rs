//! Monotonic time. The only place of this crate that reads it: everything that decides by time takes `now`.

use std::time::Instant;

pub(crate) fn now() -> Instant {
    Instant::now()
}
