use super::*;

fn example() -> RunResult {
    let mut histogram = empty_histogram();
    histogram.record_n(1000, 99).unwrap();
    histogram.record(50_000).unwrap();
    let phase = Phase {
        name: "steady".to_owned(),
        kind: PhaseKind::Measured,
        begins_s: 5.0,
        seconds: 10.0,
        due: 101,
        done: 100,
        failed: BTreeMap::from([("tls".to_owned(), 1)]),
        connect_failed: BTreeMap::new(),
        bytes: 0,
        sessions: 4,
        per_second: 10.0,
        latency: Latency::of(&histogram),
        connect: Latency::default(),
        fairness: Fairness { jain: 1.0, worst_tenant: "t000".into(), worst_p99_us: 3000, median_p99_us: 1000 },
        tenants: Vec::new(),
    };
    let subject = Subject {
        edge: "gateway".into(),
        commit: None,
        build: "debug".into(),
        versions: BTreeMap::new(),
        tenants: 2,
        clients_per_tenant: 2,
        gateways: 1,
        datapath: Datapath::Netstack,
        databases: "shared".into(),
        startup_seconds: 3.5,
    };
    RunResult {
        schema: SCHEMA,
        started: 1_800_000_000,
        seed: 7,
        scenario: ScenarioRecord { name: "pool".into(), about: "Steady.".into(), settings: BTreeMap::new() },
        subject,
        machine: Machine::default(),
        phases: vec![Phase { kind: PhaseKind::WarmUp, ..phase.clone() }, phase.clone()],
        total: phase,
        seconds: vec![Second { second: 0, done: 10, ..Second::default() }],
        marks: vec![Mark {
            at_s: 1.0,
            until_s: None,
            kind: MarkKind::LossyLink,
            target: "gateway".into(),
            text: "1 %".into(),
        }],
        parts: Vec::new(),
        generator: Generator::default(),
        ledger: Some(Ledger::default()),
        measures: BTreeMap::new(),
        failures: Vec::new(),
        notes: Vec::new(),
    }
}

#[test]
fn a_result_reads_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.json");
    let written = example();
    written.write(&path).unwrap();
    assert_eq!(RunResult::read(&path).unwrap(), written);
    assert_eq!(written.measured().count(), 1, "warm-up is not measured");
}

#[test]
fn other_files_are_told_from_results() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.json");
    let newer = RunResult { schema: SCHEMA + 1, ..example() };
    newer.write(&path).unwrap();
    let error = RunResult::read(&path).unwrap_err();
    assert!(error.to_string().contains("schema is 2"), "{error}");
    assert_eq!(error.exit_code(), postern_plumbing::exit::DATA);
    fs::write(&path, "{}").unwrap();
    assert!(matches!(RunResult::read(&path), Err(Failure::NotAResult { .. })));
    assert!(matches!(RunResult::read(&folder.path().join("none")), Err(Failure::File { .. })));
}

#[test]
fn a_latency_holds_the_whole_histogram() {
    let mut histogram = empty_histogram();
    for value in [100, 200, 300, 90_000] {
        histogram.record(value).unwrap();
    }
    let latency = Latency::of(&histogram);
    assert_eq!(latency.histogram().unwrap(), histogram);
    assert_eq!((latency.count, latency.p50_us), (4, 200));
    assert_eq!(latency.table.last().map(|line| line.us), Some(latency.max_us));
    assert_eq!(Latency::of(&empty_histogram()), Latency::default());
    assert!(Latency::default().histogram().unwrap().is_empty());
    for broken in ["1", "1:", "a:1", "1:2:3"] {
        assert_eq!(Latency { buckets: broken.to_owned(), ..Latency::default() }.histogram(), None, "{broken}");
    }
}

#[test]
fn the_worst_tenant_is_told_in_relation_to_the_others() {
    let fairness = example().total.fairness;
    assert!((fairness.worst_over_median() - 3.0).abs() < 1e-9);
    assert!(Fairness::default().worst_over_median().abs() < 1e-9);
}
