//! Rows in and out, through connect mode and straight at the gateway, and who saw them on the way.

use std::time::Instant;

use postern_world::World;
use postern_world::tap::Recording;
use serde_json::{Value, json};

use crate::client::Login;
use crate::client::psql::Psql;
use crate::client::python::Python;
use crate::report::{Outcome, seconds};

/// How many rows a check inserts and reads back.
const ROWS: usize = 1000;

/// Creates a table, inserts rows with a marker in each, and reads them back and compares them.
pub(crate) async fn psql(psql: &Psql, login: &Login, table: &str, marker: &str) -> Outcome {
    let started = Instant::now();
    let rows: Vec<String> = (0..ROWS).map(|number| format!("{number}|{marker} {number}")).collect();
    let values: Vec<String> = (0..ROWS).map(|number| format!("({number}, '{marker} {number}')")).collect();
    let script = format!(
        "set client_min_messages = warning;\n\
         drop table if exists {table};\n\
         create table {table} (id int primary key, body text not null);\n\
         insert into {table} values {};\n\
         select id, body from {table} order by id;\n",
        values.join(", ")
    );
    let printed = psql.run(login, &script).await?;
    let read: Vec<&str> = printed.lines().collect();
    if read == rows {
        Ok(format!("{} rows inserted and read back, {}", read.len(), seconds(started)))
    } else {
        Err(format!("{} rows read back, not the ones inserted: {:?}", read.len(), read.first()))
    }
}

/// The same by psycopg, with prepared statements.
pub(crate) async fn psycopg(python: &Python, login: &Login, table: &str, marker: &str) -> Outcome {
    let started = Instant::now();
    let answer = python.run("insert", login, json!({"table": table, "rows": ROWS, "text": marker})).await?;
    if answer.get("same") == Some(&Value::Bool(true)) && answer.get("rows") == Some(&json!(ROWS)) {
        Ok(format!("{ROWS} rows inserted and read back, {}", seconds(started)))
    } else {
        Err(format!("the driver read back {answer}"))
    }
}

/// Nothing of the inserted rows passed the gateway in the clear. The same rows, seen before they entered the attested
/// connection, prove that the search would have found them.
pub(crate) fn no_plaintext(world: &World, plaintext: &Recording, marker: &str) -> Outcome {
    let taps = world.taps().ok_or("the world has no taps")?;
    let (public, tunnel) = (taps.public().recording(), taps.tunnel().recording());
    let seen = plaintext.occurrences(marker.as_bytes());
    if seen < 2 * ROWS {
        return Err(format!(
            "the control failed: the marker was seen {seen} times before the sidecar, not {}",
            2 * ROWS
        ));
    }
    for (place, recording) in [("before the gateway", public), ("between gateway and sidecars", tunnel)] {
        let bytes = recording.bytes();
        if !recording.is_complete() {
            return Err(format!("more passed {place} than was kept"));
        }
        if bytes < plaintext.bytes() {
            return Err(format!("only {bytes} bytes passed {place}, fewer than the rows have"));
        }
        let leaked = recording.occurrences(marker.as_bytes());
        if leaked > 0 {
            return Err(format!("the marker passed {leaked} times {place}"));
        }
    }
    Ok(format!(
        "the marker passed 0 times in {} bytes before and {} bytes behind the gateway, {seen} times in plaintext before \
         the sidecar",
        public.bytes(),
        tunnel.bytes()
    ))
}
