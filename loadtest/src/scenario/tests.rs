use std::path::Path;

use super::*;

const SMALL: &str = "name = \"small\"\nabout = \"A test.\"\n[work]\nkind = \"key-value\"\n[arrivals]\nrate = 10\n[[phases]]\n\
                     name = \"steady\"\nlength = \"10s\"\n";

fn read(text: &str) -> Result<Scenario, String> {
    Scenario::read(text, &[], Path::new(".")).map_err(|problems| problems.to_string())
}

fn means() -> Means {
    Means { descriptors: 20_000, memory_mib: 24_000, disk_mib: 50_000, processes: 30_000, ports: 28_000 }
}

#[test]
fn every_shipped_scenario_is_in_order() {
    for shipped in SHIPPED {
        let scenario = read(shipped.text).unwrap_or_else(|error| panic!("{}:\n{error}", shipped.name));
        assert_eq!(scenario.name, shipped.name);
        assert_eq!(shortfalls(&scenario, &means()), Vec::<String>::new(), "{}", shipped.name);
        assert_eq!(Shipped::find(shipped.name), Some(*shipped));
    }
    assert_eq!(Shipped::find("nothing"), None);
}

/// The file that explains all keys has every key that there is, commented out or not, with its default.
#[test]
fn the_explained_scenario_names_every_key() {
    let pool = Shipped::find("pool").unwrap().text;
    let uncommented: String =
        pool.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).fold(String::new(), |all, line| {
            let is_setting =
                line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
                    || line.starts_with('[');
            if is_setting { all + line + "\n" } else { all }
        });
    for key in [
        "seed",
        "tenants",
        "clients",
        "databases",
        "gateways",
        "connections_per_app",
        "kind",
        "rows",
        "writes",
        "bytes",
        "timeout",
        "rate",
        "pace",
        "zipf",
        "tenant",
        "factor",
        "name",
        "length",
        "measured",
        "noisy",
        "phase",
        "at",
        "do",
        "part",
        "every",
        "away",
    ] {
        assert!(uncommented.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key} in\n{uncommented}");
    }
    assert!(uncommented.contains("[[mixes]]"));
    let (explained, defaults) = (read(pool).unwrap(), read(SMALL).unwrap());
    assert_eq!(explained.cluster, defaults.cluster);
    assert_eq!(explained.work, defaults.work);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "name = \"x\"\n[cluster]\ntenants = 501\nclients = 0\ndatabases = \"none\"\ngateways = 2\nnonsense = 1\n\
                [work]\nkind = \"magic\"\nwrites = 2.0\n[arrivals]\nrate = -1\npace = \"odd\"\nzipf = 11\n\
                [noisy]\ntenant = 900\nfactor = 0.5\nclients = 0\n\
                [[phases]]\nname = \"a\"\nlength = \"0s\"\n[[phases]]\nname = \"a\"\nlength = \"1s\"\n\
                [[events]]\nphase = \"b\"\nat = \"1s\"\ndo = \"dance\"\n";
    let error = read(text).unwrap_err();
    for place in [
        "about",
        "cluster.tenants",
        "cluster.clients",
        "cluster.databases",
        "cluster.gateways",
        "cluster.nonsense",
        "work.kind",
        "work.writes",
        "arrivals.rate",
        "arrivals.pace",
        "arrivals.zipf",
        "noisy.tenant",
        "noisy.factor",
        "noisy.clients",
        "phases[0].length",
        "phases[1].name",
        "events[0].phase",
        "events[0].do",
    ] {
        assert!(error.contains(place), "{place} in\n{error}");
    }
}

#[test]
fn events_that_make_no_sense_are_refused() {
    let with = |event: &str| read(&format!("{SMALL}[[events]]\nphase = \"steady\"\n{event}")).unwrap_err();
    for (event, said) in [
        ("at = \"9s\"\ndo = \"partition\"\nfor = \"2s\"", "would not be over"),
        ("at = \"1s\"\ndo = \"partition\"", "events[0].for"),
        ("at = \"1s\"\ndo = \"kill\"\npart = \"gateway\"\nfor = \"2s\"", "started again at once"),
        ("at = \"1s\"\ndo = \"kill\"\npart = \"moon\"", "events[0].part"),
        ("at = \"1s\"\ndo = \"revoke\"\ntenant = 3\nfor = \"1s\"", "3 tenants, counted from 0"),
        ("at = \"1s\"\ndo = \"slow-disk\"\ntenant = 0\ndelay = \"1s\"\nfor = \"1s\"", "at most 100ms"),
        ("at = \"1s\"\ndo = \"lossy-link\"\nloss = 1.5\nfor = \"1s\"", "events[0].loss"),
    ] {
        let error = with(event);
        assert!(error.contains(said), "{said} in\n{error}");
    }
    let two = "at = \"1s\"\ndo = \"partition\"\nfor = \"3s\"\n[[events]]\nphase = \"steady\"\nat = \"2s\"\ndo = \"kill\"\n\
               part = \"gateway\"\n";
    assert!(with(two).contains("has to be over when the next one begins"));
}

