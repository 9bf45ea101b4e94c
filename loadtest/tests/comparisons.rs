//! Whole clusters that are compared: with other edges, and with what a plan foretells. The programs are found as in
//! cluster.rs; HAProxy and nginx are Debian's.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]
#![expect(clippy::print_stdout, reason = "what clusters are like is worth a look, and no condition of a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use loadtest::result::{PartKind, RunResult};

/// Where Debian has PostgreSQL's programs, which are not on PATH.
fn postgres() -> String {
    let releases = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folder = releases.map(|release| release.path().join("bin")).find(|folder| folder.join("initdb").is_file());
    folder.map_or("path".to_owned(), |folder| folder.display().to_string())
}

/// A few queries of so many tenants.
fn scenario(tenants: u32) -> String {
    format!(
        r#"
name = "small"
about = "A few queries."

[cluster]
tenants = {tenants}
clients = 2

[work]
kind = "key-value"
rows = 100
writes = 0.2

[arrivals]
rate = {rate}

[[phases]]
name = "steady"
length = "2s"
"#,
        rate = 30 * tenants
    )
}

/// What the program prints, when it succeeds.
fn loadtest(arguments: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap();
    let (told, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}\n{told}");
    told.into_owned()
}

/// Puts a scenario on a cluster of its own, or on several.
fn drive(command: &str, folder: &Path, tenants: u32, out: &str) -> String {
    let file = folder.join(format!("{tenants}.toml"));
    fs::write(&file, scenario(tenants)).unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let [file, repository, out] = [&file, repository, &folder.join(out)].map(|path| path.to_str().unwrap().to_owned());
    let options = ["--seed", "7", "--postgres", &postgres(), "--repository", &repository, "--out", &out];
    loadtest(&[[command, &file].as_slice(), &options].concat())
}

#[test]
fn every_edge_does_the_same_work_and_what_it_lacks_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let told = drive("peers", folder.path(), 2, "small.json");
    assert!(told.contains("| | gateway | haproxy | nginx | direct | gateway / haproxy |"), "{told}");
    assert!(told.contains("- What nginx does not do") && told.contains("is spared WireGuard's work"), "{told}");
    println!("{told}");

    let mut due = BTreeMap::new();
    for edge in ["gateway", "haproxy", "nginx", "direct"] {
        let result = RunResult::read(&folder.path().join(format!("small.{edge}.1.json"))).unwrap();
        assert_eq!(result.subject.edge, edge);
        assert!(result.ledger.as_ref().unwrap().is_sound() && result.total.failed.is_empty(), "{edge}: {result:?}");
        let edges = result.parts.iter().filter(|part| part.kind == PartKind::Edge);
        let memory: f64 = edges.map(|part| part.peak_memory_mib).sum();
        assert_eq!(memory > 0.0, edge != "direct", "{edge} has {memory} MiB");
        due.insert(edge, result.total.due);
    }
    let first = due.values().next().unwrap();
    assert!(due.values().all(|due| due == first), "the same seed is the same work: {due:?}");
}

#[test]
fn a_plan_says_by_how_much_it_is_off_at_three_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for tenants in [1, 3, 6] {
        let out = format!("{tenants}.json");
        drive("run", folder.path(), tenants, &out);
        files.push(folder.path().join(out).to_str().unwrap().to_owned());
    }
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let told = loadtest(&[["plan", "--check"].as_slice(), &files].concat());
    println!("{told}");
    for tenants in [1, 3, 6] {
        for what in
            ["processors of the edge", "memory of the edge", "processors of the sidecars", "memory of the sidecars"]
        {
            assert!(told.contains(&format!("| small, {tenants} tenants | {what}")), "{told}");
        }
    }
    assert!(told.contains("The error is ") && !told.contains("NaN") && !told.contains("inf"), "{told}");
    let compared = loadtest(&["compare", files[0], files[0]]);
    assert!(compared.ends_with("verdict: same\n"), "{compared}");
}
