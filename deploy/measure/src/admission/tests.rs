use super::*;

#[test]
fn every_figure_is_found() {
    let parts = Part::value_variants().to_vec();
    let plan = Plan { parts, removals: 1, sessions: 3, instances: 2, followed: 60, events: 1, lies: 1, checks: 100 };
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let view = runtime.block_on(view::measure(&plan)).unwrap();
    assert_eq!((view.reevaluation_s.len(), view.check_ns.len(), &view.false_admissions), (2, 5, &vec![0.0]));
    // The gateway is another program, which may not be built when this is tested.
    let edge = revocation::Outcome { p50_ms: vec![1.0], p99_ms: vec![2.0], instance_bytes: vec![3.0], others: None };
    let report = report(&plan, &view, &edge);
    let names: Vec<_> = report.figures().map(|(name, _)| name).collect();
    let expected = [
        "revocation_p50_ms",
        "revocation_p99_ms",
        "reevaluate_10k_s",
        "admission_check_ns",
        "false_admissions",
        "instance_bytes",
    ];
    assert_eq!(names, expected, "{report}");
}

#[test]
fn a_part_that_is_left_out_has_no_figure() {
    let wish = Wish { parts: vec![Part::Memory] };
    let edge = revocation::Outcome { instance_bytes: vec![3.0], ..revocation::Outcome::default() };
    let report = report(&Plan::full(&wish), &view::Outcome::default(), &edge);
    assert_eq!(report.figures().map(|(name, _)| name).collect::<Vec<_>>(), ["instance_bytes"], "{report}");
}
