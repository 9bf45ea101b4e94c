use super::*;

#[test]
fn every_figure_is_found() {
    let plan = Plan { removals: 1, sessions: 3, instances: 2, followed: 60, events: 1, lies: 1, checks: 100 };
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let view = runtime.block_on(view::measure(&plan)).unwrap();
    assert_eq!((view.reevaluation_s.len(), view.check_ns.len(), view.false_admissions), (2, 5, 0.0));
    // The gateway is another program, which may not be built when this is tested.
    let edge = revocation::Outcome { p50_ms: vec![1.0], p99_ms: vec![2.0], instance_bytes: vec![3.0], others: None };
    let report = report(&plan, view, edge);
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
