//! Stock pgbench through connect mode.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use postern_world::World;
use postern_world::report::{Outcome, words};
use tokio::process::Command;

use crate::program;

/// How much longer than its time pgbench may take.
const GRACE: Duration = Duration::from_secs(60);

/// What pgbench does, by four clients.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Its usual transaction, of five statements, in sessions that last.
    Session,
    /// The same, with a new connection for each.
    Connect,
}

/// How pgbench ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It worked for its time.
    Done { transactions: u64, failed: u64 },
    /// A client lost its session, or got none; in pgbench's words.
    Aborted(String),
}

impl Ended {
    /// The figure, when everything went well.
    pub(crate) fn without_failure(self) -> Outcome {
        match self {
            Self::Done { transactions, failed: 0 } if transactions > 0 => {
                Ok(format!("{transactions} transactions, 0 failed"))
            }
            Self::Done { transactions, failed } => Err(format!("{transactions} transactions, {failed} failed")),
            Self::Aborted(said) => Err(said),
        }
    }
}

/// pgbench, and where it goes.
pub(crate) struct Bench {
    program: PathBuf,
    home: PathBuf,
    address: SocketAddr,
    secret: String,
}

impl Bench {
    pub(crate) fn new(program: &Path, world: &World) -> Result<Self, String> {
        let tenant = world.tenant(0).ok_or("no tenant")?;
        let home = world.state().folder("home").map_err(words)?;
        let (address, secret) = (tenant.application().address(), tenant.secrets().read_write.clone());
        Ok(Self { program: program.to_owned(), home, address, secret })
    }

    /// What it shows.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// The same that shows another secret.
    pub(crate) fn with_secret(&self, secret: &str) -> Self {
        let secret = secret.to_owned();
        Self { program: self.program.clone(), home: self.home.clone(), address: self.address, secret }
    }

    /// Makes the tables.
    pub(crate) async fn initialize(&self) -> Outcome {
        let output = program::run(self.command(&["--initialize", "--quiet", "--scale=2"]), "", GRACE).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok("2 branches".to_owned()) } else { Err(said.into_owned()) }
    }

    /// Works for a while.
    pub(crate) async fn work(&self, work: Work, time: Duration) -> Result<Ended, String> {
        let time_option = format!("--time={}", time.as_secs());
        let mut options = vec!["--no-vacuum", "--client=4", time_option.as_str()];
        if let Work::Connect = work {
            // A thread each: pgbench waits for connections in the foreground, and would leave the transactions of other clients
            // open meanwhile. What drains would wait for them, and they for what comes after it.
            options.extend(["--connect", "--jobs=4"]);
        }
        ended(&program::run(self.command(&options), "", time + GRACE).await?)
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        program::cut_off(&mut command, &self.home);
        command.args(options).arg(format!("--host={}", self.address.ip()));
        command.arg(format!("--port={}", self.address.port()));
        command.args(["--username=teesql_readwrite", "postgres"]).env("PGPASSWORD", &self.secret);
        command.env("PGSSLMODE", "disable");
        command
    }
}

fn ended(output: &Output) -> Result<Ended, String> {
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        let error = said.lines().find(|line| line.contains("error:")).unwrap_or(&said);
        return Ok(Ended::Aborted(error.to_owned()));
    }
    let count = |name: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(name))?;
        line.split(' ').next()?.parse().ok()
    };
    let transactions = count("number of transactions actually processed: ");
    let failed = count("number of failed transactions: ");
    let (Some(transactions), Some(failed)) = (transactions, failed) else {
        return Err(format!("pgbench printed no count: {printed}"));
    };
    Ok(Ended::Done { transactions, failed })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn ended_with(code: i32, stdout: &str, stderr: &str) -> Result<Ended, String> {
        let status = ExitStatus::from_raw(code << 8);
        ended(&Output { status, stdout: stdout.into(), stderr: stderr.into() })
    }

    #[test]
    fn the_counts_are_read() {
        let printed = "number of transactions actually processed: 90\nnumber of failed transactions: 2 (2.2%)\n";
        let done = ended_with(0, printed, "").unwrap();
        assert_eq!(done, Ended::Done { transactions: 90, failed: 2 });
        assert!(done.without_failure().is_err());
        assert!(Ended::Done { transactions: 0, failed: 0 }.without_failure().is_err(), "nothing was tried");
        assert!(Ended::Done { transactions: 9, failed: 0 }.without_failure().is_ok());
        assert!(ended_with(0, "tps = 3\n", "").is_err());
    }

    #[test]
    fn a_lost_session_is_told_in_pgbench_s_words() {
        let said = "pgbench (15)\npgbench: error: client 1 aborted\npgbench: error: Run was aborted\n";
        let aborted = Ended::Aborted("pgbench: error: client 1 aborted".to_owned());
        assert_eq!(ended_with(2, "number of failed transactions: 0 (0%)\n", said), Ok(aborted));
    }
}
