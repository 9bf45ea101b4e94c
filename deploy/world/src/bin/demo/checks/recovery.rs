//! What is killed comes back, and the next connection works.

use std::time::{Duration, Instant};

use crate::client::Login;
use crate::client::psql::Psql;
use postern_world::report::{Outcome, seconds};

const PATIENCE: Duration = Duration::from_secs(60);

/// Connects until it works, and says how long that took since the kill.
pub(crate) async fn works_again(psql: &Psql, login: &Login, killed: Instant) -> Outcome {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match psql.run(login, "select 42;\n").await {
            Ok(answer) if answer == "42" => {
                return Ok(format!("works {} after the kill, attempt {attempts}", seconds(killed)));
            }
            Ok(answer) => return Err(format!("42 came back as {answer:?}")),
            Err(error) if killed.elapsed() > PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
