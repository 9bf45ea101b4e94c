use super::*;

fn latency(micros: &[u64]) -> Latency {
    let mut histogram = empty_histogram();
    micros.iter().for_each(|micros| histogram.record(*micros).unwrap());
    Latency::of(&histogram)
}

fn phase(name: &str, tenants: &[(&str, u64, u64)]) -> Phase {
    let tenants: Vec<TenantPhase> = tenants
        .iter()
        .map(|(tenant, done, micros)| TenantPhase {
            tenant: (*tenant).to_owned(),
            noisy: false,
            disturbed: false,
            share: 0.5,
            due: *done,
            done: *done,
            failed: 0,
            latency: latency(&[*micros]),
        })
        .collect();
    Phase {
        name: name.to_owned(),
        kind: PhaseKind::Measured,
        begins_s: 3.0,
        seconds: 10.0,
        due: 30,
        done: 20,
        failed: BTreeMap::from([("late".to_owned(), 10)]),
        connect_failed: BTreeMap::new(),
        bytes: 5,
        sessions: 4,
        per_second: 2.0,
        latency: latency(&[100, 200]),
        connect: Latency::default(),
        fairness: Fairness::of(&tenants),
        tenants,
    }
}

#[test]
fn phases_add_up() {
    let (one, two) = (phase("one", &[("a", 1, 100), ("b", 2, 300)]), phase("two", &[("a", 3, 900), ("b", 4, 300)]));
    let total = total(&[&one, &two]);
    assert_eq!((total.due, total.done, total.bytes, total.sessions), (60, 40, 10, 4));
    assert_eq!(total.failed, BTreeMap::from([("late".to_owned(), 20)]));
    assert!((total.per_second - 2.0).abs() < 1e-9 && (total.seconds - 20.0).abs() < 1e-9);
    assert_eq!(total.latency.count, 4);
    let [a, b] = total.tenants.as_slice() else { panic!("{:?}", total.tenants) };
    assert_eq!((a.done, b.done, a.latency.count), (4, 6, 2));
    assert_eq!(total.fairness.worst_tenant, "a");
}

#[test]
fn nothing_adds_up_to_nothing() {
    let nothing = total(&[]);
    assert_eq!((nothing.done, nothing.latency.count), (0, 0));
    assert!(nothing.per_second.abs() < 1e-9);
}

#[test]
fn a_generator_that_is_late_or_takes_half_of_the_machine_is_the_limit() {
    let (late, in_time) = (latency(&[LATE_US * 2]), latency(&[100]));
    assert!(is_limit(&late, 0.1, false) && is_limit(&late, 0.1, true));
    assert!(is_limit(&in_time, 0.6, false) && !is_limit(&in_time, 0.4, false));
    assert!(!is_limit(&in_time, 0.9, true), "an echo works in this program");
}
