//! Connections that must not come to a session, and the reason that the client saw.

use crate::client::Login;
use crate::client::psql::Psql;
use postern_world::report::Outcome;

/// Connects and expects to be refused with a reason that holds one of the given texts.
pub(crate) async fn refused(psql: &Psql, login: &Login, reasons: &[&str]) -> Outcome {
    match psql.run(login, "select 'let in';\n").await {
        Ok(answer) => Err(format!("let in: {answer}")),
        Err(said) => {
            let reason = reason(&said);
            if reasons.iter().any(|expected| reason.contains(expected)) {
                Ok(format!("refused with `{reason}`"))
            } else {
                Err(format!("refused with `{reason}`, expected one of {reasons:?}"))
            }
        }
    }
}

/// The part of psql's message that the far end wrote: what follows `FATAL:`, or else the last line.
fn reason(said: &str) -> &str {
    let after = said.split_once("FATAL:").map(|(_, reason)| reason);
    after.or_else(|| said.lines().last()).unwrap_or(said).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_the_far_end_said() {
        let said = "psql: error: connection to server at \"x\" (127.0.0.1), port 5 failed: FATAL:  client refused: no";
        assert_eq!(reason(said), "client refused: no");
        assert_eq!(
            reason("psql: error: first\nSSL error: tlsv1 unrecognized name"),
            "SSL error: tlsv1 unrecognized name"
        );
    }
}
