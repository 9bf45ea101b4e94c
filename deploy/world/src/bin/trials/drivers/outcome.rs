//! What became of a driver on one way.

use std::process::Output;

use serde::Deserialize;
use serde_json::{Value, json};

use super::matrix::Driver;

/// A query of 30 s that ended within this many seconds has ended early.
const EARLY: f64 = 15.0;
/// SQLSTATE query_canceled.
const CANCELED: &str = "57014";
const ROWS: usize = 20_000;

/// What became of a driver on one way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// It connected, got its row and its rows, and every cancel that it can send ended its query.
    Fine {
        /// The driver as it names itself.
        driver: String,
        /// How it cancels.
        cancels: Vec<String>,
    },
    /// It cannot go this way.
    NotApplicable(String),
    /// Something else came out.
    Failed(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Walked { driver: String, row: Value, rows: usize, cancels: Vec<Cancel> },
    Stumbled { error: String },
}

#[derive(Deserialize)]
struct Cancel {
    how: String,
    sqlstate: Option<String>,
    seconds: f64,
    alive: bool,
}

impl Outcome {
    /// Judges what a driver's program printed.
    pub(crate) fn of(driver: &Driver, output: &Output) -> Self {
        let printed = String::from_utf8_lossy(&output.stdout);
        let Ok(answer) = serde_json::from_str(&printed) else {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Self::Failed(format!("{}: {printed} {errors}", output.status));
        };
        judge(answer, driver.no_cancel().is_none()).unwrap_or_else(Self::Failed)
    }
}

fn judge(answer: Answer, can_cancel: bool) -> Result<Outcome, String> {
    let (driver, row, rows, cancels) = match answer {
        Answer::Walked { driver, row, rows, cancels } => (driver, row, rows, cancels),
        Answer::Stumbled { error } => return Err(error),
    };
    if row != json!([42, "Grüße!", false, 2.5, "010200ff", null]) {
        return Err(format!("the row came as {row}"));
    }
    if rows != ROWS {
        return Err(format!("{rows} rows came, not {ROWS}"));
    }
    if cancels.is_empty() == can_cancel {
        return Err(format!("cancelled {} times", cancels.len()));
    }
    for Cancel { how, sqlstate, seconds, alive } in &cancels {
        let state = sqlstate.as_deref().unwrap_or("no error");
        if state != CANCELED || *seconds > EARLY || !alive {
            let after = if *alive { "goes on" } else { "is dead" };
            return Err(format!("{how} cancel: {state} after {seconds:.1} s, and the session {after}"));
        }
    }
    Ok(Outcome::Fine { driver, cancels: cancels.into_iter().map(|cancel| cancel.how).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(change: impl FnOnce(&mut Value), can_cancel: bool) -> Result<Outcome, String> {
        let mut answer = json!({
            "driver": "x 1", "row": [42, "Grüße!", false, 2.5, "010200ff", null], "rows": 20_000,
            "cancels": [{"how": "plaintext", "sqlstate": "57014", "seconds": 0.6, "alive": true}],
        });
        change(&mut answer);
        judge(serde_json::from_value(answer).map_err(|error| error.to_string())?, can_cancel)
    }

    #[test]
    fn a_driver_that_did_everything_is_fine() {
        let fine = Outcome::Fine { driver: "x 1".into(), cancels: vec!["plaintext".into()] };
        assert_eq!(judged(|_| {}, true), Ok(fine));
        assert!(judged(|answer| answer["cancels"] = json!([]), false).is_ok());
    }

    #[test]
    fn nothing_less_is() {
        for (path, value) in [
            ("/row/1", json!("Gr??e!")),
            ("/row/4", json!("0102")),
            ("/rows", json!(19_999)),
            ("/cancels", json!([])),
            ("/cancels/0/sqlstate", json!(null)),
            ("/cancels/0/sqlstate", json!("57P01")),
            ("/cancels/0/seconds", json!(30.1)),
            ("/cancels/0/alive", json!(false)),
        ] {
            let change = |answer: &mut Value| *answer.pointer_mut(path).unwrap() = value;
            assert!(judged(change, true).is_err(), "{path}");
        }
        assert!(judged(|_| {}, false).is_err(), "it cancels, and is said not to");
        assert_eq!(judged(|answer| *answer = json!({"error": "refused"}), true), Err("refused".into()));
    }
}
