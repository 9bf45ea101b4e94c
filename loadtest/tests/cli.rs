//! The program as its users start it.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::path::Path;
use std::process::{Command, Output};

use loadtest::result::{PhaseKind, RunResult};

fn loadtest(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A second of work against a server that gives the same answer to everything.
const QUICK: [&str; 12] = [
    "run",
    "generator",
    "--set",
    "arrivals.rate=200",
    "--set",
    "cluster.tenants=2",
    "--set",
    "cluster.clients=2",
    "--seed",
    "7",
    "--figures",
    "--out",
];

#[test]
fn a_run_tells_its_seed_first_and_leaves_a_result() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("quick.toml");
    let shipped = text(&loadtest(&["run", "generator", "--print"], folder.path()).stdout);
    std::fs::write(&scenario, shipped.replace("\"3s\"", "\"1s\"").replace("\"15s\"", "\"2s\"")).unwrap();
    let mut arguments = QUICK.to_vec();
    arguments[1] = "quick.toml";
    let run = |out: &str| {
        let done = loadtest(&[arguments.as_slice(), &[out]].concat(), folder.path());
        assert!(done.status.success(), "{}", text(&done.stderr));
        (done, RunResult::read(&folder.path().join(out)).unwrap())
    };
    let (done, one) = run("one.json");
    assert!(text(&done.stderr).starts_with("loadtest: generator: seed 7\n"), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("figure load_generator_p99_error_us "), "{}", text(&done.stdout));
    let (_, other) = run("other.json");
    let due = |result: &RunResult| result.phases.iter().map(|phase| phase.due).collect::<Vec<_>>();
    assert_eq!(due(&one), due(&other), "the same seed gives the same arrivals");

    assert_eq!((one.seed, one.subject.databases.as_str(), one.subject.tenants), (7, "echo", 2));
    assert_eq!(one.total.due, one.total.done);
    assert!(one.total.due > 300 && one.failures.is_empty());
    let [warm_up, steady] = one.phases.as_slice() else { panic!("{:?}", one.phases) };
    assert_eq!((warm_up.kind, steady.kind), (PhaseKind::WarmUp, PhaseKind::Measured));
    assert_eq!(one.total.due, steady.due, "warm-up is in no total");
    assert!(one.notes.iter().any(|note| note.contains("warm-up")), "and that is said: {:?}", one.notes);
    assert!(one.parts.iter().any(|part| part.cpu_seconds > 0.0 && part.samples.len() >= 2), "{:?}", one.parts);
    assert_eq!(one.scenario.settings.get("arrivals.rate").map(String::as_str), Some("200"));
    assert!(one.seconds.len() >= 3);
    let (machine, versions) = (&one.machine, &one.subject.versions);
    assert!(machine.cores > 0 && machine.memory_mib > 0 && machine.kernel.starts_with("Linux "), "{machine:?}");
    assert_eq!(versions.get("loadtest").map(String::as_str), Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_result_that_cannot_be_written_is_refused_before_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    for place in [".", "nowhere/result.json"] {
        let refused = loadtest(&[&QUICK[..], &[place]].concat(), folder.path());
        let said = text(&refused.stderr);
        assert!(!refused.status.success() && said.contains(place), "{said}");
        assert!(!said.contains("phase"), "the load began: {said}");
    }
    std::fs::write(folder.path().join("before.json"), "{}").unwrap();
    for place in ["before.json", "new.json"] {
        let checked = loadtest(&["run", "generator", "--check", "--out", place], folder.path());
        assert!(checked.status.success(), "{}", text(&checked.stderr));
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("before.json")).unwrap(), "{}", "it is left as it was");
    assert!(!folder.path().join("new.json").exists(), "nothing is left behind");
}

#[test]
fn a_scenario_that_is_wrong_or_too_large_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = loadtest(&["run", "pool", "--set", "cluster.tenants=0", "--set", "work.kind=none"], folder.path());
    assert_eq!(wrong.status.code(), Some(78));
    let said = text(&wrong.stderr);
    assert!(said.contains("cluster.tenants") && said.contains("work.kind"), "{said}");
    let nowhere = ["run", "pool", "--set", "phases[9].length=5s", "--set", "cluster.tenants=0", "--set", "nonsense=1"];
    let said = text(&loadtest(&nowhere, folder.path()).stderr);
    assert!(["phases[9]", "cluster.tenants", "nonsense"].iter().all(|wrong| said.contains(wrong)), "{said}");

    let large = ["run", "pool", "--check", "--set", "cluster.tenants=500", "--set", "cluster.clients=100000"];
    let large = loadtest(&large, folder.path());
    assert_eq!(large.status.code(), Some(78));
    let said = text(&large.stderr);
    assert!(said.contains("descriptors") && said.contains("lower cluster.clients"), "{said}");

    let unknown = loadtest(&["run", "nonsense"], folder.path());
    assert_eq!(unknown.status.code(), Some(64));
    assert!(text(&unknown.stderr).contains("noisy-neighbour"), "{}", text(&unknown.stderr));
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing was written");
}

#[test]
fn the_scenarios_are_listed_with_what_they_show() {
    let folder = tempfile::tempdir().unwrap();
    let listed = text(&loadtest(&["run", "--list"], folder.path()).stdout);
    assert_eq!(listed.lines().count(), loadtest::scenario::SHIPPED.len());
    assert!(listed.lines().all(|line| line.trim_end().ends_with('.')), "{listed}");
}
