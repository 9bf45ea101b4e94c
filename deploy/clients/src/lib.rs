//! What the stock Rust drivers are put through: one JSON line in on stdin, one out on stdout.
//!
//! The statement has a parameter of each of a few types, and gives each back changed, so that neither side can have guessed
//! it. `python/trial.py` does the same for drivers of Python.

use std::fmt::Display;
use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// A parameter of each of a few types, each given back changed.
pub const STATEMENT: &str =
    "select $1::int4 + 1, $2::text || '!', not $3::bool, $4::float8 * 2, $5::bytea || '\\x00ff'::bytea, $6::text";
/// More rows than fit into one read.
pub const ROWS: &str = "select g from generate_series(1, 20000) g";
/// What is cancelled.
pub const LONG: &str = "select pg_sleep(30)";
/// When it is cancelled.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// What a driver is told.
#[derive(Deserialize)]
pub struct Request {
    /// Its connection string.
    pub connection: String,
}

/// The row of [`STATEMENT`].
pub type Row = (i32, String, bool, f64, Vec<u8>, Option<String>);

/// What a driver found.
#[derive(Debug)]
pub struct Found {
    /// What [`STATEMENT`] gave.
    pub row: Row,
    /// How many rows [`ROWS`] gave.
    pub rows: usize,
    /// The SQLSTATE that ended [`LONG`], after how long, and whether the session could be used afterwards; nothing for a
    /// driver that cannot cancel.
    pub cancel: Option<(Option<String>, Duration, bool)>,
}

/// Reads the request.
///
/// # Errors
/// When there is none.
pub fn request() -> Result<Request, Box<dyn std::error::Error>> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Writes the answer.
///
/// # Errors
/// When nobody reads it.
pub fn answer<E: Display>(driver: &str, outcome: Result<Found, E>) -> std::io::Result<()> {
    let answer = match outcome {
        Ok(Found { row: (number, text, no, float, bytes, nothing), rows, cancel }) => {
            let cancel = cancel.map(|(sqlstate, after, alive)| {
                json!({"how": "as the session", "sqlstate": sqlstate, "seconds": after.as_secs_f64(), "alive": alive})
            });
            let row = json!([number, text, no, float, hex::encode(bytes), nothing]);
            json!({"driver": driver, "row": row, "rows": rows, "cancels": cancel.into_iter().collect::<Vec<Value>>()})
        }
        Err(error) => json!({"error": error.to_string()}),
    };
    writeln!(std::io::stdout(), "{answer}")
}
