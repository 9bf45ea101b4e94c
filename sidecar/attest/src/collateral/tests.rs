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

/// When the set was in force.
const NOW: u64 = 1_751_000_000;

fn real() -> QuoteCollateralV3 {
    serde_json::from_value(set()).unwrap()
}

fn verified(change: impl FnOnce(&mut QuoteCollateralV3)) -> Result<(), CollateralError> {
    let mut set = real();
    change(&mut set);
    let mut collateral = Collateral::default();
    collateral.insert(set)?;
    collateral.verify(&TrustRoot::intel(), NOW)
}

#[test]
fn intels_own_collateral_verifies_while_it_is_in_force() {
    assert_eq!(verified(|_| {}), Ok(()));
    let mut v5 = Collateral::default();
    v5.insert(serde_json::from_slice(include_bytes!("../../testdata/tdx_quote_td15ex_collateral.json")).unwrap())
        .unwrap();
    assert_eq!(v5.verify(&TrustRoot::intel(), 1_792_000_000), Ok(()));
    let mut collateral = Collateral::default();
    let fmspc = collateral.insert(real()).unwrap();
    let window = collateral.windows().next().unwrap().1;
    for now in [window.from - 1, window.until] {
        let (from, until) = (window.from, window.until);
        let refused = collateral.verify(&TrustRoot::intel(), now);
        assert_eq!(refused, Err(CollateralError::NotCurrent { fmspc, from, until, now }));
    }
}

#[test]
fn collateral_of_a_liar_is_told_by_its_part() {
    let lied = |change: fn(&mut QuoteCollateralV3)| match verified(change) {
        Err(CollateralError::Unverified { part, detail }) => (part, detail),
        other => panic!("{other:?}"),
    };
    let signature = "its signature does not fit";
    assert_eq!(lied(|set| set.tcb_info = set.tcb_info.replace("OutOfDate", "UpToDate")), ("TCB info", signature));
    assert_eq!(lied(|set| set.tcb_info_signature[9] ^= 1), ("TCB info", signature));
    assert_eq!(lied(|set| set.qe_identity.push(' ')), ("QE identity", signature));
    assert_eq!(lied(|set| set.qe_identity_signature.clear()), ("QE identity", signature));
    assert_eq!(lied(|set| *set.pck_crl.last_mut().unwrap() ^= 1), ("PCK CRL", signature));
    assert_eq!(lied(|set| *set.root_ca_crl.last_mut().unwrap() ^= 1), ("root CRL", signature));
    assert_eq!(lied(|set| set.root_ca_crl.push(0)), ("root CRL", "bytes follow it"));
    assert_eq!(lied(|set| set.root_ca_crl = set.pck_crl.clone()), ("root CRL", "it has another issuer"));
    assert_eq!(lied(|set| set.pck_crl = set.root_ca_crl.clone()), ("PCK CRL", "it has another issuer"));
    // An authority for machines does not speak about TCBs, and who does is no authority.
    let kind = "its signer is of the wrong kind";
    assert_eq!(lied(|set| set.tcb_info_issuer_chain = set.pck_crl_issuer_chain.clone()), ("TCB info", kind));
    assert_eq!(lied(|set| set.pck_crl_issuer_chain = set.tcb_info_issuer_chain.clone()), ("PCK CRL", kind));
    assert_eq!(lied(|set| set.qe_identity_issuer_chain.clear()), ("QE identity", "its chain holds no certificate"));
    let impostor = |set: &mut QuoteCollateralV3| {
        set.tcb_info_issuer_chain = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem();
    };
    assert_eq!(lied(impostor), ("TCB info", "its signer is not one of the root's"));
}

#[test]
fn under_another_root_nothing_verifies() {
    let other = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.der().to_vec();
    let mut collateral = Collateral::default();
    collateral.insert(real()).unwrap();
    let refused = collateral.verify(&TrustRoot::from_der(other).unwrap(), NOW);
    assert_eq!(refused, Err(CollateralError::Unverified { part: "root CRL", detail: "it has another issuer" }));
}

#[test]
fn the_dates_of_the_parts_are_told() {
    let collateral = read(&json!({ "collateral": [set()] })).unwrap();
    let (fmspc, issued) = collateral.issued().next().unwrap();
    assert_eq!(issued.tcb_evaluation_number, 17);
    assert_eq!(issued.newest_date(), collateral.windows().next().unwrap().1.from);
    assert_eq!(collateral.only(fmspc), Some(collateral.clone()));
    assert_eq!(collateral.only(Fmspc([1; 6])), None);
    assert_eq!(fmspc.to_string().parse(), Ok(fmspc));
}

#[test]
fn merging_keeps_what_is_newer_to_us() {
    let mut all = Collateral::default();
    all.merge(read(&json!({ "collateral": [set()] })).unwrap());
    let mut other = real();
    other.tcb_info = other.tcb_info.replace("B0C06F000000", "010203040506");
    let mut more = Collateral::default();
    more.insert(other).unwrap();
    all.merge(more.clone());
    all.merge(more);
    assert_eq!(all.windows().count(), 2);
}
