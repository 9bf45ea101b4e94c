//! The Postgres behind the sidecar: its Unix socket, logins to it, and the roles that it must know.

pub mod admin;
pub mod login;
pub mod pool;
pub mod privileges;
pub mod provision;
pub mod state;
pub mod supervise;

use std::io;
use std::path::PathBuf;

use postern_pgwire::cancel::CancelKey;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::packets;

/// Where Postgres listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    path: PathBuf,
}

impl Socket {
    /// The socket of a server with this `unix_socket_directories` and `port`.
    #[must_use]
    pub fn new(directory: &std::path::Path, port: u16) -> Self {
        Self { path: directory.join(format!(".s.PGSQL.{port}")) }
    }

    /// The path of the socket.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When nobody listens there, or may.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(&self.path).await
    }

    /// Cancels the query of the session that `key` names, and waits until Postgres has done so. Postgres closes the
    /// connection when the signal is sent; who closes earlier may see the cancel hit the session's next query.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn cancel(&self, key: &CancelKey) -> io::Result<()> {
        let mut stream = self.connect().await?;
        packets::write(&mut stream, &key.request()).await?;
        // Postgres never answers a cancel request; whatever comes ends the wait.
        let mut rest = [0; 1];
        stream.read(&mut rest).await.map(drop)
    }
}
