use super::*;

fn look(at_s: u64, edge_cpu: f64, memory: f64, busy: f64) -> Look {
    let edge = Usage { processes: 1, cpu: edge_cpu, memory };
    Look { at: Duration::from_secs(at_s), parts: BTreeMap::from([(PartKind::Edge, edge)]), busy: Some(busy) }
}

#[test]
fn processes_are_known_by_their_names() {
    let kind = |line| parse(line, Front::default()).map(|(kind, _)| kind);
    assert_eq!(kind("7 100 gateway"), Some(PartKind::Edge));
    assert_eq!(kind("7 100 gateway-agent"), Some(PartKind::Simulated));
    assert_eq!(kind("7 100 t004-sidecar"), Some(PartKind::Sidecars));
    assert_eq!(kind("7 100 postgres-004"), Some(PartKind::Databases));
    assert_eq!(kind("7 100 anvil"), Some(PartKind::Chain));
    assert_eq!(kind("nonsense"), None);
}

#[test]
fn cpu_is_counted_within_the_measured_times_only() {
    let seen = Seen(vec![look(0, 0.0, 10.0, 0.0), look(1, 0.5, 30.0, 1.0), look(2, 1.5, 20.0, 3.0)]);
    let measured = [(Duration::from_secs(1), Duration::from_secs(2))];
    let parts = seen.parts(&measured);
    let [edge] = parts.as_slice() else { panic!("{parts:?}") };
    assert!((edge.cpu_seconds - 1.0).abs() < 1e-9 && (edge.peak_memory_mib - 30.0).abs() < 1e-9);
    let cpu: Vec<f64> = edge.samples.iter().map(|sample| sample.cpu).collect();
    assert_eq!(cpu, [0.5, 1.0]);
    // Two seconds of the machine in one, of which the edge had one, on four processors.
    assert!(seen.others(&measured, 4).is_some_and(|others| (others - 0.25).abs() < 1e-9));
    assert!(seen.busy(&measured, 4).is_some_and(|busy| (busy - 0.5).abs() < 1e-9));
    assert_eq!(Seen(Vec::new()).others(&measured, 4), None);
}

#[test]
fn looks_that_follow_each_other_at_once_tell_no_rate() {
    let at_once = Look { at: Duration::from_millis(1_010), ..look(1, 0.6, 1.0, 0.0) };
    let seen = Seen(vec![look(0, 0.0, 1.0, 0.0), look(1, 0.5, 1.0, 0.0), at_once, look(2, 1.0, 1.0, 0.0)]);
    let parts = seen.parts(&[(Duration::ZERO, Duration::from_secs(2))]);
    let cpu: Vec<f64> = parts.iter().flat_map(|part| part.samples.iter().map(|sample| sample.cpu)).collect();
    assert!(cpu.len() == 2 && cpu.iter().all(|cpu| *cpu < 1.0), "{cpu:?}");
}

#[test]
fn a_process_that_begins_anew_has_not_gained_time() {
    let seen = Seen(vec![look(0, 5.0, 1.0, 0.0), look(1, 0.1, 1.0, 0.0)]);
    let parts = seen.parts(&[(Duration::ZERO, Duration::from_secs(1))]);
    assert!(parts.iter().all(|part| part.cpu_seconds >= 0.0 && part.samples.iter().all(|sample| sample.cpu >= 0.0)));
}

#[test]
fn a_watch_sees_this_process() {
    let watch = Watch::start(None, Instant::now(), Front::default()).unwrap();
    let seen = watch.finish();
    let parts = seen.parts(&[]);
    assert!(parts.iter().any(|part| part.kind == PartKind::Generator && part.peak_memory_mib > 1.0), "{parts:?}");
}
