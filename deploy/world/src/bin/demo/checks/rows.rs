//! Rows in and out, through connect mode and straight at the gateway, and who saw them on the way.

use std::time::Instant;

use postern_world::World;
use postern_world::tap::Recording;
use serde_json::{Value, json};

use crate::client::Login;
use crate::client::psql::Psql;
use crate::client::python::Python;
use postern_world::report::{Outcome, seconds};

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

/// Nothing of the inserted rows reached the gateway in the clear: what clients and gateway exchange is all that it is
/// given, and the marker is not in it. The same rows, seen before they entered the attested connection, prove that the
/// search would have found them.
///
/// The tap behind the gateway sees the packets of the tunnel, which encrypts whatever it carries once more. It shows that
/// the rows took this way; of what is inside the packets it can say nothing, so that finding no marker there is no proof.
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
    Ok(figure(public.bytes(), seen, tunnel.bytes()))
}

/// Claims no more than the taps can show.
fn figure(public: usize, seen: usize, tunnel: usize) -> String {
    format!(
        "the marker passed 0 times in the {public} bytes between clients and gateway, {seen} times before the sidecar \
         encrypted it; the {tunnel} bytes behind the gateway are encrypted once more, by the tunnel"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_is_claimed_only_for_what_the_tunnel_does_not_hide() {
        let text = figure(10, 2000, 30);
        let (searched, tunnel) = text.split_once("; ").unwrap();
        assert!(searched.contains("0 times in the 10 bytes between clients and gateway"), "{text}");
        assert!(tunnel.contains("30 bytes") && !tunnel.contains("0 times"), "{text}");
    }
}
