use clap::Parser as _;

use super::*;
use crate::report::example;

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
}

fn planned(line: &str) -> (String, bool) {
    let arguments = Command::try_parse_from(std::iter::once("plan").chain(line.split_whitespace())).unwrap().arguments;
    plan(&arguments).unwrap()
}

#[test]
fn a_hundred_thousand_tenants_are_sized_and_simulated() {
    let (text, suffices) = planned("--tenants 100000 --gateways 50");
    assert!(suffices, "{text}");
    assert!(text.contains("## Size: 50 gateways, as asked for"));
    assert!(text.contains("40 gateways are left"));
    assert!(text.contains("100,000 CVMs, 50 gateways, in virtual time"));
    assert!(text.contains("| a region is lost (10 gateways) |") && !text.contains("never"), "{text}");
    let small = "--tenants 2000 --gateways 5";
    assert_eq!(planned(small), planned(small), "the same seed gives the same plan");
    assert_ne!(planned(small), planned(&format!("{small} --seed 2")));
}

#[test]
fn a_fleet_that_does_not_suffice_is_told_with_what_is_scarce() {
    let (text, suffices) = planned("--tenants 9000 --sessions 1 --gateways 2 --regions 1");
    assert!(!suffices);
    assert!(text.contains("**Too little: registration connections"), "{text}");
    assert!(text.contains("| never |") && text.contains("the gateway held as many registrations as it may"), "{text}");
    let (text, suffices) = planned("--tenants 9000 --regions 1");
    assert!(suffices && text.contains("the fewest that suffice"), "{text}");
}

#[test]
fn predictions_are_printed_with_their_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result.json");
    example::result().write(&file).unwrap();
    let (text, _) = planned(&format!("--check {0} {0} {0}", file.display()));
    assert_eq!(text.matches("| pool, 4 tenants | processors of the edge |").count(), 3, "{text}");
    assert!(text.contains("The error is "));
}

#[test]
fn unit_costs_can_be_printed_and_given_back() {
    let (text, _) = planned("--print-costs");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("costs.toml");
    std::fs::write(&file, text).unwrap();
    let own = planned(&format!("--tenants 10 --costs {}", file.display()));
    assert_eq!(own, planned("--tenants 10"));
    std::fs::write(&file, "[gateway]\n").unwrap();
    let arguments = Command::try_parse_from(["plan", "--tenants", "1", "--costs", file.to_str().unwrap()]).unwrap();
    assert!(plan(&arguments.arguments).is_err());
}

#[test]
fn nonsense_is_refused_by_the_command_line() {
    for line in [vec!["plan"], vec!["plan", "--tenants", "0"], vec!["plan", "--tenants", "5", "--sessions", "-1"]] {
        assert!(Command::try_parse_from(line).is_err());
    }
}
