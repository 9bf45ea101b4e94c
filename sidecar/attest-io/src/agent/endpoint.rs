use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use postern_plumbing::net::Stream;
use tokio::net::{TcpStream, UnixStream};

use super::AgentError;

/// The environment variable that dstack's SDKs read first.
pub const SIMULATOR_VARIABLE: &str = "DSTACK_SIMULATOR_ENDPOINT";

/// Where a guest puts its agent's socket, in the order in which dstack's SDKs look.
const SOCKETS: [&str; 4] =
    ["/var/run/dstack.sock", "/run/dstack.sock", "/var/run/dstack/dstack.sock", "/run/dstack/dstack.sock"];

/// Where a guest agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEndpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A simulator on HTTP.
    Http {
        /// Host and port.
        authority: String,
        /// What stands before the method's name, ending in a slash.
        base: String,
    },
}

/// A text that names no guest agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the path of a Unix socket or http://host:port, and not {0:?}")]
pub struct NotAnAgentEndpoint(pub String);

impl AgentEndpoint {
    pub(super) fn discover() -> Result<Self, AgentError> {
        Self::choose(std::env::var(SIMULATOR_VARIABLE).ok().as_deref(), &SOCKETS.map(Path::new))
    }

    pub(super) fn choose(variable: Option<&str>, sockets: &[&Path]) -> Result<Self, AgentError> {
        if let Some(text) = variable.filter(|text| !text.is_empty()) {
            return Ok(text.parse()?);
        }
        let found = sockets.iter().find(|path| path.exists());
        found
            .map(|path| Self::Unix(path.to_path_buf()))
            .ok_or_else(|| AgentError::NotFound(sockets.iter().map(|path| path.display().to_string()).collect()))
    }

    pub(super) async fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).await.map(Stream::from),
            Self::Http { authority, .. } => TcpStream::connect(authority.as_str()).await.map(Stream::from),
        }
    }

    pub(super) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "dstack",
            Self::Http { authority, .. } => authority,
        }
    }

    pub(super) fn path_of(&self, call: &str) -> String {
        match self {
            Self::Unix(_) => format!("/{call}"),
            Self::Http { base, .. } => format!("{base}{call}"),
        }
    }
}

impl FromStr for AgentEndpoint {
    type Err = NotAnAgentEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || NotAnAgentEndpoint(text.to_owned());
        let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
        if path.starts_with('/') {
            return Ok(Self::Unix(path.into()));
        }
        let url = text.strip_prefix("http://").ok_or_else(refuse)?;
        let (authority, rest) = url.split_once('/').unwrap_or((url, ""));
        let port = authority.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        let authority = match port {
            Some((host, Ok(_))) if !host.is_empty() => authority.to_owned(),
            // The colons of a bare IPv6 literal stand in brackets, so that anything else after a colon is a bad port.
            Some((_, Err(_))) if !authority.ends_with(']') => return Err(refuse()),
            None | Some((_, Err(_))) if !authority.is_empty() => format!("{authority}:80"),
            _ => return Err(refuse()),
        };
        let base = rest.trim_end_matches('/');
        Ok(Self::Http { authority, base: if base.is_empty() { "/".to_owned() } else { format!("/{base}/") } })
    }
}

impl fmt::Display for AgentEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http { authority, base } => write!(f, "http://{authority}{base}"),
        }
    }
}
