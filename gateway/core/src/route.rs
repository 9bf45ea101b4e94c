//! From a host name to the application it names.
//!
//! One label under a base domain, in lower case:
//!
//! | label | meaning |
//! |---|---|
//! | `<app-id>s` | the sidecar of any instance of the app |
//! | `<id>-<port>s` | TLS passthrough to a port; the id is of an instance or an app |
//! | `<id>-s` | the same for port 443 |
//!
//! dstack's forms without the final `s` ask the gateway to terminate TLS, which it does not do.

use postern_identity::{AppId, InstanceId};

use crate::host::HostName;

/// The port of `<id>-s`, as dstack has it.
const HTTPS: u16 = 443;
/// How many hex digits an app id or instance id has.
const ID_DIGITS: usize = 2 * AppId::LEN;

/// The base domains under which apps have their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    bases: Vec<HostName>,
}

/// Whom a host name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Any instance of an app.
    App(AppId),
    /// The instance with this id or else, when there is none, any instance of the app with this id.
    Either([u8; 20]),
}

impl Target {
    /// The target read as an app id.
    #[must_use]
    pub fn app(&self) -> AppId {
        match self {
            Self::App(app) => *app,
            Self::Either(id) => AppId(*id),
        }
    }

    /// The target read as an instance id, where it may be one.
    #[must_use]
    pub fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::App(_) => None,
            Self::Either(id) => Some(InstanceId(*id)),
        }
    }
}

/// Which port of an instance a host name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The one on which the instance's sidecar listens, as it said at registration.
    Sidecar,
    /// A port by number, never 0.
    Number(u16),
}

/// Where a host name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Whom it asks for.
    pub target: Target,
    /// Which port there.
    pub port: Port,
}

/// Why a host name leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The name is not under a base domain.
    #[error("the name is not under a base domain of this gateway")]
    OutsideDomain,
    /// The name is a base domain itself, or has more than one label in front of it.
    #[error("the name is not exactly one label under a base domain")]
    NotOneLabel,
    /// The label is none of the known forms.
    #[error("the label does not name an app or instance")]
    Malformed,
    /// The port is 0 or above 65535.
    #[error("the label names a port that does not exist")]
    Port,
    /// The label is one of dstack's forms for TLS termination.
    #[error("the label asks for TLS termination, which this gateway does not do")]
    Termination,
}

impl Domain {
    /// A set of base domains. A name under none of them is refused, so an empty set routes nothing.
    #[must_use]
    pub fn new(bases: Vec<HostName>) -> Self {
        Self { bases }
    }

    /// The base domains, in the order given.
    #[must_use]
    pub fn bases(&self) -> &[HostName] {
        &self.bases
    }

    /// Reads a host name.
    pub fn parse(&self, name: &HostName) -> Result<Route, RouteError> {
        let labels = self.bases.iter().filter_map(|base| in_front(name, base));
        // The longest base wins, so that a base domain may lie under another one.
        match labels.min_by_key(|labels| labels.len()) {
            None => Err(RouteError::OutsideDomain),
            Some(labels) if labels.is_empty() || labels.contains('.') => Err(RouteError::NotOneLabel),
            Some(label) => parse_label(label),
        }
    }
}

/// The labels in front of a base domain, if the name is under it or is it.
fn in_front<'a>(name: &'a HostName, base: &HostName) -> Option<&'a str> {
    let rest = name.as_str().strip_suffix(base.as_str())?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
}

fn parse_label(label: &str) -> Result<Route, RouteError> {
    let (id, tail) = label.split_at_checked(ID_DIGITS).ok_or(RouteError::Malformed)?;
    let mut bytes = [0; AppId::LEN];
    decode_hex(id, &mut bytes).ok_or(RouteError::Malformed)?;
    let port = match tail.strip_prefix('-') {
        None if tail == "s" => return Ok(Route { target: Target::App(AppId(bytes)), port: Port::Sidecar }),
        None if tail.is_empty() => return Err(RouteError::Termination),
        None => return Err(RouteError::Malformed),
        Some(port) => port,
    };
    let digits = match port.strip_suffix('s') {
        Some(digits) => digits,
        None if port.strip_suffix('g').unwrap_or(port).bytes().all(|byte| byte.is_ascii_digit()) => {
            return Err(RouteError::Termination);
        }
        None => return Err(RouteError::Malformed),
    };
    let port = if digits.is_empty() { HTTPS } else { parse_port(digits)? };
    Ok(Route { target: Target::Either(bytes), port: Port::Number(port) })
}

fn parse_port(digits: &str) -> Result<u16, RouteError> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RouteError::Malformed);
    }
    match digits.parse() {
        Ok(0) | Err(_) => Err(RouteError::Port),
        Ok(port) => Ok(port),
    }
}

