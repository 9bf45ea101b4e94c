//! Which server a driver gets, of several. The names are libpq's: `target_session_attrs` and `load_balance_hosts`.

use std::fmt;
use std::str::FromStr;

/// What kind of session a driver is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionAttrs {
    /// Whatever comes first.
    #[default]
    Any,
    /// One that may write.
    ReadWrite,
    /// One that may only read.
    ReadOnly,
    /// One with a server that is not in recovery.
    Primary,
    /// One with a server in recovery.
    Standby,
    /// One with a server in recovery, or any when there is none.
    PreferStandby,
}

/// The order in which servers are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// As they are listed.
    #[default]
    Disable,
    /// Shuffled for each session.
    Random,
    /// Those with the fewest sessions of ours first.
    Least,
}

/// A text names none of the choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {0}")]
pub struct NotAChoice(&'static str);

impl FromStr for SessionAttrs {
    type Err = NotAChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "any" => Self::Any,
            "read-write" => Self::ReadWrite,
            "read-only" => Self::ReadOnly,
            "primary" => Self::Primary,
            "standby" => Self::Standby,
            "prefer-standby" => Self::PreferStandby,
            _ => return Err(NotAChoice("any, read-write, read-only, primary, standby and prefer-standby")),
        })
    }
}

/// As a sentence about a server ends: "a server that is ...".
impl fmt::Display for SessionAttrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "of any kind",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "a primary",
            Self::Standby | Self::PreferStandby => "a standby",
        })
    }
}

impl FromStr for Balance {
    type Err = NotAChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "disable" => Ok(Self::Disable),
            "random" => Ok(Self::Random),
            "least" => Ok(Self::Least),
            _ => Err(NotAChoice("disable, random and least")),
        }
    }
}

/// What a server says of itself at login, in ParameterStatus since PostgreSQL 14.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    in_hot_standby: Option<bool>,
    default_transaction_read_only: Option<bool>,
}

impl Said {
    /// Listens to one ParameterStatus: its body is a name and a value, each with a zero byte behind it.
    pub fn hear(&mut self, body: &[u8]) {
        let mut parts = body.split(|byte| *byte == 0);
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return };
        let known = match name {
            b"in_hot_standby" => &mut self.in_hot_standby,
            b"default_transaction_read_only" => &mut self.default_transaction_read_only,
            _ => return,
        };
        *known = match value {
            b"on" => Some(true),
            b"off" => Some(false),
            _ => None,
        };
    }
}

impl SessionAttrs {
    /// Whether a server that says this is what is wanted. A server that does not say it is not.
    #[must_use]
    pub fn accept(self, said: Said) -> bool {
        let Said { in_hot_standby: standby, default_transaction_read_only: read_only } = said;
        match self {
            Self::Any => true,
            Self::ReadWrite => standby == Some(false) && read_only == Some(false),
            Self::ReadOnly => standby == Some(true) || read_only == Some(true),
            Self::Primary => standby == Some(false),
            Self::Standby | Self::PreferStandby => standby == Some(true),
        }
    }
}

/// What is known of a server before it is tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// How many sessions of ours it has.
    pub sessions: usize,
    /// What it said at the last login.
    pub said: Option<Said>,
}

