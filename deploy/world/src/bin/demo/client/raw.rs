//! Bare bytes at the gateway's public port, and what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use postern_world::report::words;

/// How long the far end may take to answer or close.
const DEADLINE: Duration = Duration::from_secs(15);

/// SSLRequest, by which a Postgres client asks for TLS.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// GSSENCRequest, by which a Postgres client asks for Kerberos encryption.
pub(crate) const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// Sends bytes all at once and reads until the far end closes.
pub(crate) async fn send(to: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(to).await.map_err(words)?;
    stream.write_all(bytes).await.map_err(words)?;
    read_to_end(&mut stream).await
}

/// Reads until the far end closes. A reset counts as a close: what came before it was read.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> Result<Vec<u8>, String> {
    let mut answer = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
    };
    tokio::time::timeout(DEADLINE, read).await.map_err(|_| format!("not closed within {DEADLINE:?}"))?;
    Ok(answer)
}

/// What a refusal says: the TLS alert, or the fields of the Postgres error.
pub(crate) fn describe(answer: &[u8]) -> String {
    match answer {
        [] => "closed without a byte".to_owned(),
        [b'S', rest @ ..] if !rest.is_empty() => describe(rest),
        [21, 3, 3, 0, 2, 2, alert] => format!("alert {}", alert_name(*alert)),
        [22, ..] => "a TLS handshake".to_owned(),
        [b'E', _, _, _, _, fields @ ..] => {
            let fields = fields.split(|byte| *byte == 0).filter(|field| matches!(field.first(), Some(b'C' | b'M')));
            let texts = fields.filter_map(|field| field.get(1..)).map(String::from_utf8_lossy);
            texts.collect::<Vec<_>>().join(" ")
        }
        other => format!("{} bytes that are neither TLS nor Postgres", other.len()),
    }
}

/// The names of RFC 8446 section 6 for the alerts that the gateway sends.
fn alert_name(alert: u8) -> String {
    let name = match alert {
        40 => "handshake_failure",
        47 => "illegal_parameter",
        49 => "access_denied",
        50 => "decode_error",
        80 => "internal_error",
        109 => "missing_extension",
        112 => "unrecognized_name",
        other => return other.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_put_into_words() {
        assert_eq!(describe(&[]), "closed without a byte");
        assert_eq!(describe(&[21, 3, 3, 0, 2, 2, 112]), "alert unrecognized_name");
        assert_eq!(describe(&[b'S', 21, 3, 3, 0, 2, 2, 49]), "alert access_denied");
        assert_eq!(describe(b"E\0\0\0\x20SFATAL\0C28000\0MTLS required\0\0"), "28000 TLS required");
    }
}
