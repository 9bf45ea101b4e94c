//! The SQLSTATE codes that Postern itself sends. Source: PostgreSQL documentation, appendix "PostgreSQL Error Codes".

use std::fmt;

/// Five characters that tell a driver what kind of error it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlState(&'static str);

impl SqlState {
    /// The client could not establish a connection.
    pub const UNABLE_TO_CONNECT: Self = Self("08001");
    /// The server rejected the establishment of the connection.
    pub const CONNECTION_REJECTED: Self = Self("08004");
    /// The connection failed.
    pub const CONNECTION_FAILURE: Self = Self("08006");
    /// The peer broke the protocol.
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    /// The feature is not supported.
    pub const NOT_SUPPORTED: Self = Self("0A000");
    /// Invalid authorization: the peer may not connect as what it claims to be.
    pub const INVALID_AUTHORIZATION: Self = Self("28000");
    /// Invalid password.
    pub const INVALID_PASSWORD: Self = Self("28P01");
    /// Too many connections.
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    /// The query was canceled.
    pub const QUERY_CANCELED: Self = Self("57014");
    /// The server is shutting down.
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    /// The server cannot be reached now or is starting.
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");

    /// The five characters.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
