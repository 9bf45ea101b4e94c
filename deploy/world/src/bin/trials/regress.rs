//! PostgreSQL's own regression suite, directly and through connect mode, gateway and sidecar.
//!
//! The role that runs it is a superuser, but not the one that `initdb` made, which the suite expects: `sequence` gets another
//! error about a table that belongs to that one, in both runs. Everything else of PostgreSQL 15.18's 217 tests is as expected.

mod differences;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_world::report::words;
use postern_world::{PostgresSource, Stage, Tenant, World};
use tokio::process::Command;

use crate::program;
use differences::Differences;

/// How long the suite may take once.
const DEADLINE: Duration = Duration::from_secs(1800);
/// The role that runs the suite, in both runs: its name shows in some of the output.
const ROLE: &str = "teesql_readwrite";

/// What the suite needs.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// PostgreSQL's src/test/regress
    #[arg(long, value_name = "DIR")]
    suite: PathBuf,

    /// The folder with regress.so, refint.so and autoinc.so
    #[arg(long, value_name = "DIR")]
    libraries: PathBuf,

    /// Which tests, as a schedule in the suite's folder
    #[arg(long, value_name = "FILE", default_value = "parallel_schedule")]
    schedule: PathBuf,
}

/// Whether both runs differ from what PostgreSQL expects in the same way.
pub(crate) async fn run(
    stage: Stage,
    arguments: &Arguments,
    postgres: &PostgresSource,
    world: &World,
) -> Result<bool, String> {
    let PostgresSource::Folder(programs) = postgres else {
        return Err("--postgres has to name the folder of programs that the suite belongs to".to_owned());
    };
    let tenant = world.tenant(0).ok_or("no tenant")?;
    let suite = Suite::new(arguments, programs, world)?;
    let server = &tenant.database().postgres;
    let direct = Place { host: server.socket_folder().display().to_string(), port: server.port() };
    let application = tenant.application().address();
    let through = Place { host: application.ip().to_string(), port: application.port() };

    let password = world.password(tenant, ROLE).await.map_err(words)?;
    let mut runs = Vec::new();
    for (name, place, password) in [
        ("direct", &direct, &password),
        ("through connect mode, gateway and sidecar", &through, &tenant.secrets().read_write),
    ] {
        stage.tell(&format!("the suite, {name}"));
        suite.empower(world, tenant, &direct).await?;
        let folder = if runs.is_empty() { "direct" } else { "through" };
        let outcome = suite.run(folder, place, password).await?;
        print(&format!("{name}: {}", outcome.summary));
        runs.push(outcome);
    }
    let [direct, through] = runs.as_slice() else { return Err("a run is missing".to_owned()) };
    Ok(compare(direct, through))
}

/// Where a server is, for libpq.
struct Place {
    host: String,
    port: u16,
}

/// What one run of the suite gave.
struct Outcome {
    summary: String,
    differences: Differences,
}

/// The suite, in a folder that the server can read.
struct Suite {
    folder: PathBuf,
    programs: PathBuf,
    schedule: PathBuf,
    home: PathBuf,
}

impl Suite {
    fn new(arguments: &Arguments, programs: &Path, world: &World) -> Result<Self, String> {
        let folder = world.state().folder("regress").map_err(words)?;
        let home = world.state().folder("home").map_err(words)?;
        world.state().copy(&arguments.suite, "regress/suite").map_err(words)?;
        world.state().copy(&arguments.libraries, "regress/libraries").map_err(words)?;
        let schedule = folder.join("suite").join(&arguments.schedule);
        Ok(Self { folder, programs: programs.to_owned(), schedule, home })
    }

