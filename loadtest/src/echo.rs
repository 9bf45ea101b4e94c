//! A server that gives the same answer to everything, so that what is measured is the generator.
//!
//! It speaks as much of Postgres' protocol 3.0 as a driver needs for `SELECT 1`, prepared or not, and asks for no password. Its
//! work is done where the clients' is: a thread of its own would take processors from the generator for as long as the kernel
//! lets one run beside others, which on two of them is longer than what is to be measured.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use postern_plumbing::tasks::{Task, Tasks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The longest message that it reads, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// AuthenticationOk, and ReadyForQuery outside of a transaction.
const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
/// No parameters, and one column of type int4 (oid 23), in binary form.
const DESCRIPTION: &[u8] = b"t\0\0\0\x06\0\0T\0\0\0\x1a\0\x01x\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01";
/// One row that holds 1, and the end of the statement.
const ROW: &[u8] = b"D\0\0\0\x0e\0\x01\0\0\0\x04\0\0\0\x01C\0\0\0\x0dSELECT 1\0";
/// The same for a query that was not prepared: a column in text form.
const SIMPLE: &[u8] =
    b"T\0\0\0\x1a\0\x01x\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0";
const READY: &[u8] = b"Z\0\0\0\x05I";

/// A running server. It ends with this value.
#[derive(Debug)]
pub(crate) struct Echo {
    address: SocketAddr,
    _serving: Task<()>,
}

impl Echo {
    /// Starts it. Must be called within a runtime.
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let serving = async move { drop(accept(listener).await) };
        Ok(Self { address, _serving: Task::spawn("echo", serving) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    let connections = Tasks::new();
    loop {
        let (stream, _) = listener.accept().await?;
        // How a connection ends is for the client to tell.
        connections.spawn("echo", async move { drop(serve(stream).await) });
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let startup = stream.read_u32().await?;
    skip(&mut stream, startup).await?;
    stream.write_all(GREETING).await?;
    let (mut input, mut output) = (Vec::with_capacity(MAX_MESSAGE), Vec::new());
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let mut read = 0;
        while let Some((tag, length)) = next(input.get(read..).unwrap_or_default())? {
            read += length;
            match tag {
                b'P' => output.extend_from_slice(PARSE_COMPLETE),
                b'D' => output.extend_from_slice(DESCRIPTION),
                b'B' => output.extend_from_slice(BIND_COMPLETE),
                b'E' => output.extend_from_slice(ROW),
                b'C' => output.extend_from_slice(CLOSE_COMPLETE),
                b'S' => output.extend_from_slice(READY),
                b'Q' => {
                    output.extend_from_slice(SIMPLE);
                    output.extend_from_slice(READY);
                }
                b'X' => return Ok(()),
                _ => {}
            }
        }
        input.drain(..read);
        stream.write_all(&output).await?;
        output.clear();
    }
}

/// The tag and the length of the first message of some bytes; nothing while it is not complete.
fn next(bytes: &[u8]) -> io::Result<Option<(u8, usize)>> {
    let [tag, a, b, c, d, ..] = *bytes else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if !(4..MAX_MESSAGE).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((bytes.len() > length).then_some((tag, length + 1)))
}

async fn skip(stream: &mut TcpStream, length: u32) -> io::Result<()> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(8..MAX_MESSAGE).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut rest = vec![0; length - 4];
    stream.read_exact(&mut rest).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::{Door, Login};

    fn door(address: SocketAddr) -> Door {
        let login = Login { user: "u".into(), secret: String::new(), database: "d".into() };
        Door { tenant: "echo".into(), address, source: None, attested: None, login }
    }

    #[tokio::test]
    async fn a_driver_takes_it_for_postgres() {
        let echo = Echo::start().await.unwrap();
        let session = door(echo.address()).open(Duration::from_secs(20)).await.unwrap();
        let statement = session.client().prepare("SELECT 1").await.unwrap();
        let row = session.client().query_one(&statement, &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 1);
        assert_eq!(session.client().simple_query("SELECT 1").await.unwrap().len(), 3);
        session.close().await;
    }

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(next(b"S\0\0\0\x04S\0").unwrap(), Some((b'S', 5)));
        assert_eq!(next(b"S\0\0\0").unwrap(), None);
        assert_eq!(next(b"Q\0\0\0\x08SEL").unwrap(), None);
        next(b"Q\xff\xff\xff\xff").unwrap_err();
        next(b"Q\0\0\0\x03").unwrap_err();
    }
}