#[test]
fn keys_can_be_changed_from_outside() {
    let changes = [("cluster.tenants", "20"), ("name", "other"), ("phases[0].rate", "5")];
    let changes = changes.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let scenario = Scenario::read(SMALL, &changes, Path::new(".")).unwrap();
    assert_eq!((scenario.cluster.tenants, scenario.name.as_str(), scenario.phases[0].rate), (20, "other", Some(5.0)));
    assert_eq!(scenario.settings.get("cluster.tenants").map(String::as_str), Some("20"));
    assert_eq!(scenario.settings.get("phases[0].length").map(String::as_str), Some("10s"));
    let wrong = [("cluster.tennants".to_owned(), "20".to_owned())];
    let error = Scenario::read(SMALL, &wrong, Path::new(".")).unwrap_err().to_string();
    assert!(error.contains("did you mean `tenants`? (set by --set cluster.tennants)"), "{error}");
    // One mistake in [noisy] is not another one in whoever refers to it.
    let error = read(&format!("{SMALL}noisy = true\n[noisy]\nfactor = 3\n")).unwrap_err();
    assert!(error.contains("noisy.clients") && !error.contains("there is no section"), "{error}");
}

#[test]
fn a_script_is_read_with_the_scenario() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("good.sql"), "\\set a random(1, 9)\nSELECT :a;\n").unwrap();
    std::fs::write(folder.path().join("bad.sql"), "\\sleep 1\nSELECT 1;\n").unwrap();
    let with = |script: &str| {
        let text = SMALL.replace("\"key-value\"", &format!("\"script\"\nscript = \"{script}\""));
        Scenario::read(&text, &[], folder.path()).map_err(|problems| problems.to_string())
    };
    assert!(matches!(with("good.sql").unwrap().work.kind, WorkKind::Script { .. }));
    assert!(with("bad.sql").unwrap_err().contains("\\sleep is not supported"));
    assert!(with("none.sql").unwrap_err().contains("none.sql"));
}

#[test]
fn what_a_machine_cannot_do_is_told_with_what_to_change() {
    let big = [("cluster.tenants".to_owned(), "200".to_owned()), ("cluster.clients".to_owned(), "100".to_owned())];
    let scenario = Scenario::read(SMALL, &big, Path::new(".")).unwrap();
    let small = Means { descriptors: 5000, memory_mib: 2000, disk_mib: 1000, processes: 300, ports: 50 };
    let found = shortfalls(&scenario, &small).join("\n");
    for said in ["lower cluster.clients to 19", "MiB of memory", "MiB of disk", "processes", "50 ports"] {
        assert!(found.contains(said), "{said} in\n{found}");
    }
    let fast = SMALL.replace("\"key-value\"", "\"connect\"").replace("rate = 10", "rate = 30000");
    let found = shortfalls(&read(&fast).unwrap(), &means()).join("\n");
    assert!(found.contains("each for a minute"), "{found}");
    assert!(Means::here(Path::new("/")).descriptors > 0);
}

#[test]
fn tenants_take_turns_among_several_kinds_of_work() {
    let text =
        format!("{SMALL}[cluster]\ntenants = 5\n[[mixes]]\nkind = \"tpcb\"\nrows = 7\n[[mixes]]\nkind = \"copy\"\n");
    let scenario = read(&text.replace("\"key-value\"", "\"key-value\"\ntimeout = \"3s\"")).unwrap();
    let words: Vec<_> = (0..5).map(|tenant| scenario.work_of(tenant).kind.word()).collect();
    assert_eq!(words, ["key-value", "tpcb", "copy", "key-value", "tpcb"]);
    assert_eq!((scenario.work_of(1).rows, scenario.work_of(1).timeout), (7, Duration::from_secs(3)));
    for (work, mix, place) in [("key-value", "idle", "mixes[0].kind"), ("connect", "ping", "work.kind")] {
        let text = SMALL.replace("key-value", work) + &format!("[[mixes]]\nkind = \"{mix}\"\n");
        let error = read(&text).unwrap_err();
        assert!(error.contains(place) && error.contains("keep their sessions"), "{error}");
    }
    let wrong = read(&format!("{SMALL}[[mixes]]\nkind = \"ping\"\ntimeout = \"1s\"\nwrites = 7\n")).unwrap_err();
    assert!(wrong.contains("mixes[0].timeout") && wrong.contains("mixes[0].writes"), "{wrong}");
}

#[test]
fn who_leaves_is_chosen_by_the_seed() {
    let text = format!("{SMALL}[churn]\nevery = \"2s\"\naway = \"1s\"\n");
    let scenario = read(&text).unwrap();
    let leaving = |seed| scenario.churn.unwrap().events(seed, &scenario.phases, 3);
    assert_eq!(leaving(1), leaving(1));
    let times: Vec<u64> = leaving(1).iter().map(|event| event.at.as_secs()).collect();
    assert_eq!(times, [2, 4, 6, 8]);
    assert!(leaving(1).iter().all(|event| event.action.tenant().is_some_and(|tenant| tenant < 3)));
    assert!(read(&format!("{SMALL}[churn]\nevery = \"2s\"\naway = \"2s\"\n")).is_err());
}

#[test]
fn a_noisy_tenant_has_its_own_sessions_and_rate() {
    let text = format!("{SMALL}noisy = true\n[noisy]\ntenant = 1\nfactor = 10.0\nclients = 40\n");
    let scenario = read(&text).unwrap();
    assert_eq!((scenario.clients(0), scenario.clients(1), scenario.sessions()), (4, 40, 48));
    let load = scenario.load(&scenario.phases[0]);
    assert!((load.rate - 40.0).abs() < 1e-9, "{load:?}");
    assert_eq!((scenario.sessions_within(1, Some(8)), scenario.sessions_within(1, None)), (8, 40));
    assert_eq!(scenario.last_limit(), None);
    let limited = read(&format!("{SMALL}connections_per_app = 8\n")).unwrap();
    assert_eq!(limited.last_limit(), Some(8));
}
