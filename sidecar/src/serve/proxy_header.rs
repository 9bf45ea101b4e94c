//! The PROXY header with which a gateway introduces a connection: version 2, or the line of version 1 of an edge that speaks
//! no other, as nginx does.
//! Source: "The PROXY protocol", HAProxy Technologies, sections 2.1 and 2.2.

use std::io;
use std::net::SocketAddr;

use ppp::{v1, v2};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest header that is read. Ours have about 80 bytes and a host name.
const MAX_HEADER: usize = 1_024;
/// Prefix, version and command, family and protocol, length.
const FIXED: usize = 16;
/// What a line of version 1 begins with.
const LINE: &[u8] = b"PROXY ";
/// Longest line of version 1, with its end (section 2.1).
const MAX_LINE: usize = 107;
/// TLV with the gateway's name for the connection, letters and digits.
const CONNECTION_ID: u8 = 0xe0;
/// TLV that says that the gateway has answered the client's SSLRequest.
const POSTGRES_NEGOTIATED: u8 = 0xe1;
/// TLV with the host name that the client asked for (`PP2_TYPE_AUTHORITY`).
const AUTHORITY: u8 = 0x02;

/// What the gateway says about a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client's address as the gateway saw it.
    pub client: Option<SocketAddr>,
    /// The gateway's name for the connection.
    pub connection: Option<String>,
    /// The client opened with SSLRequest, so that it need not offer ALPN.
    pub postgres_negotiated: bool,
    /// The host name that the client asked for.
    pub host: Option<String>,
}

/// Why a connection is not introduced.
#[derive(Debug, Error)]
pub enum ProxyHeaderError {
    /// The bytes are no PROXY header.
    #[error("not a PROXY header: {0}")]
    Malformed(v2::ParseError),
    /// They begin as version 1 does, and do not go on so.
    #[error("not a PROXY header of version 1")]
    MalformedLine,
    /// The header is longer than anything a gateway sends.
    #[error("a PROXY header of {0} bytes")]
    TooLong(usize),
    /// The stream ended or failed.
    #[error("no PROXY header: {0}")]
    Io(#[from] io::Error),
}

/// Reads the header and not a byte more.
///
/// # Errors
/// See [`ProxyHeaderError`].
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<ProxyHeader, ProxyHeaderError> {
    let mut bytes = vec![0; FIXED];
    stream.read_exact(&mut bytes).await?;
    if bytes.starts_with(LINE) {
        return read_line(stream, bytes).await;
    }
    let rest = match v2::Header::try_from(bytes.as_slice()) {
        Ok(_) => 0,
        Err(v2::ParseError::Partial(_, needed)) => needed,
        Err(error) => return Err(ProxyHeaderError::Malformed(error)),
    };
    if FIXED + rest > MAX_HEADER {
        return Err(ProxyHeaderError::TooLong(FIXED + rest));
    }
    bytes.resize(FIXED + rest, 0);
    stream.read_exact(bytes.get_mut(FIXED..).unwrap_or_default()).await?;
    let header = v2::Header::try_from(bytes.as_slice()).map_err(ProxyHeaderError::Malformed)?;
    interpret(&header)
}

/// Reads the rest of a line. It says who the client is, and nothing else.
async fn read_line<S: AsyncRead + Unpin>(stream: &mut S, mut line: Vec<u8>) -> Result<ProxyHeader, ProxyHeaderError> {
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE {
            return Err(ProxyHeaderError::TooLong(line.len()));
        }
        line.push(stream.read_u8().await?);
    }
    let header = v1::Header::try_from(line.as_slice()).map_err(|_| ProxyHeaderError::MalformedLine)?;
    // Whoever says less than what was read at once (`PROXY UNKNOWN`) has said something else behind it.
    if header.header.len() != line.len() {
        return Err(ProxyHeaderError::MalformedLine);
    }
    let client = match header.addresses {
        v1::Addresses::Tcp4(pair) => Some(SocketAddr::from((pair.source_address, pair.source_port))),
        v1::Addresses::Tcp6(pair) => Some(SocketAddr::from((pair.source_address, pair.source_port))),
        v1::Addresses::Unknown => None,
    };
    Ok(ProxyHeader { client, ..ProxyHeader::default() })
}

fn interpret(header: &v2::Header<'_>) -> Result<ProxyHeader, ProxyHeaderError> {
    let mut read = ProxyHeader { client: client(header.addresses), ..ProxyHeader::default() };
    for tlv in header.tlvs() {
        let tlv = tlv.map_err(ProxyHeaderError::Malformed)?;
        match tlv.kind {
            CONNECTION_ID => read.connection = name(&tlv.value),
            POSTGRES_NEGOTIATED => read.postgres_negotiated = tlv.value.as_ref() == [1],
            AUTHORITY => read.host = Some(String::from_utf8_lossy(&tlv.value).into_owned()),
            _ => {}
        }
    }
    Ok(read)
}

