//! Follows a session that is relayed unread, by the heads of its messages alone, so that it is known when the session has come
//! to rest: then Postgres owes the client nothing, waits for a query, and could serve another client.
//!
//! Three of the client's messages are answered with ReadyForQuery: Query, Sync and FunctionCall. A session rests when Postgres
//! has given that answer as often as it was asked for, the last time outside a transaction, and when the client has sent nothing
//! since. Where Postgres drops one of them, as it does with Sync during a COPY and with everything between an error and the next
//! Sync, an answer stays owed and the session never rests again. That is the safe side, and no driver that reads what it is told
//! gets there.
//! Source: PostgreSQL documentation, "Frontend/Backend Protocol", section "Message Flow".

mod reported;

use bytes::BytesMut;

pub use self::reported::Reported;

/// Tag and length.
const HEAD: usize = 5;
/// Terminate, which is all head.
const TERMINATE: &[u8; HEAD] = b"X\0\0\0\x04";
/// The longest message that is looked into, which is a ParameterStatus.
const MAX_LOOKED_INTO: usize = 4_096;
/// What ReadyForQuery says outside a transaction.
const IDLE: u8 = b'I';

/// Follows one session from its first ReadyForQuery.
#[derive(Debug)]
pub struct Tracker {
    client: Position,
    postgres: Position,
    /// How many more times Postgres has to say that it is ready.
    owed: u64,
    /// Whether the client has sent more than Postgres has to answer with ReadyForQuery.
    unanswered: bool,
    /// Whether Postgres said last that no transaction is open.
    idle: bool,
    /// Whether something was seen that makes everything else uncertain, for good.
    lost: bool,
    /// The beginning of a message of Postgres that is looked into.
    message: BytesMut,
    reported: Reported,
}

/// Where a direction is in its messages.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    head: [u8; HEAD],
    /// How much of the head is there.
    filled: usize,
    /// How much of the body is to come.
    rest: usize,
}

/// What is next in a direction.
enum Part<'a> {
    /// A whole head; without the length of the body if it is an impossible one.
    Head(u8, Option<usize>),
    /// Bytes of the body.
    Body(&'a [u8]),
}

impl Tracker {
    /// A session whose first ReadyForQuery has been read, and what Postgres had reported until then.
    #[must_use]
    pub fn new(reported: Reported) -> Self {
        Self {
            client: Position::default(),
            postgres: Position::default(),
            owed: 0,
            unanswered: false,
            idle: true,
            lost: false,
            message: BytesMut::new(),
            reported,
        }
    }

    /// Takes note of bytes from the client that Postgres has been given.
    pub fn sent(&mut self, mut bytes: &[u8]) {
        while let Some(part) = self.client.step(&mut bytes) {
            match part {
                Part::Head(b'Q' | b'S' | b'F', Some(_)) => {
                    self.owed += 1;
                    self.unanswered = false;
                }
                Part::Head(b'X', _) | Part::Head(_, None) => self.lost = true,
                Part::Head(_, Some(_)) => self.unanswered = true,
                Part::Body(_) => {}
            }
        }
    }

    /// Takes note of bytes from Postgres.
    pub fn received(&mut self, mut bytes: &[u8]) {
        while let Some(part) = self.postgres.step(&mut bytes) {
            match part {
                Part::Head(_, None) => self.lost = true,
                Part::Head(b'Z' | b'S', Some(length)) if length > MAX_LOOKED_INTO - HEAD => self.lost = true,
                Part::Head(b'Z' | b'S', Some(_)) => self.message.extend_from_slice(&self.postgres.head),
                Part::Body(body) if !self.message.is_empty() => self.message.extend_from_slice(body),
                Part::Head(..) | Part::Body(_) => {}
            }
            if !self.message.is_empty() && self.postgres.is_between() {
                self.looked_into();
            }
        }
    }

    /// A ReadyForQuery or a ParameterStatus is whole.
    fn looked_into(&mut self) {
        match self.message.split_first_chunk::<HEAD>() {
            Some(([b'Z', ..], [status])) if self.owed > 0 => {
                self.owed -= 1;
                self.idle = *status == IDLE;
            }
            Some(([b'S', ..], _)) if self.reported.note(&self.message) => {}
            _ => self.lost = true,
        }
        // A new buffer, not a cleared one: the memory goes back.
        self.message = BytesMut::new();
    }

    /// Where the client's Terminate begins in bytes that Postgres has not been given, if they end with one.
    #[must_use]
    pub fn farewell(&self, bytes: &[u8]) -> Option<usize> {
        if !bytes.ends_with(TERMINATE) {
            return None;
        }
        let (mut position, mut rest) = (self.client, bytes);
        while !(position.is_between() && rest == TERMINATE) {
            position.step(&mut rest)?;
        }
        Some(bytes.len() - HEAD)
    }

    /// Whether the session rests.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let between = self.client.is_between() && self.postgres.is_between();
        between && self.owed == 0 && !self.unanswered && self.idle && !self.lost
    }

    /// What Postgres has reported.
    #[must_use]
    pub fn into_reported(self) -> Reported {
        self.reported
    }
}

impl Position {
    /// Whether no message has begun that has not ended.
    fn is_between(&self) -> bool {
        self.filled == 0 && self.rest == 0
    }

    /// Takes the next part off the front of `bytes`; `None` when they are used up.
    fn step<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        if self.rest > 0 {
            let (body, behind) = bytes.split_at_checked(self.rest).unwrap_or((bytes, &[]));
            self.rest -= body.len();
            *bytes = behind;
            return (!body.is_empty()).then_some(Part::Body(body));
        }
        while let Some(place) = self.head.get_mut(self.filled) {
            let (byte, behind) = bytes.split_first()?;
            *place = *byte;
            self.filled += 1;
            *bytes = behind;
        }
        self.filled = 0;
        let [tag, length @ ..] = self.head;
        let length = i32::from_be_bytes(length).checked_sub(4).and_then(|length| usize::try_from(length).ok());
        self.rest = length.unwrap_or_default();
        Some(Part::Head(tag, length))
    }
}

#[cfg(test)]
mod tests;
