//! A whole cluster under load, with faults. The gateway, the sidecar, the registrar and the simulator are those that cargo has
//! built beside this program; in a fresh tree, `cargo build` makes them.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use loadtest::result::{MarkKind, PartKind, RunResult};
use postern_world::{Fleet, FleetBuilder, Programs};

/// Where Debian has PostgreSQL's programs, which are not on PATH.
fn postgres() -> String {
    let releases = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folder = releases.map(|release| release.path().join("bin")).find(|folder| folder.join("initdb").is_file());
    folder.map_or("path".to_owned(), |folder| folder.display().to_string())
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn loadtest(scenario: &str, state: &Path, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["run", scenario, "--seed", "7", "--keep", "--postgres", &postgres()]);
    command.arg("--repository").arg(repository()).arg("--state").arg(state).arg("--out").arg(out);
    command.stdin(Stdio::null());
    command
}

/// The processes that a fleet's pid file names, each with when it was started.
fn processes(state: &Path) -> Vec<(u32, String)> {
    let lines = fs::read_to_string(state.join("pids")).unwrap_or_default();
    let process = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
    };
    lines.lines().filter_map(process).collect()
}

fn runs((pid, started): &(u32, String)) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ').collect()).unwrap_or_default();
    fields.first().is_some_and(|state| *state != "Z") && fields.get(19) == Some(&started.as_str())
}

/// Starts a run and kills it as soon as a sidecar runs. Gives what it left behind.
fn crashed(state: &Path, out: &Path) -> Vec<(u32, String)> {
    let mut run = loadtest("smoke", state, out).stderr(Stdio::null()).process_group(0).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let lines = fs::read_to_string(state.join("pids")).unwrap_or_default();
        if lines.contains("-sidecar") {
            break;
        }
        assert!(Instant::now() < end && run.try_wait().unwrap().is_none(), "it did not get as far as a sidecar");
        std::thread::sleep(Duration::from_millis(20));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    processes(state)
}

#[test]
fn a_cluster_survives_faults_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (state, out) = (folder.path().join("state"), folder.path().join("result.json"));
    let left = crashed(&state, &out);
    assert!(left.iter().any(runs), "a killed run leaves processes behind");

    let done = loadtest("smoke", &state, &out).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stdout));
    assert!(!left.iter().any(runs), "and the next run removes them");
    assert_eq!(processes(&state), [], "a run that ends leaves nothing");

    let result = RunResult::read(&out).unwrap();
    let ledger = result.ledger.as_ref().unwrap();
    assert!(ledger.is_sound() && ledger.acknowledged > 100, "{ledger:?}");
    let done_writes = result.phases.iter().map(|phase| phase.done).sum::<u64>();
    assert_eq!(ledger.acknowledged, done_writes, "every transaction that was done is a write that was acknowledged");
    let kinds: Vec<MarkKind> = result.marks.iter().map(|mark| mark.kind).collect();
    assert_eq!(kinds, [MarkKind::Kill, MarkKind::Revoke]);
    for figure in ["kill_gateway_ready_ms", "revocation_asked_to_cut_ms", "allowance_asked_to_session_ms"] {
        assert!(result.measures.contains_key(figure), "{figure} in {:?}", result.measures);
    }
    assert_eq!((result.subject.tenants, result.subject.gateways), (2, 1));
    let processes = |kind| result.parts.iter().find(|part| part.kind == kind).map(|part| part.processes);
    assert_eq!((processes(PartKind::Edge), processes(PartKind::Sidecars)), (Some(1), Some(2)));
    assert!(result.parts.iter().all(|part| part.peak_memory_mib > 0.0), "{:?}", result.parts);
    assert!(result.phases.iter().all(|phase| phase.tenants.iter().all(|tenant| tenant.done > 0)));
    let [_, faults] = result.phases.as_slice() else { panic!("{:?}", result.phases) };
    assert!(faults.tenants[1].disturbed && !faults.tenants[0].disturbed, "the revoked tenant is no part of fairness");
}

/// Runs a scenario that stands here, and gives its result.
fn run(scenario: &str) -> RunResult {
    let folder = tempfile::tempdir().unwrap();
    let [file, state, out] = ["scenario.toml", "state", "result.json"].map(|name| folder.path().join(name));
    fs::write(&file, scenario).unwrap();
    fs::write(folder.path().join("script.sql"), "\\set a random(1, 100)\nINSERT INTO numbers VALUES (:a);\n").unwrap();
    fs::write(folder.path().join("setup.sql"), "CREATE TABLE numbers (number int);\n").unwrap();
    let done = loadtest(&file.display().to_string(), &state, &out).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stdout));
    RunResult::read(&out).unwrap()
}

const HEAD: &str = "name = \"test\"\nabout = \"A test.\"\n[cluster]\ntenants = 2\nclients = 2\n";

fn event(at: u32, what: &str) -> String {
    format!("[[events]]\nphase = \"faults\"\nat = \"{at}s\"\n{what}\n")
}

