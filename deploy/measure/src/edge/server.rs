//! The one server behind every edge: it takes the PROXY header off, speaks TLS, and does what the client's first byte asks for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use postern_plumbing::prefixed::Prefixed;
use postern_plumbing::tasks::Tasks;
use postern_wireguard::TunnelListener;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// How much is given to TLS, or taken from it, at a time.
pub(super) const CHUNK: usize = 64 * 1024;
/// The bytes of a request, and of the response to it: those of a query for one row.
pub(super) const REQUEST: usize = 64;
pub(super) const RESPONSE: usize = 256;

/// How long a client may take until it is known what it wants.
const PATIENCE: Duration = Duration::from_secs(30);
/// The beginning of a PROXY header, version 2 (its specification, section 2.2); the last two of 16 bytes are the length of the
/// rest.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// No PROXY header here is longer than that, in bytes.
const LONGEST_HEADER: usize = 1024;

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Bytes without an end.
    Download,
    /// To be heard without an end.
    Upload,
    /// A response to each request.
    Requests,
}

impl Wish {
    const ALL: [Self; 3] = [Self::Download, Self::Upload, Self::Requests];

    /// The byte that stands for it.
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Download => b'd',
            Self::Upload => b'u',
            Self::Requests => b'r',
        }
    }
}

/// The server. Clones are the same one.
#[derive(Clone)]
pub(super) struct Server {
    acceptor: TlsAcceptor,
    tasks: Tasks,
    received: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
}

impl Server {
    pub(super) fn new(acceptor: TlsAcceptor) -> Self {
        Self { acceptor, tasks: Tasks::new(), received: Arc::default(), open: Arc::default() }
    }

    /// How many bytes all uploads have brought so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until nobody is connected any more, though not for ever; says whether that is so.
    pub(super) async fn is_left(&self) -> bool {
        let end = Instant::now() + PATIENCE;
        while self.open.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            sleep(Duration::from_millis(20)).await;
        }
        self.open.load(Ordering::Relaxed) == 0
    }

    /// Serves those who come without a tunnel of ours. Ends when the listener does.
    pub(super) async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = postern_plumbing::accept::accept(&listener).await {
            self.clone().admit(stream);
        }
    }

    /// Serves those who come through a tunnel of ours.
    pub(super) async fn serve_tunnel(self, listener: TunnelListener) {
        loop {
            let (stream, _) = listener.accept().await;
            self.clone().admit(stream);
        }
    }

    fn admit(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        self.open.fetch_add(1, Ordering::Relaxed);
        let tasks = self.tasks.clone();
        tasks.spawn("session", async move {
            // Clients break off when they have seen enough; the others notice what is wrong.
            drop(self.session(stream).await);
            self.open.fetch_sub(1, Ordering::Relaxed);
        });
    }

    async fn session(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let opening = async {
            let begun = behind_header(&mut stream).await?;
            let mut stream = self.acceptor.accept(Prefixed::new(begun.freeze(), stream)).await?;
            let wish = stream.read_u8().await?;
            Ok::<_, io::Error>((stream, wish))
        };
        let (mut stream, wish) = timeout(PATIENCE, opening).await??;
        let wish = Wish::ALL.into_iter().find(|known| known.byte() == wish).ok_or(io::ErrorKind::InvalidData)?;
        match wish {
            Wish::Download => loop {
                stream.write_all(&[0; CHUNK]).await?;
            },
            Wish::Upload => self.hear(&mut stream).await,
            Wish::Requests => respond(&mut stream).await,
        }
    }

    async fn hear(&self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                count => self.received.fetch_add(count as u64, Ordering::Relaxed),
            };
        }
    }
}

async fn respond(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let mut request = [0; REQUEST];
    loop {
        match stream.read_exact(&mut request).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return stream.shutdown().await,
            read => read?,
        };
        stream.write_all(&[0; RESPONSE]).await?;
        stream.flush().await?;
    }
}

/// Reads a PROXY header and gives what came behind it.
async fn behind_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<BytesMut> {
    let mut received = BytesMut::with_capacity(4096);
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(length) = header_length(&received)? {
            return Ok(received.split_off(length));
        }
    }
}

/// How long the PROXY header is with which some bytes begin; none while more has to come.
fn header_length(received: &[u8]) -> io::Result<Option<usize>> {
    let length = if received.starts_with(b"PROXY ") {
        // Version 1 is a line.
        received.iter().position(|byte| *byte == b'\n').map(|end| end + 1)
    } else if let Some([.., high, low]) = received.get(..16).filter(|header| header.starts_with(SIGNATURE)) {
        Some(16 + usize::from(u16::from_be_bytes([*high, *low])))
    } else if received.len() >= 16 {
        return Err(io::ErrorKind::InvalidData.into());
    } else {
        None
    };
    if length.unwrap_or(received.len()) > LONGEST_HEADER {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(length.filter(|length| received.len() >= *length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_the_header_are_taken_off_wherever_they_are_cut() {
        let one = b"PROXY TCP4 192.0.2.2 192.0.2.1 40000 5432\r\n".to_vec();
        let two = [SIGNATURE.as_slice(), &[0x21, 0x11, 0, 12], &[7; 12]].concat();
        for header in [one, two] {
            let mut all = header.clone();
            all.extend_from_slice(b"\x16\x03\x01");
            for cut in 0..header.len() {
                assert_eq!(header_length(&all[..cut]).unwrap(), None, "{cut}");
            }
            assert_eq!(header_length(&all).unwrap(), Some(header.len()));
        }
    }

    #[test]
    fn what_begins_with_something_else_is_refused() {
        assert!(header_length(&[0x16; 16]).is_err());
        assert!(header_length(&[b"PROXY ".as_slice(), &[b'x'; LONGEST_HEADER]].concat()).is_err());
    }
}
