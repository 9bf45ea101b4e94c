//! Stock pgbench and psql against one of the servers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::scene::{Endpoint, ROLE, Scene, Server};

/// What pgbench does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// `-S`: one row by its key, over and over, in one session.
    Select,
    /// A new connection for each `select 1`.
    Connect,
    /// One statement, then silence.
    Idle,
}

/// What a turn gave.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    /// Transactions a second.
    pub(super) tps: f64,
    /// How many there were.
    pub(super) transactions: u64,
    /// How long each took.
    pub(super) latencies: Vec<Duration>,
}

impl Scene {
    /// Makes pgbench's tables.
    pub(super) async fn initialize(&self) -> anyhow::Result<()> {
        let mut command = self.client("pgbench", Server::Postgres);
        command.args(["--initialize", "--quiet", "--scale=5", "postgres"]);
        finish(&mut command).await.map(drop)
    }

    /// Runs pgbench for a while.
    pub(super) async fn turn(
        &self,
        server: Server,
        work: Work,
        clients: usize,
        time: Duration,
    ) -> anyhow::Result<Turn> {
        let prefix = self.folder.join("turn");
        let mut command = self.client("pgbench", server);
        command.args(["--no-vacuum", "--log"]).arg(format!("--log-prefix={}", prefix.display()));
        command.arg(format!("--client={clients}")).arg(format!("--jobs={}", clients.min(2)));
        command.arg(format!("--time={}", time.as_secs()));
        match work {
            Work::Select => command.arg("--select-only"),
            Work::Connect => command.arg("--connect").arg(self.script("connect", "select 1;\n")?),
            Work::Idle => command.arg(self.script("idle", &format!("select 1;\n\\sleep {} s\n", time.as_secs()))?),
        };
        let output = finish(command.arg("postgres")).await?;
        let latencies = self.latencies()?;
        let (tps, transactions) = summary(&output).with_context(|| format!("pgbench said: {output}"))?;
        Ok(Turn { tps, transactions, latencies })
    }

    /// Copies rows of 8 KiB out, and gives the bytes per second.
    pub(super) async fn copy(&self, server: Server, rows: usize) -> anyhow::Result<f64> {
        let mut command = self.client("psql", server);
        let statement = format!("copy (select repeat('x', 8191) from generate_series(1, {rows})) to stdout");
        command.args(["--no-psqlrc", "--quiet", "--output=/dev/null", "--dbname=postgres", "--command", &statement]);
        let started = Instant::now();
        finish(&mut command).await?;
        let bytes = u32::try_from(rows * 8192)?;
        Ok(f64::from(bytes) / started.elapsed().as_secs_f64())
    }

    fn script(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let file = self.folder.join(format!("{name}.sql"));
        std::fs::write(&file, text)?;
        Ok(format!("--file={}", file.display()))
    }

    /// Reads pgbench's logs of a turn, and deletes them.
    fn latencies(&self) -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let file = entry?.path();
            if is_log(&file) {
                latencies.extend(std::fs::read_to_string(&file)?.lines().filter_map(latency));
                std::fs::remove_file(file)?;
            }
        }
        Ok(latencies)
    }

    fn client(&self, program: &str, server: Server) -> Command {
        let Endpoint { port, password, certificate, key } = self.endpoint(server);
        let mut command = Command::new(self.postgres.join(program));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        let tls: [(&str, &PathBuf); 2] = [("PGSSLCERT", certificate), ("PGSSLKEY", key)];
        command.envs(tls).env("PGPASSWORD", password).env("PGSSLMODE", "require").env("HOME", &self.folder);
        command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string()).env("PGUSER", ROLE).kill_on_drop(true);
        command
    }
}

async fn finish(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().await?;
    if !output.status.success() {
        let name = command.as_std().get_program().display();
        bail!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Transactions a second, and their number; nothing when one failed.
fn summary(output: &str) -> Option<(f64, u64)> {
    let value = |name: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(name))?;
        line.split(' ').next()
    };
    let failed: u64 = value("number of failed transactions: ")?.parse().ok()?;
    let tps = value("tps = ")?.parse().ok()?;
    let transactions = value("number of transactions actually processed: ")?.parse().ok()?;
    (failed == 0).then_some((tps, transactions))
}

fn is_log(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("turn."))
}

/// The time of one line of a log, which is its third word, in microseconds.
fn latency(line: &str) -> Option<Duration> {
    line.split(' ').nth(2)?.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "transaction type: <builtin: select only>\nnumber of transactions actually processed: 1200\n\
                        number of failed transactions: 0 (0.000%)\nlatency average = 0.8 ms\n\
                        tps = 240.5 (without initial connection time)\n";

    #[test]
    fn a_turn_counts_only_when_nothing_failed() {
        assert_eq!(summary(SAID), Some((240.5, 1200)));
        assert_eq!(summary(&SAID.replace("failed transactions: 0", "failed transactions: 1")), None);
        assert_eq!(summary("pgbench: error"), None);
    }

    #[test]
    fn a_log_has_the_time_of_each_transaction() {
        assert_eq!(latency("0 199 2241 0 1175850568 995598"), Some(Duration::from_micros(2241)));
        assert_eq!(latency(""), None);
        assert!(is_log(Path::new("/x/turn.123.1")) && !is_log(Path::new("/x/connect.sql")));
    }
}
