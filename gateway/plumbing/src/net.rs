//! A place to listen or to connect: a TCP address or a Unix socket.

mod stream;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, UnixListener};

pub use self::stream::Stream;
use crate::accept::{self, Fatal};

/// Where to listen or to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `127.0.0.1:5432` or `[::1]:5432`.
    Tcp(SocketAddr),
    /// `unix:/run/postern/postgres.sock`.
    Unix(PathBuf),
}

/// A text is not an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address with a port, such as 127.0.0.1:5432, or unix: and a path")]
pub struct NotAnEndpoint;

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some("") => Err(NotAnEndpoint),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| NotAnEndpoint),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Listens at an endpoint. A Unix socket's file is removed when the listener is dropped.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix { listener: UnixListener, file: SocketFile },
}

impl Listener {
    /// Starts listening. The file of a Unix socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// What the system says; `AddrInUse` when somebody listens there.
    pub async fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp(address) => Ok(Self(Kind::Tcp(TcpListener::bind(address).await?))),
            Endpoint::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                let file = SocketFile::of(path)?;
                Ok(Self(Kind::Unix { listener, file }))
            }
        }
    }

    /// Where it listens, with the port that the system chose when 0 was asked for.
    ///
    /// # Errors
    /// What the system says.
    pub fn endpoint(&self) -> io::Result<Endpoint> {
        match &self.0 {
            Kind::Tcp(listener) => Ok(Endpoint::Tcp(listener.local_addr()?)),
            Kind::Unix { file, .. } => Ok(Endpoint::Unix(file.path.clone())),
        }
    }

    /// Accepts the next connection, with the patience of [`accept::accept`].
    ///
    /// # Errors
    /// Only when the listener itself is broken.
    pub async fn accept(&self) -> Result<Stream, Fatal> {
        match &self.0 {
            Kind::Tcp(listener) => Ok(accept::accept(listener).await?.0.into()),
            Kind::Unix { listener, .. } => Ok(accept::patiently(|| listener.accept()).await?.0.into()),
        }
    }
}

/// The file of a Unix socket that this process made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: a file that somebody else has put there since is not ours to remove.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_path_buf(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(%error, path = %self.path.display(), "cannot remove the file of a socket");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes the file of a socket that refuses connections. Anything else stays, and binding will fail on it; so does a file
/// that somebody else has put there in the meantime.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Ok(());
    }
    match tokio::net::UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if identity(path)? == (metadata.dev(), metadata.ino()) { std::fs::remove_file(path) } else { Ok(()) }
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