#[test]
fn whatever_is_done_to_a_cluster_loses_nothing() {
    let events = [
        event(1, "do = \"stop\"\npart = \"gateway\"\nfor = \"1s\""),
        event(3, "do = \"partition\"\nfor = \"1s\""),
        event(5, "do = \"lossy-link\"\nloss = 0.05\ndelay = \"5ms\"\nfor = \"2s\""),
        event(8, "do = \"slow-disk\"\ntenant = 0\ndelay = \"50ms\"\nfor = \"2s\""),
        event(11, "do = \"kill\"\npart = \"sidecar\"\ntenant = 0"),
        event(17, "do = \"kill\"\npart = \"database\"\ntenant = 0"),
        event(24, "do = \"leave\"\ntenant = 1\nfor = \"1s\""),
    ];
    let scenario = format!(
        "{HEAD}databases = \"each\"\n[work]\nkind = \"key-value\"\nwrites = 0.8\nrows = 100\ntimeout = \"15s\"\n[arrivals]\nrate = \
         40\n[[phases]]\nname = \"faults\"\nlength = \"32s\"\n{}",
        events.concat()
    );
    let result = run(&scenario);
    let ledger = result.ledger.as_ref().unwrap();
    assert!(ledger.is_sound() && ledger.acknowledged > 200, "{ledger:?}");
    assert_eq!(result.marks.len(), events.len(), "{:?}", result.marks);
    let [phase] = result.phases.as_slice() else { panic!("{:?}", result.phases) };
    let failed: u64 = phase.failed.values().sum();
    assert_eq!(phase.due, phase.done + failed, "what was due was done or has failed, with its reason");
    // While nothing passed, nothing was done; what was due meanwhile was late, and shows.
    assert!(phase.latency.max_us > 500_000, "{:?}", phase.latency.max_us);
    let servers = result.parts.iter().find(|part| part.kind == PartKind::Databases).map(|part| part.processes);
    assert_eq!(servers, Some(2), "each tenant has a server of its own");
}

#[test]
fn every_kind_of_work_works() {
    let script = "script\"\nscript = \"script.sql\"\nsetup = \"setup.sql";
    let mixed = "tpcb\"\n[[mixes]]\nkind = \"ping";
    for (kind, arrivals) in [
        ("copy", "rate = 4"),
        ("connect", "rate = 10"),
        (script, "rate = 20"),
        ("idle", "rate = 0"),
        (mixed, "rate = 40"),
    ] {
        let scenario = format!(
            "{HEAD}[work]\nkind = \"{kind}\"\nbytes = 1000000\n[arrivals]\n{arrivals}\n[[phases]]\nname = \"steady\"\nlength = \
             \"3s\"\n"
        );
        let result = run(&scenario);
        let total = &result.total;
        assert!(total.failed.is_empty() && total.due == total.done, "{kind}: {total:?}");
        match kind {
            "copy" => assert!(total.bytes >= total.done * 1_000_000, "{total:?}"),
            "connect" => assert!(total.connect.count >= total.done && total.done > 0, "{total:?}"),
            "idle" => assert_eq!((total.done, total.sessions), (0, 4), "{total:?}"),
            kind if kind == mixed => {
                let [writes, pings] = total.tenants.as_slice() else { panic!("{total:?}") };
                assert!(writes.done > 0 && pings.done > 0, "{total:?}");
                let ledger = result.ledger.as_ref().unwrap();
                assert!(ledger.is_sound() && ledger.acknowledged == writes.done, "only one of them writes: {ledger:?}");
            }
            _ => assert!(total.done > 0, "{total:?}"),
        }
    }
}

/// A fleet that somebody else runs, described as its operator would.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_there_is_worked_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_loadtest")).parent().unwrap();
    let programs = Programs::find(binaries, &repository()).unwrap();
    let site = FleetBuilder::new(programs, 1, 20).postgres(postgres().parse().unwrap()).open().unwrap();
    let fleet = site.build(|_| {}).await.unwrap();
    let target = described(&fleet, folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let settings = ["arrivals.rate=40", "work.rows=100", "cluster.clients=2"].map(|setting| ["--set", setting]);
    command.args(["run", "pool", "--seed", "7"]).args(settings.as_flattened()).arg("--target").arg(target);
    let out = folder.path().join("result.json");
    command.arg("--out").arg(&out).stdin(Stdio::null());
    let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stdout));

    let result = RunResult::read(&out).unwrap();
    assert_eq!((result.subject.databases.as_str(), result.subject.tenants), ("target", 1));
    assert!(result.total.failed.is_empty() && result.total.done == result.total.due, "{:?}", result.total);
    let ledger = result.ledger.as_ref().unwrap();
    assert!(ledger.is_sound() && ledger.acknowledged > 100, "{ledger:?}");
    let kinds: Vec<PartKind> = result.parts.iter().map(|part| part.kind).collect();
    assert_eq!(kinds, [PartKind::Generator], "the parts of others are not ours to look at");
    let left = processes(fleet.state().root());
    assert!(left.len() >= 4 && left.iter().all(runs), "nothing of it was stopped: {left:?}");
    fleet.stop().await.remove().unwrap();
}

/// The file that `--target` takes.
fn described(fleet: &Fleet, folder: &Path) -> PathBuf {
    let (member, platform) = (fleet.members().first().unwrap(), fleet.platform());
    let (user, secret) = member.login();
    let secret_file = folder.join("secret");
    fs::write(&secret_file, secret).unwrap();
    let text = format!(
        r#"
gateway = "{gateway}"
allow = ["127.0.0.1"]

[agent]
endpoint = "unix:{agent}"

[attestation]
root = "{root}"
kms_root = "{kms_root}"
collateral = "{collateral}"

[[tenants]]
host = "{host}"
app_id = "{app_id}"
user = "{user}"
secret_file = "{secret_file}"
database = "{database}"
"#,
        gateway = fleet.address(),
        agent = member.clients().socket().display(),
        root = platform.root().display(),
        kms_root = platform.kms_root().display(),
        collateral = platform.collateral().display(),
        host = member.host(),
        app_id = member.app_id(),
        secret_file = secret_file.display(),
        database = member.name(),
    );
    let file = folder.join("target.toml");
    fs::write(&file, text).unwrap();
    file
}
