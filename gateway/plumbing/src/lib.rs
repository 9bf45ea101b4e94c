//! What every program here needs and no product noun belongs to: configuration, secrets, named tasks, shutdown,
//! telemetry, listeners, relays and a small HTTP client.
//!
//! Wall time is read in [`clock`] and tasks are spawned in [`tasks`], and nowhere else in the workspace.

pub mod accept;
pub mod admin;
pub mod backoff;
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod dial;
pub mod exit;
pub mod http;
pub mod memory;
pub mod net;
pub mod prefixed;
pub mod relay;
pub mod schedule;
pub mod secret;
pub mod seldom;
pub mod shutdown;
pub mod sparing;
pub mod tasks;
pub mod telemetry;

use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream that a task can own: a socket, a TLS session, a tunnel stream, or half of an in-memory pipe.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for S {}