/// Lower-case hex only: a host name has no other case, and no prefix.
fn decode_hex(text: &str, bytes: &mut [u8; 20]) -> Option<()> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    fn domain() -> Domain {
        Domain::new(vec!["postern.test".parse().unwrap(), "eu.postern.test".parse().unwrap()])
    }

    fn parse(name: &str) -> Result<Route, RouteError> {
        domain().parse(&HostName::parse(name.as_bytes()).map_err(|_| RouteError::Malformed)?)
    }

    #[test]
    fn an_app_id_with_s_leads_to_the_sidecar_of_the_app() {
        let route = Route { target: Target::App(ID.parse().unwrap()), port: Port::Sidecar };
        assert_eq!(parse(&format!("{ID}s.postern.test")), Ok(route));
        assert_eq!(parse(&format!("{}S.Postern.Test", ID.to_uppercase())), Ok(route));
        assert_eq!(parse(&format!("{ID}s.eu.postern.test")), Ok(route));
    }

    #[test]
    fn a_port_and_the_passthrough_suffix_lead_to_an_instance_or_an_app() {
        let id: AppId = ID.parse().unwrap();
        let route = |port| Ok(Route { target: Target::Either(id.0), port: Port::Number(port) });
        assert_eq!(parse(&format!("{ID}-5432s.postern.test")), route(5432));
        assert_eq!(parse(&format!("{ID}-s.postern.test")), route(443));
        assert_eq!(parse(&format!("{ID}-65535s.postern.test")), route(65535));
    }

    #[test]
    fn a_name_elsewhere_is_outside() {
        assert_eq!(parse(&format!("{ID}s.example.org")), Err(RouteError::OutsideDomain));
        assert_eq!(parse(&format!("{ID}s.evilpostern.test")), Err(RouteError::OutsideDomain));
        assert_eq!(parse(&format!("{ID}sxpostern.test")), Err(RouteError::OutsideDomain));
    }

    #[test]
    fn anything_but_one_label_is_refused() {
        assert_eq!(parse("postern.test"), Err(RouteError::NotOneLabel));
        assert_eq!(parse(&format!("a.{ID}s.postern.test")), Err(RouteError::NotOneLabel));
    }

    #[test]
    fn a_base_that_only_looks_like_the_end_of_the_name_hides_no_other() {
        for bases in [["postern.test", "s.postern.test"], ["s.postern.test", "postern.test"]] {
            let domain = Domain::new(bases.map(|base| base.parse().unwrap()).to_vec());
            let parse = |name: &str| domain.parse(&name.parse().unwrap());
            let route = Route { target: Target::App(ID.parse().unwrap()), port: Port::Sidecar };
            assert_eq!(parse(&format!("{ID}s.postern.test")), Ok(route));
            assert_eq!(parse(&format!("{ID}s.s.postern.test")), Ok(route));
            assert_eq!(parse("s.postern.test"), Err(RouteError::NotOneLabel));
            assert_eq!(parse("xpostern.test"), Err(RouteError::OutsideDomain));
        }
    }

    #[test]
    fn malformed_labels_are_refused() {
        let long = format!("{ID}0s");
        let wrong_digit = ID.replace('0', "g") + "s";
        for label in ["gateway", "s", "0s", &ID[1..], &long, &wrong_digit, &format!("{ID}ss"), &format!("{ID}x")] {
            assert_eq!(parse(&format!("{label}.postern.test")), Err(RouteError::Malformed), "{label}");
        }
        for port in ["54x32s", "5432ss", "5432sg", "5432gs", "5432-1s", "1-s"] {
            assert_eq!(parse(&format!("{ID}-{port}.postern.test")), Err(RouteError::Malformed), "{port}");
        }
        for port in ["0s", "00s", "65536s", "99999999999999999s"] {
            assert_eq!(parse(&format!("{ID}-{port}.postern.test")), Err(RouteError::Port), "{port}");
        }
    }

    #[test]
    fn the_forms_for_termination_are_named_as_such() {
        for label in [ID.to_owned(), format!("{ID}-8080"), format!("{ID}-8080g"), format!("{ID}-g")] {
            assert_eq!(parse(&format!("{label}.postern.test")), Err(RouteError::Termination), "{label}");
        }
    }

    proptest! {
        #[test]
        fn every_id_and_port_is_found_again(id: [u8; 20], port in 1u16..) {
            let label = format!("{}-{port}s", AppId(id));
            let route = parse(&format!("{label}.postern.test")).unwrap();
            prop_assert_eq!(route.target, Target::Either(id));
            prop_assert_eq!(route.target.instance(), Some(InstanceId(id)));
            prop_assert_eq!(route.port, Port::Number(port));
        }

        #[test]
        fn no_label_panics(label in "[0-9a-f]{36,44}[-sg0-9]{0,8}") {
            if let Ok(name) = format!("{label}.postern.test").parse() {
                let _: Result<Route, RouteError> = domain().parse(&name);
            }
        }
    }
}
