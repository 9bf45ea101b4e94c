//! What Postgres says about its own state, for whoever wants it attested.

use thiserror::Error;

use super::Socket;
use super::admin::{AdminError, Proof, Session};

/// Sessions of ours must not be led astray by what roles that may create functions have created.
const STATE: &str = "SET search_path = pg_catalog, pg_temp;
    SET timezone = 'UTC';
    SELECT CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0')
                ELSE pg_current_wal_lsn() END::text,
           (SELECT encode(sha256(convert_to(string_agg(line, '' ORDER BY part, place), 'UTF8')), 'hex')
              FROM (SELECT part, place, source || '.' || name || '=' || coalesce(value, '') || chr(10) AS line
                      FROM (SELECT 1 AS part, 'system' AS source, row_to_json(s) AS fields FROM pg_control_system() AS s
                            UNION ALL SELECT 2, 'checkpoint', row_to_json(c) FROM pg_control_checkpoint() AS c
                            UNION ALL SELECT 3, 'recovery', row_to_json(r) FROM pg_control_recovery() AS r
                            UNION ALL SELECT 4, 'init', row_to_json(i) FROM pg_control_init() AS i) AS parts,
                           json_each_text(fields) WITH ORDINALITY AS field(name, value, place)) AS lines),
           current_setting('server_version')";

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Database {
    /// Where Postgres listens.
    pub socket: Socket,
    /// The superuser, and how it shows who it is.
    pub superuser: (String, Proof),
    /// The database to connect to; what is asked for is the same in all of them.
    pub name: String,
}

/// What Postgres says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseState {
    /// Where the write-ahead log ends or, in recovery, how far it was replayed: `0/16B3748`.
    pub wal_lsn: String,
    /// SHA-256 of the control data, in lower-case hex. The control data is a text with one line for each field that
    /// `pg_control_system()`, `pg_control_checkpoint()`, `pg_control_recovery()` and `pg_control_init()` return, in this
    /// order: the name of the function without `pg_control_`, a dot, the field's name, `=`, its value as JSON has it without
    /// quotes (nothing for null, times in UTC), and a newline.
    pub controldata_hash: String,
    /// The setting `server_version`.
    pub pg_version: String,
}

/// Why the state is not known.
#[derive(Debug, Error)]
pub enum StateError {
    /// Postgres did not answer.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Postgres answered something else.
    #[error("Postgres does not say what its state is")]
    Answer,
}

impl Database {
    /// Asks Postgres.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn state(&self) -> Result<DatabaseState, StateError> {
        let (role, proof) = &self.superuser;
        let mut session = Session::open(&self.socket, role, proof, &self.name).await?;
        let row = session.last_row("say what its state is", STATE).await?.ok_or(StateError::Answer)?;
        let fields = fields(row.body()).ok_or(StateError::Answer)?;
        let [Some(wal_lsn), Some(controldata_hash), Some(pg_version)] = fields.as_slice() else {
            return Err(StateError::Answer);
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| StateError::Answer);
        Ok(DatabaseState {
            wal_lsn: text(wal_lsn)?,
            controldata_hash: text(controldata_hash)?,
            pg_version: text(pg_version)?,
        })
    }
}

/// The fields of a DataRow; `None` for null.
fn fields(body: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut fields = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        let (field, behind) = match usize::try_from(length) {
            Ok(length) => (Some(behind.get(..length)?), behind.get(length..)?),
            Err(_) if length == -1 => (None, behind),
            Err(_) => return None,
        };
        fields.push(field);
        rest = behind;
    }
    rest.is_empty().then_some(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fields;

    #[test]
    fn a_row_has_its_fields_and_nothing_else() {
        let row = b"\0\x03\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(fields(row), Some(vec![Some(&b"a"[..]), None, Some(&b""[..])]));
        for end in 0..row.len() {
            assert_eq!(fields(&row[..end]), None);
        }
        assert_eq!(fields(&[row.as_slice(), b"x"].concat()), None);
        assert_eq!(fields(b"\0\x01\xff\xff\xff\xfe"), None);
    }

    proptest! {
        #[test]
        fn random_rows_never_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _fields = fields(&body);
        }
    }
}
