use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};

use super::*;

const KMS: Address = Address::repeat_byte(1);
const APP: Address = Address::repeat_byte(2);
const KMS_CODE: Pin = Pin { address: Address::repeat_byte(3), code_hash: B256::repeat_byte(0x33) };
const APP_CODE: Pin = Pin { address: Address::repeat_byte(4), code_hash: B256::repeat_byte(0x44) };
const PROXY: B256 = B256::repeat_byte(0x55);

fn boot() -> BootInfo {
    BootInfo {
        app_id: AppId(APP.into_array()),
        compose_hash: ComposeHash([6; 32]),
        instance_id: InstanceId([7; 20]),
        device_id: DeviceId([8; 32]),
        mr_aggregated: [9; 32],
        mr_system: [9; 32],
        os_image_hash: OsImageHash([10; 32]),
        tcb_status: UP_TO_DATE.to_owned(),
        advisory_ids: Vec::new(),
    }
}

fn pins() -> Pins {
    Pins { proxies: [PROXY].into(), kms: vec![KMS_CODE], apps: vec![APP_CODE] }
}

/// A state in which everything that is wanted is zero, up to these values.
fn state(values: &[(Address, B256, U256)]) -> State {
    let mut state = State::default();
    for (address, slots) in wanted(KMS, &pins(), [&boot()].into_iter()) {
        let pinned = [KMS_CODE, APP_CODE].into_iter().find(|pin| pin.address == address);
        let code_hash = pinned.map_or(PROXY, |pin| pin.code_hash);
        state.add(address, code_hash, slots.into_iter().map(|slot| (slot, U256::ZERO)));
    }
    let code = |pin: Pin| U256::from_be_bytes(pin.address.into_word().0);
    state.add(KMS, PROXY, [(IMPLEMENTATION, code(KMS_CODE))]);
    state.add(APP, PROXY, [(IMPLEMENTATION, code(APP_CODE))]);
    for (address, slot, value) in values {
        state.add(*address, PROXY, [(*slot, *value)]);
    }
    state
}

/// The values with which the workload is allowed.
fn allowing() -> Vec<(Address, B256, U256)> {
    let yes = U256::from(1);
    vec![
        (KMS, entry(REGISTERED_APPS, APP.into_word()), yes),
        (KMS, entry(OS_IMAGES, B256::repeat_byte(10)), yes),
        (APP, entry(COMPOSE_HASHES, B256::repeat_byte(6)), yes),
        (APP, entry(DEVICES, B256::repeat_byte(8)), yes),
    ]
}

fn decide(values: &[(Address, B256, U256)]) -> Option<Decision> {
    state(values).decide(KMS, &pins(), &boot())
}

#[test]
fn names_lead_to_the_slots_of_their_standards() {
    let erc1967 = U256::from_be_bytes(keccak256("eip1967.proxy.implementation").0) - U256::from(1);
    assert_eq!(IMPLEMENTATION, B256::from(erc1967));
    let id = U256::from_be_bytes(keccak256("openzeppelin.storage.Pausable").0) - U256::from(1);
    let erc7201 = U256::from_be_bytes(keccak256(id.to_be_bytes::<32>()).0) & !U256::from(0xff);
    assert_eq!(PAUSED, B256::from(erc7201));
}

#[test]
fn the_slots_are_those_of_the_written_layout() {
    let slots = |layout: &'static str| -> BTreeMap<&str, (u8, usize)> {
        let fields = layout.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        fields.map(|of| (of[4], (of[0].parse().unwrap(), of[1].parse().unwrap()))).collect()
    };
    let kms = slots(include_str!("../../../../layout/KmsAuth.tsv"));
    assert_eq!(kms["registeredApps"], (REGISTERED_APPS, 0));
    assert_eq!(kms["allowedOsImages"], (OS_IMAGES, 0));
    assert_eq!(kms["deregisteredApps"], (DEREGISTERED_APPS, 0));
    let app = slots(include_str!("../../../../layout/AppAuth.tsv"));
    assert_eq!(app["allowedComposeHashes"], (COMPOSE_HASHES, 0));
    assert_eq!(app["allowAnyDevice"], (FLAGS, ANY_DEVICE));
    assert_eq!(app["allowedDeviceIds"], (DEVICES, 0));
    assert_eq!(app["requireTcbUpToDate"], (REQUIRE_TCB, 0));
}

