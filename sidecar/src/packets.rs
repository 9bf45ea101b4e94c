//! Reading and refusing in the Postgres protocol, over any stream.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use postern_pgwire::frame::{self, FrameError, Message};
use postern_pgwire::opening::{self, Opening, OpeningError};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How much is asked of the stream at a time before a session is established.
const CHUNK: usize = 2_048;
/// How long a refused peer may take to read its refusal.
const LINGER: Duration = Duration::from_secs(1);
/// How long a peer may take to be told that the stream ends.
const CLOSE: Duration = Duration::from_millis(100);
/// How much a refused peer may still have sent: more than a driver sends before it listens.
const LINGER_BYTES: u64 = 4 << 20;

/// Why no packet could be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The peer closed before it sent a byte of it.
    #[error("closed by the peer")]
    Closed,
    /// The peer closed in the middle of it.
    #[error("closed by the peer in the middle of a packet")]
    Truncated,
    /// The bytes are no opening packet.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// The bytes are no message, or a longer one than expected.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads one opening. Bytes behind it stay in `buf`; of TLS nothing is taken.
///
/// # Errors
/// See [`ReadError`].
pub async fn opening<S: AsyncRead + Unpin>(stream: &mut S, buf: &mut BytesMut) -> Result<Opening, ReadError> {
    loop {
        if let Some((opening, consumed)) = opening::parse(buf)? {
            buf.advance(consumed);
            return Ok(opening);
        }
        more(stream, buf).await?;
    }
}

/// Reads one message of at most `cap` bytes. Bytes behind it stay in `buf`.
///
/// # Errors
/// See [`ReadError`].
pub async fn message<S: AsyncRead + Unpin>(
    stream: &mut S,
    buf: &mut BytesMut,
    cap: usize,
) -> Result<Message, ReadError> {
    loop {
        if let Some(message) = frame::split(buf, cap)? {
            return Ok(message);
        }
        more(stream, buf).await?;
    }
}

async fn more<S: AsyncRead + Unpin>(stream: &mut S, buf: &mut BytesMut) -> Result<(), ReadError> {
    buf.reserve(CHUNK);
    match (stream.read_buf(buf).await?, buf.is_empty()) {
        (0, true) => Err(ReadError::Closed),
        (0, false) => Err(ReadError::Truncated),
        _ => Ok(()),
    }
}

/// Writes and flushes.
///
/// # Errors
/// When the stream fails.
pub async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Ends a stream in order: over TLS, the peer can tell this from a connection that was cut.
pub async fn close<S: AsyncWrite + Unpin>(stream: &mut S) {
    if let Ok(Err(error)) = tokio::time::timeout(CLOSE, stream.shutdown()).await {
        tracing::trace!(%error, "the peer was gone");
    }
}

/// Tells the peer why it is refused, if there is something to tell, and closes. Reads on for a moment: closing a socket
/// with unread bytes in it would reset the connection and take the refusal with it.
pub async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, response: Option<&[u8]>) {
    let farewell = async {
        if let Some(response) = response {
            write(stream, response).await?;
        }
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER, farewell).await {
        tracing::trace!(%error, "the refused peer was gone");
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postern_pgwire::error_response::ErrorResponse;
    use postern_pgwire::opening::Opening;
    use postern_pgwire::sqlstate::SqlState;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{ReadError, message, opening, refuse};

    const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

    #[tokio::test]
    async fn packets_arrive_byte_by_byte() {
        let (mut near, mut far) = tokio::io::duplex(1);
        let write = async {
            far.write_all(&SSL).await.unwrap();
            far.write_all(b"p\0\0\0\x05\0resti").await.unwrap();
            drop(far);
        };
        let read = async {
            let mut buf = BytesMut::new();
            assert_eq!(opening(&mut near, &mut buf).await.unwrap(), Opening::SslRequest);
            assert_eq!(message(&mut near, &mut buf, 100).await.unwrap().tag(), b'p');
            assert!(matches!(message(&mut near, &mut buf, 100).await, Err(ReadError::Frame(_))));
        };
        tokio::join!(write, read);
    }

    #[tokio::test]
    async fn an_end_before_and_within_a_packet_differ() {
        for sent in 0..SSL.len() {
            let (mut near, mut far) = tokio::io::duplex(100);
            far.write_all(&SSL[..sent]).await.unwrap();
            drop(far);
            let error = opening(&mut near, &mut BytesMut::new()).await.unwrap_err();
            assert_eq!(matches!(error, ReadError::Closed), sent == 0, "{sent} {error}");
            assert_eq!(matches!(error, ReadError::Truncated), sent != 0, "{sent} {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_reaches_a_peer_that_goes_on_sending_and_never_closes() {
        let (mut near, mut far) = tokio::io::duplex(16);
        let response = ErrorResponse::fatal(SqlState::INVALID_AUTHORIZATION, "no").encode();
        let read = async {
            far.write_all(b"unread").await.unwrap();
            let mut said = Vec::new();
            far.read_to_end(&mut said).await.unwrap();
            said
        };
        let ((), said) = tokio::join!(refuse(&mut near, Some(&response)), read);
        assert_eq!(said, response);
    }
}
