//! Host names as they come in a ClientHello, accepted only in the one form the gateway routes by.

use std::fmt;
use std::net::IpAddr;

/// The longest name DNS can carry, in characters without the final dot (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
/// The longest label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// A DNS name in lower case: letters, digits and hyphens in labels, no trailing dot, never an IP address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

/// Why bytes are not a host name that the gateway routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// There is no name at all.
    #[error("the host name is empty")]
    Empty,
    /// The name or one of its labels is longer than DNS allows.
    #[error("the host name is longer than DNS allows")]
    TooLong,
    /// The name ends in a dot, which RFC 6066 section 3 forbids in a ClientHello.
    #[error("the host name ends in a dot")]
    TrailingDot,
    /// RFC 6066 section 3: literal addresses are not host names.
    #[error("the host name is an IP address")]
    IpAddress,
    /// A label is empty, begins or ends with a hyphen, or holds a byte that is no letter, digit or hyphen.
    #[error("the host name holds a label that is not letters, digits and inner hyphens")]
    Label,
}

impl HostName {
    /// Reads the name from the bytes of a `host_name` entry (RFC 6066 section 3), and lower-cases it.
    pub fn parse(bytes: &[u8]) -> Result<Self, HostNameError> {
        let text = std::str::from_utf8(bytes).map_err(|_| HostNameError::Label)?;
        if text.is_empty() {
            return Err(HostNameError::Empty);
        }
        if text.parse::<IpAddr>().is_ok() {
            return Err(HostNameError::IpAddress);
        }
        if text.ends_with('.') {
            return Err(HostNameError::TrailingDot);
        }
        if text.len() > MAX_NAME || text.split('.').any(|label| label.len() > MAX_LABEL) {
            return Err(HostNameError::TooLong);
        }
        if !text.split('.').all(is_ldh_label) {
            return Err(HostNameError::Label);
        }
        // Resolvers read names such as 127.1 or 10.0x as addresses; a numeric last label is never a domain.
        if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(HostNameError::IpAddress);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The name, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_ldh_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostName({})", self.0)
    }
}

impl std::str::FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_lower_cased() {
        assert_eq!(HostName::parse(b"ABCdef-1s.Postern.TEST").unwrap().as_str(), "abcdef-1s.postern.test");
    }

    #[test]
    fn every_form_that_is_no_host_name_is_told_apart() {
        let refused = |bytes: &[u8]| HostName::parse(bytes).unwrap_err();
        assert_eq!(refused(b""), HostNameError::Empty);
        assert_eq!(refused(b"a.test."), HostNameError::TrailingDot);
        assert_eq!(refused(b"192.0.2.7"), HostNameError::IpAddress);
        assert_eq!(refused(b"127.1"), HostNameError::IpAddress);
        assert_eq!(refused(b"2001:db8::1"), HostNameError::IpAddress);
        assert_eq!(refused(b"a\0.test"), HostNameError::Label);
        assert_eq!(refused(b"a_b.test"), HostNameError::Label);
        assert_eq!(refused(b"a..test"), HostNameError::Label);
        assert_eq!(refused(b"-a.test"), HostNameError::Label);
        assert_eq!(refused(b"a-.test"), HostNameError::Label);
        assert_eq!(refused("ä.test".as_bytes()), HostNameError::Label);
        assert_eq!(refused(b"\xff.test"), HostNameError::Label);
        assert_eq!(refused(format!("{}.test", "a".repeat(64)).as_bytes()), HostNameError::TooLong);
        assert_eq!(refused(["a"; 128].join(".").as_bytes()), HostNameError::TooLong);
    }

    #[test]
    fn the_longest_label_and_the_longest_name_are_accepted() {
        assert!(HostName::parse(format!("{}.test", "a".repeat(63)).as_bytes()).is_ok());
        assert!(HostName::parse(["a"; 127].join(".").as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_accepted_reads_back_as_itself(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(name) = HostName::parse(&bytes) {
                prop_assert_eq!(HostName::parse(name.as_str().as_bytes()), Ok(name.clone()));
                prop_assert!(name.as_str().eq_ignore_ascii_case(std::str::from_utf8(&bytes).unwrap()));
            }
        }
    }
}