#[test]
fn each_rule_refuses_in_the_contracts_words() {
    assert_eq!(decide(&allowing()), Some(Decision::Allowed));
    let yes = U256::from(1);
    let cases = [
        ((KMS, PAUSED, yes), "KMS is paused"),
        ((KMS, entry(REGISTERED_APPS, APP.into_word()), U256::ZERO), "App not registered"),
        ((KMS, entry(DEREGISTERED_APPS, APP.into_word()), yes), "App not registered"),
        ((KMS, entry(OS_IMAGES, B256::repeat_byte(10)), U256::ZERO), "OS image is not allowed"),
        ((APP, PAUSED, yes), "App is paused"),
        ((APP, entry(COMPOSE_HASHES, B256::repeat_byte(6)), U256::ZERO), "Compose hash not allowed"),
        ((APP, entry(DEVICES, B256::repeat_byte(8)), U256::ZERO), "Device not allowed"),
    ];
    for (value, reason) in cases {
        assert_eq!(decide(&[allowing(), vec![value]].concat()), Some(Decision::refused(reason)));
    }
    let any_device = [(APP, entry(DEVICES, B256::repeat_byte(8)), U256::ZERO), (APP, slot(FLAGS), U256::from(0x0100))];
    assert_eq!(decide(&[allowing(), any_device.to_vec()].concat()), Some(Decision::Allowed));
    let final_only = [any_device[0], (APP, slot(FLAGS), yes)];
    assert_eq!(
        decide(&[allowing(), final_only.to_vec()].concat()),
        Some(Decision::refused("Device not allowed")),
        "the flag beside it is another"
    );
    let demanding = [allowing(), vec![(APP, slot(REQUIRE_TCB), yes)]].concat();
    assert_eq!(decide(&demanding), Some(Decision::Allowed));
    let behind = BootInfo { tcb_status: "OutOfDate".to_owned(), ..boot() };
    assert_eq!(
        state(&demanding).decide(KMS, &pins(), &behind),
        Some(Decision::refused("TCB status is not up to date"))
    );
}

#[test]
fn other_code_is_not_read() {
    let elsewhere = U256::from_be_bytes(Address::repeat_byte(9).into_word().0);
    assert_eq!(decide(&[allowing(), vec![(KMS, IMPLEMENTATION, elsewhere)]].concat()), None);
    assert_eq!(decide(&[allowing(), vec![(APP, IMPLEMENTATION, elsewhere)]].concat()), None);
    // An implementation of the one kind in the place of the other.
    let kms_code = U256::from_be_bytes(KMS_CODE.address.into_word().0);
    assert_eq!(decide(&[allowing(), vec![(APP, IMPLEMENTATION, kms_code)]].concat()), None);
    // The upper bytes of the slot are no part of an address.
    let padded = kms_code | (U256::from(1) << 200);
    assert_eq!(decide(&[allowing(), vec![(KMS, IMPLEMENTATION, padded)]].concat()), None);
    let changes: [fn(&mut Pins); 3] = [
        |pins| pins.proxies = [B256::repeat_byte(0x66)].into(),
        |pins| pins.kms[0].code_hash = B256::repeat_byte(0x66),
        |pins| pins.apps[0].code_hash = B256::repeat_byte(0x66),
    ];
    for change in changes {
        let mut pins = pins();
        change(&mut pins);
        assert_eq!(state(&allowing()).decide(KMS, &pins, &boot()), None);
    }
    assert_eq!(State::default().decide(KMS, &pins(), &boot()), None);
}

#[test]
fn an_address_without_code_is_no_app() {
    let mut state = state(&allowing());
    state.accounts.insert(APP, Known { code_hash: KECCAK_EMPTY, slots: BTreeMap::new() });
    assert_eq!(state.decide(KMS, &pins(), &boot()), Some(Decision::refused("App not deployed or invalid address")));
}
