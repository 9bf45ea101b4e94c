use serde_json::{Value, json};

use super::*;

fn set() -> Value {
    serde_json::from_slice(include_bytes!("../../testdata/tdx_quote_collateral.json")).unwrap()
}

fn read(bundle: &Value) -> Result<Collateral, CollateralError> {
    Collateral::from_json(bundle.to_string().as_bytes())
}

fn with(field: &str, value: &str) -> Result<Collateral, CollateralError> {
    let mut set = set();
    set[field] = json!(value);
    read(&json!({ "collateral": [set] }))
}

#[test]
fn a_bundle_survives_writing() {
    let collateral = read(&json!({ "collateral": [set()] })).unwrap();
    assert_eq!(Collateral::from_json(&collateral.to_json().unwrap()), Ok(collateral));
}

#[test]
fn what_is_no_bundle_is_refused() {
    assert_eq!(read(&json!({ "collateral": [] })), Err(CollateralError::Empty));
    assert!(matches!(read(&json!([set()])), Err(CollateralError::Json(_))));
    assert!(matches!(read(&json!({ "collateral": [set()], "other": 1 })), Err(CollateralError::Json(_))));
    assert!(matches!(Collateral::from_json(&vec![b' '; MAX_BUNDLE_BYTES + 1]), Err(CollateralError::TooLarge(_))));
    let twice = read(&json!({ "collateral": [set(), set()] })).unwrap_err();
    assert_eq!(twice, CollateralError::Duplicate(Fmspc([0xb0, 0xc0, 0x6f, 0, 0, 0])));
    assert!(twice.to_string().contains("B0C06F000000"));
}

#[test]
fn the_part_that_cannot_be_read_is_named() {
    let named = |field: &str, value: &str| match with(field, value) {
        Err(CollateralError::Part { part, .. }) => part,
        other => panic!("{other:?}"),
    };
    assert_eq!(named("tcb_info", "{}"), "TCB info");
    assert_eq!(named("qe_identity", "{}"), "QE identity");
    assert_eq!(named("pck_crl", "3000"), "PCK CRL");
    assert_eq!(named("root_ca_crl", ""), "root CRL");
    let info = set()["tcb_info"].as_str().unwrap().to_owned();
    assert_eq!(named("tcb_info", &info.replace("B0C06F000000", "B0")), "TCB info's FMSPC");
    assert_eq!(named("tcb_info", &info.replace("2025-06-19T10:16:03Z", "yesterday")), "TCB info");
    let enclaves = with("tcb_info", &info.replacen(r#""TDX""#, r#""SGX""#, 1));
    assert_eq!(enclaves, Err(CollateralError::NotTdx("SGX".to_owned())));
}

#[test]
fn a_certificate_chain_of_one_machine_is_not_kept_for_others() {
    let with_chain: QuoteCollateralV3 =
        serde_json::from_slice(include_bytes!("../../testdata/tdx_quote_td15ex_collateral.json")).unwrap();
    assert!(with_chain.pck_certificate_chain.is_some());
    let mut collateral = Collateral::default();
    let fmspc = collateral.insert(with_chain).unwrap();
    assert_eq!(collateral.of(fmspc).unwrap().0.pck_certificate_chain, None);
}
