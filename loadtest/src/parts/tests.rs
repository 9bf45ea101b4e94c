use super::*;

fn look(at_s: u64, edge_cpu: f64, busy: f64) -> Look {
    let edge = Usage { processes: 1, cpu: edge_cpu };
    Look { at: Duration::from_secs(at_s), parts: BTreeMap::from([(PartKind::Edge, edge)]), busy: Some(busy) }
}

fn weight(at_s: u64, edge_mib: f64) -> Weight {
    Weight { at: Duration::from_secs(at_s), parts: BTreeMap::from([(PartKind::Edge, edge_mib)]) }
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
    let looks = vec![look(0, 0.0, 0.0), look(1, 0.5, 1.0), look(2, 1.5, 3.0)];
    let seen = Seen { looks, weights: vec![weight(0, 10.0), weight(1, 30.0), weight(3, 20.0)] };
    let measured = [(Duration::from_secs(1), Duration::from_secs(2))];
    let parts = seen.parts(&measured);
    let [edge] = parts.as_slice() else { panic!("{parts:?}") };
    assert!((edge.cpu_seconds - 1.0).abs() < 1e-9 && (edge.peak_memory_mib - 30.0).abs() < 1e-9);
    let cpu: Vec<f64> = edge.samples.iter().map(|sample| sample.cpu).collect();
    assert_eq!(cpu, [0.5, 1.0]);
    let memory: Vec<f64> = edge.samples.iter().map(|sample| sample.memory_mib).collect();
    assert_eq!(memory, [30.0, 30.0]);
    // Two seconds of the machine in one, of which the edge had one, on four processors.
    assert!(seen.others(&measured, 4).is_some_and(|others| (others - 0.25).abs() < 1e-9));
    assert!(seen.busy(&measured, 4).is_some_and(|busy| (busy - 0.5).abs() < 1e-9));
    assert_eq!(Seen { looks: Vec::new(), weights: Vec::new() }.others(&measured, 4), None);
}

#[test]
fn looks_that_follow_each_other_at_once_tell_no_rate() {
    let at_once = Look { at: Duration::from_millis(1_010), ..look(1, 0.6, 0.0) };
    let looks = vec![look(0, 0.0, 0.0), look(1, 0.5, 0.0), at_once, look(2, 1.0, 0.0)];
    let seen = Seen { looks, weights: Vec::new() };
    let parts = seen.parts(&[(Duration::ZERO, Duration::from_secs(2))]);
    let cpu: Vec<f64> = parts.iter().flat_map(|part| part.samples.iter().map(|sample| sample.cpu)).collect();
    assert!(cpu.len() == 2 && cpu.iter().all(|cpu| *cpu < 1.0), "{cpu:?}");
}

#[test]
fn a_process_that_begins_anew_has_not_gained_time() {
    let seen = Seen { looks: vec![look(0, 5.0, 0.0), look(1, 0.1, 0.0)], weights: Vec::new() };
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

/// A family whose members come and go: what each took is neither lost nor counted twice, whenever one looks.
#[test]
fn the_time_of_a_family_only_grows_while_its_members_end() {
    let work = "for n in 1 2 3 4 5 6 7 8; do (i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done) & done; wait";
    let mut family = std::process::Command::new("/bin/sh").args(["-c", work]).spawn().unwrap();
    let mut most = 0.0;
    loop {
        // While it is not waited for, it can be read.
        let ended = std::fs::read_to_string(format!("/proc/{}/stat", family.id())).unwrap().contains(") Z ");
        let Usage { cpu, .. } = usage(family.id(), true);
        assert!(cpu >= most, "{cpu} after {most}");
        most = cpu;
        if ended {
            break;
        }
    }
    family.wait().unwrap();
    assert!(most > 0.0);
}