/// The order in which servers are tried, as indices. Those that were of the wanted kind at their last login come first, and
/// those that were not come last: they are asked all the same, since kinds change. `draw` gives a number below its argument.
#[must_use]
pub fn order(
    balance: Balance,
    wanted: SessionAttrs,
    servers: &[Known],
    mut draw: impl FnMut(usize) -> usize,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..servers.len()).collect();
    let sessions = |index: &usize| servers.get(*index).map(|known| known.sessions);
    match balance {
        Balance::Disable => {}
        Balance::Random => {
            for end in (1..order.len()).rev() {
                order.swap(end, draw(end + 1).min(end));
            }
        }
        Balance::Least => order.sort_by_key(sessions),
    }
    order.sort_by_key(|index| match servers.get(*index).and_then(|known| known.said) {
        Some(said) if wanted.accept(said) => 0,
        None => 1,
        Some(_) => 2,
    });
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Balance, Known, Said, SessionAttrs, order};

    fn said(standby: &str, read_only: &str) -> Said {
        let mut said = Said::default();
        said.hear(b"server_version\x0017.0\0");
        said.hear(format!("in_hot_standby\0{standby}\0").as_bytes());
        said.hear(format!("default_transaction_read_only\0{read_only}\0").as_bytes());
        said
    }

    /// The table of libpq's documentation.
    #[test]
    fn kinds_are_judged_as_libpq_does() {
        let kinds = ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"];
        let kinds = kinds.map(|kind| kind.parse::<SessionAttrs>().unwrap());
        for (server, accepted) in [
            (said("off", "off"), [true, true, false, true, false, false]),
            (said("off", "on"), [true, false, true, true, false, false]),
            (said("on", "off"), [true, false, true, false, true, true]),
            (said("on", "on"), [true, false, true, false, true, true]),
            (Said::default(), [true, false, false, false, false, false]),
            (said("perhaps", ""), [true, false, false, false, false, false]),
        ] {
            assert_eq!(kinds.map(|kind| kind.accept(server)), accepted, "{server:?}");
        }
        assert!("readwrite".parse::<SessionAttrs>().unwrap_err().to_string().contains("prefer-standby"));
        assert!("round-robin".parse::<Balance>().is_err());
    }

    #[test]
    fn a_later_word_counts_and_broken_ones_do_not() {
        let mut said = said("on", "off");
        for body in [b"".as_slice(), b"in_hot_standby", b"\0\0", b"other\0on\0"] {
            said.hear(body);
        }
        assert!(SessionAttrs::Standby.accept(said));
        said.hear(b"in_hot_standby\0off\0");
        assert!(SessionAttrs::Primary.accept(said));
    }

    #[test]
    fn servers_are_tried_as_listed_by_load_or_by_lot_and_the_likely_ones_first() {
        let known = |sessions, said| Known { sessions, said };
        let (primary, standby) = (Some(said("off", "off")), Some(said("on", "off")));
        let servers = [known(5, standby), known(3, None), known(4, primary), known(1, primary)];
        let by = |balance, wanted| order(balance, wanted, &servers, |_| 0);
        assert_eq!(by(Balance::Disable, SessionAttrs::Any), [0, 2, 3, 1]);
        assert_eq!(by(Balance::Disable, SessionAttrs::ReadWrite), [2, 3, 1, 0]);
        assert_eq!(by(Balance::Disable, SessionAttrs::PreferStandby), [0, 1, 2, 3]);
        assert_eq!(by(Balance::Least, SessionAttrs::ReadWrite), [3, 2, 1, 0]);
        let unknown = [Known::default(); 4];
        assert_eq!(order(Balance::Random, SessionAttrs::Any, &unknown, |_| 0), [1, 2, 3, 0]);
        assert_eq!(order(Balance::Random, SessionAttrs::Any, &unknown, |below| below - 1), [0, 1, 2, 3]);
        assert!(order(Balance::Random, SessionAttrs::Any, &[], |_| 0).is_empty());
    }

    proptest! {
        #[test]
        fn every_server_is_tried_once(
            sessions in prop::collection::vec((0_usize..9, any::<Option<(bool, bool)>>()), 0..9), seed: usize,
        ) {
            let on = |on| if on { "on" } else { "off" };
            let servers: Vec<_> = sessions.iter().map(|(sessions, kind)| Known {
                sessions: *sessions,
                said: kind.map(|(standby, read_only)| said(on(standby), on(read_only))),
            }).collect();
            for balance in [Balance::Disable, Balance::Random, Balance::Least] {
                for wanted in [SessionAttrs::Any, SessionAttrs::ReadOnly, SessionAttrs::PreferStandby] {
                    let mut tried = order(balance, wanted, &servers, |below| seed % below);
                    tried.sort_unstable();
                    prop_assert_eq!(tried, (0..servers.len()).collect::<Vec<_>>());
                }
            }
        }
    }
}
