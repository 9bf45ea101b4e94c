use super::*;

#[test]
fn every_figure_is_found() {
    // At a pace that the slowest machine keeps.
    let plan = Plan { rounds: 1, batch: 1, loaded_rounds: 1, strangers: 3, rate: 2.0 };
    let report = run(&plan).unwrap();
    let names: Vec<_> = report.figures().map(|(name, _)| name).collect();
    let expected = ["ratls_warm_over_mtls", "appraisal_cold_us", "server_flight_bytes", "live_p99_under_cold_load_us"];
    assert_eq!(names, expected, "{report}");
}
