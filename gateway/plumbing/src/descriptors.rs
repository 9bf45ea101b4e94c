//! How many files, sockets and pipes this process may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as this process may, and says where it is then; `None` where there is none.
///
/// The usual limit of 1,024 is for programs that wait with select(2), which none here does.
///
/// # Errors
/// What the system says.
pub fn raise() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum)
}

/// Where the limit is now; `None` where there is none.
#[must_use]
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        let before = getrlimit(Resource::Nofile);
        let lower = before.maximum.map(|most| most / 2);
        setrlimit(Resource::Nofile, Rlimit { current: lower, maximum: before.maximum }).unwrap();
        assert_eq!(raise().unwrap(), before.maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
        assert_eq!(raise().unwrap(), before.maximum, "it stays");
    }
}