/// A name that may stand in a log.
fn name(value: &[u8]) -> Option<String> {
    let plain = value.len() <= 64 && value.iter().all(u8::is_ascii_alphanumeric);
    plain.then(|| String::from_utf8_lossy(value).into_owned())
}

fn client(addresses: v2::Addresses) -> Option<SocketAddr> {
    match addresses {
        v2::Addresses::IPv4(pair) => Some(SocketAddr::from((pair.source_address, pair.source_port))),
        v2::Addresses::IPv6(pair) => Some(SocketAddr::from((pair.source_address, pair.source_port))),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use ppp::v2::{Builder, Command, Protocol, Version};
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::{ProxyHeader, ProxyHeaderError, read};

    fn header(tlvs: &[(u8, &[u8])]) -> Vec<u8> {
        let client: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        let server: SocketAddr = "10.0.0.1:5433".parse().unwrap();
        let builder = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, (client, server));
        tlvs.iter().fold(builder, |builder, (kind, value)| builder.write_tlv(*kind, value).unwrap()).build().unwrap()
    }

    #[tokio::test]
    async fn everything_in_the_header_is_read_and_nothing_behind_it() {
        let bytes = header(&[(0xe0, b"00ab01"), (0xe1, &[1]), (2, b"a.example"), (0xee, b"?")]);
        let bytes = [bytes.as_slice(), b"rest"].concat();
        let mut stream = bytes.as_slice();
        let expected = ProxyHeader {
            client: Some("192.0.2.7:4711".parse().unwrap()),
            connection: Some("00ab01".to_owned()),
            postgres_negotiated: true,
            host: Some("a.example".to_owned()),
        };
        assert_eq!(read(&mut stream).await.unwrap(), expected);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"rest");
    }

    #[tokio::test]
    async fn a_line_of_version_1_says_who_the_client_is_and_nothing_behind_it_is_read() {
        for client in ["192.0.2.7:4711", "[2001:db8::7]:4711"] {
            let client: SocketAddr = client.parse().unwrap();
            let (family, server) = if client.is_ipv4() { ("TCP4", "10.0.0.1") } else { ("TCP6", "2001:db8::1") };
            let bytes = format!("PROXY {family} {} {server} {} 5433\r\nrest\r\n", client.ip(), client.port());
            let mut stream = bytes.as_bytes();
            let expected = ProxyHeader { client: Some(client), ..ProxyHeader::default() };
            assert_eq!(read(&mut stream).await.unwrap(), expected);
            assert_eq!(stream, b"rest\r\n");
        }
        let mut unknown: &[u8] = b"PROXY UNKNOWN 1 2 3 4\r\nrest";
        assert_eq!(read(&mut unknown).await.unwrap(), ProxyHeader::default());
        assert_eq!(unknown, b"rest");
    }

    #[tokio::test]
    async fn other_lines_are_refused() {
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        assert!(matches!(read(&mut endless.as_slice()).await, Err(ProxyHeaderError::TooLong(107))));
        for line in [
            b"PROXY TCP4 192.0.2.7 10.0.0.1 70000 5433\r\n".as_slice(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY UNKNOWN\r\nx\r\n",
        ] {
            assert!(matches!(read(&mut &*line).await, Err(ProxyHeaderError::MalformedLine)), "{line:?}");
        }
        assert!(matches!(read(&mut b"PROXY TCP4 192.0.2.7 1".as_slice()).await, Err(ProxyHeaderError::Io(_))));
    }

    #[tokio::test]
    async fn a_name_that_could_spoil_the_log_is_left_out() {
        let bytes = header(&[(0xe0, b"a\nb")]);
        assert_eq!(read(&mut bytes.as_slice()).await.unwrap().connection, None);
    }

    #[tokio::test]
    async fn a_header_that_ends_early_is_none() {
        let bytes = header(&[(0xe1, &[1])]);
        for end in 0..bytes.len() {
            let error = read(&mut &bytes[..end]).await.unwrap_err();
            assert!(matches!(error, ProxyHeaderError::Io(_)), "{end}: {error}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let startup = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";
        assert!(matches!(read(&mut startup.as_slice()).await, Err(ProxyHeaderError::Malformed(_))));
        let long = header(&[(0xee, &[0; 2_000])]);
        assert!(matches!(read(&mut long.as_slice()).await, Err(ProxyHeaderError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn random_headers_never_panic(line: bool, tail in prop::collection::vec(any::<u8>(), 0..120)) {
            let bytes = [if line { super::LINE } else { ppp::v2::PROTOCOL_PREFIX }, &tail].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _verdict = runtime.block_on(read(&mut bytes.as_slice()));
        }
    }
}
