//! The beginning of a connection, in plaintext: on the way to TLS, or to a cancel.

use bytes::BytesMut;
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::opening::Opening;
use tokio::io::{AsyncRead, AsyncWrite};

use super::refusal::Refusal;
use crate::opening::RequestError;
use crate::packets::{self, ReadError};

/// What the connection becomes.
#[derive(Debug, PartialEq, Eq)]
pub enum Preamble {
    /// TLS follows; its first bytes are in the buffer. `negotiated`: the client asked for it with SSLRequest.
    Tls {
        /// Whether the client asked for it with SSLRequest.
        negotiated: bool,
    },
    /// A cancel request.
    Cancel(CancelKey),
}

/// Answers SSLRequest with `S` and GSSENCRequest with `N`, each once and only when nothing was sent behind it.
///
/// # Errors
/// A [`Refusal`] that can be told in plaintext.
pub async fn preamble<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    buf: &mut BytesMut,
) -> Result<Preamble, Refusal> {
    let (mut ssl, mut gss) = (false, false);
    loop {
        let opening = packets::opening(stream, buf).await.map_err(RequestError::Read)?;
        let (seen, answer) = match opening {
            Opening::Tls => return Ok(Preamble::Tls { negotiated: ssl }),
            // After `S` the only thing that may follow is TLS.
            _ if ssl => return Err(RequestError::Encryption.into()),
            Opening::Cancel(key) => return Ok(Preamble::Cancel(key)),
            Opening::Startup(_) => return Err(Refusal::Plaintext),
            Opening::SslRequest => (&mut ssl, b"S"),
            Opening::GssEncRequest => (&mut gss, b"N"),
        };
        if std::mem::replace(seen, true) {
            return Err(RequestError::Encryption.into());
        }
        if !buf.is_empty() {
            return Err(RequestError::EarlyBytes.into());
        }
        packets::write(stream, answer).await.map_err(ReadError::Io).map_err(RequestError::Read)?;
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postern_pgwire::cancel::CancelKey;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{Preamble, preamble};

    const SSL: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
    const GSS: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 48];
    const HELLO: &[u8] = &[0x16, 3, 1];
    const STARTUP: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";

    type Said<'a> = &'a [(&'a [u8], &'a str)];

    /// Sends packets one by one, waiting for the wanted answer to each; returns the verdict and the unread bytes.
    async fn play(packets: Said<'_>) -> (Result<Preamble, &'static str>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(1_000);
        let client = async {
            for (packet, answer) in packets {
                far.write_all(packet).await.unwrap();
                let mut said = vec![0; answer.len()];
                far.read_exact(&mut said).await.unwrap();
                assert_eq!(said, answer.as_bytes());
            }
            far.shutdown().await.unwrap();
        };
        let mut buf = BytesMut::new();
        let ((), verdict) = tokio::join!(client, async {
            let verdict = preamble(&mut near, &mut buf).await;
            drop(near);
            verdict
        });
        (verdict.map_err(|refusal| refusal.label()), buf.to_vec())
    }

    #[tokio::test]
    async fn tls_is_reached_in_every_way_that_clients_take() {
        let (verdict, rest) = play(&[(HELLO, "")]).await;
        assert_eq!((verdict, rest.as_slice()), (Ok(Preamble::Tls { negotiated: false }), HELLO));
        let (verdict, rest) = play(&[(SSL, "S"), (HELLO, "")]).await;
        assert_eq!((verdict, rest.as_slice()), (Ok(Preamble::Tls { negotiated: true }), HELLO));
        let (verdict, _) = play(&[(GSS, "N"), (SSL, "S"), (HELLO, "")]).await;
        assert_eq!(verdict, Ok(Preamble::Tls { negotiated: true }));
        let (verdict, _) = play(&[(GSS, "N"), (HELLO, "")]).await;
        assert_eq!(verdict, Ok(Preamble::Tls { negotiated: false }));
    }

    #[tokio::test]
    async fn cancel_needs_no_tls() {
        let key = CancelKey::new(5, &[1; 4]).unwrap();
        let (verdict, _) = play(&[(GSS, "N"), (&key.request(), "")]).await;
        assert_eq!(verdict, Ok(Preamble::Cancel(key)));
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        let cases: [(Said<'_>, &str); 9] = [
            (&[], "closed"),
            (&[(b"GET / HTTP/1.1\r\n\r\n", "")], "opening"),
            (&[(&SSL[..5], "")], "opening"),
            (&[(STARTUP, "")], "plaintext"),
            (&[(GSS, "N"), (STARTUP, "")], "plaintext"),
            (&[(SSL, "S"), (STARTUP, "")], "encryption_repeated"),
            (&[(SSL, "S"), (SSL, "")], "encryption_repeated"),
            (&[(GSS, "N"), (GSS, "")], "encryption_repeated"),
            (&[(&[SSL, HELLO].concat(), "")], "early_bytes"),
        ];
        for (packets, label) in cases {
            assert_eq!(play(packets).await.0, Err(label), "{packets:?}");
        }
    }
}
