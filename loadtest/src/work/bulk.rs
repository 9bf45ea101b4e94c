//! A COPY into a table of the session's own, or out of a query; each moves the same number of bytes.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, pin_mut};
use tokio_postgres::Error;

use super::{Choices, Outcome, Piece, reason, simple};
use crate::client::Session;
use crate::scenario::Work;

/// The length of one row as COPY writes it, with its newline.
const LINE: u64 = 1024;
/// How many rows are handed over at a time.
const AT_ONCE: u64 = 64;

/// The rows go with the transaction: nothing piles up on the disk.
pub(super) async fn make_table(session: &Session) -> Result<(), Error> {
    simple(session, "CREATE TEMPORARY TABLE loadtest_bulk (line text) ON COMMIT DELETE ROWS").await
}

pub(super) async fn perform(work: &Work, session: &Session, piece: Piece) -> Outcome {
    let lines = work.bytes.div_ceil(LINE).max(1);
    let inward = Choices(piece.salt).next().is_multiple_of(2);
    let copied = if inward { copy_in(session, lines).await } else { copy_out(session, lines).await };
    match copied {
        Ok(bytes) => Outcome { failed: None, write: None, bytes },
        Err(error) => Outcome { failed: Some(reason(&error)), write: None, bytes: 0 },
    }
}

async fn copy_in(session: &Session, lines: u64) -> Result<u64, Error> {
    let mut line = vec![b'x'; usize::try_from(LINE - 1).unwrap_or_default()];
    line.push(b'\n');
    let many = Bytes::from(line.repeat(usize::try_from(AT_ONCE).unwrap_or(1)));
    let sink = session.client().copy_in("COPY loadtest_bulk FROM STDIN").await?;
    pin_mut!(sink);
    let mut left = lines;
    while left > 0 {
        let now = left.min(AT_ONCE);
        let part = usize::try_from(now * LINE).unwrap_or(many.len()).min(many.len());
        sink.send(many.slice(..part)).await?;
        left -= now;
    }
    sink.finish().await?;
    Ok(lines * LINE)
}

async fn copy_out(session: &Session, lines: u64) -> Result<u64, Error> {
    let query = format!("COPY (SELECT repeat('x', {}) FROM generate_series(1, {lines})) TO STDOUT", LINE - 1);
    let stream = session.client().copy_out(query.as_str()).await?;
    pin_mut!(stream);
    let mut bytes = 0;
    while let Some(part) = stream.next().await {
        bytes += u64::try_from(part?.len()).unwrap_or(u64::MAX);
    }
    Ok(bytes)
}
