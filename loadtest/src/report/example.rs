//! Results for tests.

use std::collections::BTreeMap;

use crate::result::*;

/// A run of 30 s on four tenants, in which the gateway was killed once and a link was lossy.
pub(crate) fn result() -> RunResult {
    let latency = latency(24_000, 1_000);
    let tenant = |number: u64| TenantPhase {
        tenant: format!("t{number:03}"),
        noisy: false,
        disturbed: false,
        share: 0.25,
        due: 6_000,
        done: 6_000,
        failed: 0,
        latency: self::latency(6_000, 1_000 + 10 * number),
    };
    let total = Phase {
        name: "steady".to_owned(),
        kind: PhaseKind::Measured,
        begins_s: 5.0,
        seconds: 25.0,
        due: 24_000,
        done: 24_000,
        failed: Reasons::new(),
        bytes: 0,
        sessions: 16,
        per_second: 800.0,
        latency,
        connect: self::latency(16, 4_000),
        connect_failed: Reasons::new(),
        fairness: Fairness { jain: 0.9995, worst_tenant: "t003".into(), worst_p99_us: 3_090, median_p99_us: 3_045 },
        tenants: (0..4).map(tenant).collect(),
    };
    let warm_up =
        Phase { name: "warm-up".to_owned(), kind: PhaseKind::WarmUp, begins_s: 0.0, seconds: 5.0, ..total.clone() };
    RunResult {
        ledger: Some(Ledger { acknowledged: 9_000, unknown: 3, unknown_found: 1, ..Ledger::default() }),
        phases: vec![warm_up, total.clone()],
        total,
        seconds: (0..30).map(second).collect(),
        marks: vec![
            mark(12.0, Some(14.0), MarkKind::Kill, "the gateway was killed and started again"),
            mark(20.0, None, MarkKind::LossyLink, "1 % of packets is lost from here on"),
        ],
        parts: vec![
            part("gateway", PartKind::Edge, 3.0),
            part("sidecars", PartKind::Sidecars, 6.0),
            part("databases", PartKind::Databases, 9.0),
            part("load generator", PartKind::Generator, 4.5),
        ],
        generator: Generator { p50_error_us: 20, p99_error_us: 400, max_error_us: 2_000, saturated: false },
        measures: BTreeMap::from([("revocation_cut_p99_ms".to_owned(), 180.0)]),
        ..empty()
    }
}

/// A run in which nothing happened.
pub(crate) fn empty() -> RunResult {
    let total = Phase {
        name: "all".to_owned(),
        kind: PhaseKind::Measured,
        begins_s: 0.0,
        seconds: 0.0,
        due: 0,
        done: 0,
        failed: Reasons::new(),
        bytes: 0,
        sessions: 0,
        per_second: 0.0,
        latency: Latency::default(),
        connect: Latency::default(),
        connect_failed: Reasons::new(),
        fairness: Fairness::default(),
        tenants: Vec::new(),
    };
    RunResult {
        schema: SCHEMA,
        started: 1_800_000_000,
        seed: 7,
        scenario: ScenarioRecord {
            name: "pool".into(),
            about: "Steady queries on sessions that are kept.".into(),
            settings: BTreeMap::from([("load.rate".to_owned(), "800".to_owned())]),
        },
        subject: Subject {
            edge: "gateway".into(),
            commit: Some("0123abc".into()),
            build: "release".into(),
            versions: BTreeMap::from([("postgres".to_owned(), "17.10".to_owned())]),
            tenants: 4,
            clients_per_tenant: 4,
            gateways: 1,
            datapath: crate::Datapath::Netstack,
            databases: "shared".into(),
            startup_seconds: 3.5,
        },
        machine: Machine { model: "a processor".into(), cores: 2, memory_mib: 24_000, ..Machine::default() },
        phases: Vec::new(),
        total,
        seconds: Vec::new(),
        marks: Vec::new(),
        parts: Vec::new(),
        generator: Generator::default(),
        ledger: None,
        measures: BTreeMap::new(),
        failures: Vec::new(),
        notes: Vec::new(),
    }
}

/// So many latencies around a median, of which one in fifty is ten times as long.
fn latency(count: u64, median: u64) -> Latency {
    let mut histogram = empty_histogram();
    for number in 0..count {
        let us = median * (80 + number % 41) / 100;
        histogram.record(if number % 50 == 0 { us * 10 } else { us }).unwrap();
    }
    Latency::of(&histogram)
}

fn second(number: u32) -> Second {
    let done = if number == 12 { 200 } else { 800 + u64::from(number % 7) };
    Second {
        second: number,
        phase: u32::from(number >= 5),
        due: 800,
        done,
        failed: if number == 12 { BTreeMap::from([("closed".to_owned(), 16)]) } else { Reasons::new() },
        sessions: 16,
        p50_us: 1_000 + u64::from(number % 5) * 10,
        p99_us: if number == 12 { 900_000 } else { 9_000 + u64::from(number % 4) * 100 },
        max_us: if number == 12 { 1_400_000 } else { 12_000 },
    }
}

fn mark(at_s: f64, until_s: Option<f64>, kind: MarkKind, text: &str) -> Mark {
    Mark { at_s, until_s, kind, target: "gateway".to_owned(), text: text.to_owned() }
}

fn part(name: &str, kind: PartKind, cpu_seconds: f64) -> Part {
    let sample = |second: u32| {
        let wave = 1.0 + 0.1 * f64::from(second % 3);
        PartSample { at_s: f64::from(second) + 1.0, cpu: cpu_seconds / 25.0 * wave, memory_mib: 40.0 }
    };
    Part {
        name: name.to_owned(),
        kind,
        processes: 1,
        cpu_seconds,
        peak_memory_mib: 40.0,
        samples: (0..30).map(sample).collect(),
    }
}