    /// Gives the role what the suite needs and no role behind a sidecar has otherwise.
    async fn empower(&self, world: &World, tenant: &Tenant, place: &Place) -> Result<(), String> {
        let password = world.password(tenant, "postgres").await.map_err(words)?;
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]);
        command.arg(format!("host={} port={} user=postgres dbname=postgres", place.host, place.port));
        program::cut_off(&mut command, &self.home);
        command.env("PGPASSWORD", password);
        let output = program::run(command, &format!("alter role {ROLE} superuser;\n"), DEADLINE).await?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    async fn run(&self, name: &str, place: &Place, password: &str) -> Result<Outcome, String> {
        let results = self.folder.join(name);
        for folder in [results.clone(), results.join("results")] {
            std::fs::create_dir_all(&folder).map_err(words)?;
            // The server writes here as well, as its own user.
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).map_err(words)?;
        }
        let lib = self.programs.parent().unwrap_or(&self.programs).join("lib/pgxs/src/test/regress/pg_regress");
        let mut command = Command::new(lib);
        command.arg(format!("--inputdir={}", self.folder.join("suite").display()));
        command.arg(format!("--outputdir={}", results.display()));
        command.arg(format!("--bindir={}", self.programs.display()));
        command.arg(format!("--dlpath={}", self.folder.join("libraries").display()));
        command.arg(format!("--schedule={}", self.schedule.display()));
        command.args(["--max-connections=20", "--dbname=regression"]).arg(format!("--user={ROLE}"));
        command.arg(format!("--host={}", place.host)).arg(format!("--port={}", place.port));
        program::cut_off(&mut command, &self.home);
        command.env("PGPASSWORD", password).current_dir(&results);
        let output = program::run(command, "", DEADLINE).await?;
        let said = String::from_utf8_lossy(&output.stdout);
        let summary = summary(&said)
            .ok_or_else(|| format!("pg_regress gave no summary: {said}{}", String::from_utf8_lossy(&output.stderr)))?;
        let diffs = std::fs::read(results.join("regression.diffs")).unwrap_or_default();
        let differences = Differences::parse(&String::from_utf8_lossy(&diffs), &results.display().to_string());
        Ok(Outcome { summary, differences })
    }
}

/// The line in which pg_regress counts.
fn summary(output: &str) -> Option<String> {
    let counts = |line: &&str| line.contains(" tests ") && (line.contains("passed") || line.contains("failed"));
    output.lines().map(str::trim).find(counts).map(str::to_owned)
}

/// Prints in which tests the runs differ from what is expected, and from each other.
fn compare(direct: &Outcome, through: &Outcome) -> bool {
    let (one, other): (&BTreeMap<_, _>, &BTreeMap<_, _>) = (direct.differences.tests(), through.differences.tests());
    let same: Vec<&str> = one.keys().filter(|test| one.get(*test) == other.get(*test)).map(String::as_str).collect();
    print(&format!("tests that differ from what PostgreSQL expects, in the same way in both runs: {}", list(&same)));
    let all = one.keys().chain(other.keys()).collect::<std::collections::BTreeSet<_>>();
    let apart: Vec<&str> =
        all.iter().filter(|test| one.get(**test) != other.get(**test)).map(|test| test.as_str()).collect();
    print(&format!("tests that differ between the runs: {}", list(&apart)));
    for test in &apart {
        for (name, lines) in [("direct", one.get(*test)), ("through", other.get(*test))] {
            print(&format!("--- {test}, {name}\n{}", lines.map_or("as expected", String::as_str)));
        }
    }
    apart.is_empty()
}

fn list(tests: &[&str]) -> String {
    if tests.is_empty() { "none".to_owned() } else { tests.join(", ") }
}

#[expect(clippy::print_stdout, reason = "the comparison is what the program is for")]
fn print(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(diffs: &str) -> Outcome {
        Outcome { summary: String::new(), differences: Differences::parse(diffs, "/out") }
    }

    #[test]
    fn the_summary_is_found() {
        let said = "ok 1 - boolean\n\n=====\n 2 of 212 tests failed. \n=====\n";
        assert_eq!(summary(said).as_deref(), Some("2 of 212 tests failed."));
        assert_eq!(summary("=====\n All 212 tests passed. \n").as_deref(), Some("All 212 tests passed."));
        assert_eq!(summary("could not connect"), None);
    }

    #[test]
    fn the_same_differences_are_no_difference() {
        let diff = "diff -U3 /s/expected/a.out /out/results/a.out\n-1\n+2\n";
        assert!(compare(&outcome(diff), &outcome(diff)));
        assert!(compare(&outcome(""), &outcome("")));
        assert!(!compare(&outcome(diff), &outcome("")));
        assert!(!compare(&outcome(""), &outcome(diff)));
        assert!(!compare(&outcome(diff), &outcome(&diff.replace("+2", "+3"))));
    }
}
