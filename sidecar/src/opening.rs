//! What a Postgres client wants when no encryption is on offer: inside TLS, or on the local socket of connect mode.

use bytes::BytesMut;
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::opening::Opening;
use postern_pgwire::startup::Startup;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::packets::{self, ReadError};

/// What the client asks for in the end.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// A session.
    Startup(Startup),
    /// The end of another session's query.
    Cancel(CancelKey),
}

/// Why there is no request.
#[derive(Debug, Error)]
pub enum RequestError {
    /// Nothing readable came.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A request for encryption was repeated, or TLS was begun where none was agreed on.
    #[error("the client asked for encryption again")]
    Encryption,
    /// Bytes behind a request for encryption, sent before the answer.
    #[error("bytes were sent behind a request for encryption")]
    EarlyBytes,
}

/// Reads the client's request; SSLRequest and GSSENCRequest are answered with `N`, each once.
///
/// # Errors
/// See [`RequestError`].
pub async fn request<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    buf: &mut BytesMut,
) -> Result<Request, RequestError> {
    let (mut ssl, mut gss) = (false, false);
    loop {
        let seen = match packets::opening(stream, buf).await? {
            Opening::Startup(startup) => return Ok(Request::Startup(startup)),
            Opening::Cancel(key) => return Ok(Request::Cancel(key)),
            Opening::Tls => return Err(RequestError::Encryption),
            Opening::SslRequest => &mut ssl,
            Opening::GssEncRequest => &mut gss,
        };
        if std::mem::replace(seen, true) {
            return Err(RequestError::Encryption);
        }
        if !buf.is_empty() {
            return Err(RequestError::EarlyBytes);
        }
        packets::write(stream, b"N").await.map_err(ReadError::Io)?;
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postern_pgwire::cancel::CancelKey;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::{Request, RequestError, request};

    const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    const GSS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

    async fn answered(far: &mut DuplexStream, packet: &[u8]) {
        far.write_all(packet).await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'N');
    }

    #[tokio::test]
    async fn encryption_is_declined_and_the_session_goes_on() {
        let (mut near, mut far) = tokio::io::duplex(100);
        let client = async {
            answered(&mut far, &GSS).await;
            answered(&mut far, &SSL).await;
            far.write_all(b"\0\0\0\x10\0\x03\0\0user\0a\0\0more").await.unwrap();
        };
        let mut buf = BytesMut::new();
        let ((), wanted) = tokio::join!(client, request(&mut near, &mut buf));
        let Request::Startup(startup) = wanted.unwrap() else { panic!("no startup") };
        assert_eq!(startup.user(), b"a");
        assert_eq!(&buf[..], b"more");
    }

    #[tokio::test]
    async fn cancel_is_a_request_too() {
        let (mut near, mut far) = tokio::io::duplex(100);
        let key = CancelKey::new(9, &[5; 32]).unwrap();
        far.write_all(&key.request()).await.unwrap();
        assert_eq!(request(&mut near, &mut BytesMut::new()).await.unwrap(), Request::Cancel(key));
    }

    #[tokio::test]
    async fn repeated_and_glued_requests_are_refused() {
        for (packets, early) in [
            ([SSL.as_slice(), b"x"].concat(), true),
            ([GSS.as_slice(), &SSL].concat(), true),
            (vec![0x16, 3, 1], false),
        ] {
            let (mut near, mut far) = tokio::io::duplex(100);
            far.write_all(&packets).await.unwrap();
            let error = request(&mut near, &mut BytesMut::new()).await.unwrap_err();
            assert_eq!(matches!(error, RequestError::EarlyBytes), early, "{error}");
            assert_eq!(matches!(error, RequestError::Encryption), !early, "{error}");
        }
        let (mut near, mut far) = tokio::io::duplex(100);
        let client = async {
            answered(&mut far, &SSL).await;
            far.write_all(&SSL).await.unwrap();
        };
        let ((), refused) = tokio::join!(client, async { request(&mut near, &mut BytesMut::new()).await });
        assert!(matches!(refused, Err(RequestError::Encryption)));
    }
}
