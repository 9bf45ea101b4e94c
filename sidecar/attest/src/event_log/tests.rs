use proptest::prelude::*;

use super::*;

fn boot() -> Vec<Event> {
    vec![
        Event::runtime("system-preparing", b""),
        Event::runtime("app-id", &[0xa0; 20]),
        Event::runtime("compose-hash", &[0xc0; 32]),
        Event::runtime("instance-id", &[0x1d; 20]),
        Event::runtime("boot-mr-done", b""),
        Event::runtime("os-image-hash", &[0x05; 32]),
        Event::runtime("key-provider", br#"{"name":"kms","id":"00"}"#),
        Event::runtime("system-ready", b""),
    ]
}

fn second_version(name: &str, payload: &[u8]) -> Event {
    let mut event = Event { version: EventVersion::V2, ..Event::runtime(name, payload) };
    event.preimage = event.runtime_preimage();
    event.digest = event.runtime_digest().to_vec();
    event
}

#[test]
fn the_digests_are_those_of_a_real_guest() {
    // From the event log of a dstack guest whose RTMR3 was quoted.
    let digest = |name, payload: &str| hex::encode(Event::runtime(name, &hex::decode(payload).unwrap()).digest);
    assert_eq!(
        digest("system-preparing", ""),
        "f9974020ef507068183313d0ca808e0d1ca9b2d1ad0c61f5784e7157c362c06536f5ddacdad4451693f48fcc72fff624"
    );
    assert_eq!(
        digest("app-id", "3763bc34552cf3a27ff71ad5f7a90471562a1a2d"),
        "837c2dd72f8a4c740159e5e042ed79b7eaaa5ab3a151a45e27bc366bb8b27e6c3faec87aab1e95197d3e6d23308d448c"
    );
}

#[test]
fn a_version_2_digest_is_made_from_canonical_json() {
    let event = second_version("a \"name\"\n\u{1}é", &[0xab, 0xcd]);
    let expected = r#"{"name":"a \"name\"\n\u0001é","payload":"abcd","type":134217729}"#;
    assert_eq!(String::from_utf8(event.preimage.clone()).unwrap(), expected);
    assert_eq!(event.digest, Sha384::digest(expected).to_vec());
    assert!(EventLog(vec![event]).replay_rtmr3().is_ok());
}

#[test]
fn the_register_is_recomputed_from_payloads_whatever_digests_say() {
    let log = EventLog(boot());
    let by_hand = boot().iter().fold([0; 48], |register: [u8; 48], event| {
        Sha384::new().chain_update(register).chain_update(&event.digest).finalize().into()
    });
    assert_eq!(log.replay_rtmr3(), Ok(Register(by_hand)));

    let mut stripped = log.clone();
    stripped.0.iter_mut().for_each(|event| event.digest.clear());
    assert_eq!(stripped.replay_rtmr3(), log.replay_rtmr3());

    let mut forged = log;
    forged.0[2].event_payload = vec![0; 32];
    let altered = EventLogError::Altered { index: 2, name: "compose-hash".to_owned(), field: "digest" };
    assert_eq!(forged.replay_rtmr3(), Err(altered));

    let mut forged = EventLog(vec![second_version("app-id", &[1; 20])]);
    forged.0[0].preimage.push(b' ');
    forged.0[0].digest.clear();
    assert!(matches!(forged.replay_rtmr3(), Err(EventLogError::Altered { field: "preimage", .. })));
}

#[test]
fn versions_are_part_of_what_is_measured() {
    let first = EventLog(vec![Event { digest: Vec::new(), ..Event::runtime("app-id", &[1; 20]) }]);
    let second = EventLog(vec![Event { version: EventVersion::V2, ..first.0[0].clone() }]);
    assert_ne!(first.replay_rtmr3(), second.replay_rtmr3());
}

#[test]
fn other_registers_do_not_count_and_foreign_events_in_ours_do_not_pass() {
    let mut log = EventLog(boot());
    log.0.insert(0, Event { imr: 0, event_type: 4, digest: vec![9; 48], ..Event::runtime("app-id", &[2; 20]) });
    assert_eq!(log.replay_rtmr3(), EventLog(boot()).replay_rtmr3());
    assert_eq!(log.identity().unwrap().app_id.0, [0xa0; 20]);

    log.0.push(Event { event_type: 4, ..Event::runtime("x", b"") });
    assert_eq!(log.replay_rtmr3(), Err(EventLogError::ForeignEvent { index: 9, event_type: 4 }));
}

#[test]
fn identity_comes_from_boot_and_not_from_what_the_application_appends() {
    let mut events = boot();
    events.push(Event::runtime("app-id", &[0xbb; 20]));
    events.push(Event::runtime("compose-hash", &[0xbb; 32]));
    let identity = EventLog(events).identity().unwrap();
    assert_eq!(identity.app_id.0, [0xa0; 20]);
    assert_eq!(identity.compose_hash.0, [0xc0; 32]);
    assert_eq!(identity.instance_id.0, [0x1d; 20]);
    assert_eq!(identity.os_image_hash.unwrap().0, [0x05; 32]);
    assert_eq!(identity.key_provider, br#"{"name":"kms","id":"00"}"#);
}

#[test]
fn a_boot_that_is_not_over_identifies_nobody() {
    let mut events = boot();
    events.pop();
    assert_eq!(EventLog(events).identity(), Err(EventLogError::Missing("system-ready")));
    assert_eq!(EventLog::default().identity(), Err(EventLogError::Missing("system-ready")));
}

#[test]
fn identity_events_are_needed_once_and_in_full() {
    for name in ["app-id", "compose-hash", "instance-id"] {
        let without: Vec<Event> = boot().into_iter().filter(|event| event.event != name).collect();
        assert_eq!(EventLog(without).identity(), Err(EventLogError::Missing(name)));
    }
    for (name, expected) in [("app-id", 20), ("compose-hash", 32), ("instance-id", 20), ("os-image-hash", 32)] {
        let short =
            boot().into_iter().map(|event| if event.event == name { Event::runtime(name, b"x") } else { event });
        let wrong = EventLogError::WrongLength { name, found: 1, expected };
        assert_eq!(EventLog(short.collect()).identity(), Err(wrong));
    }
    for name in ["app-id", "compose-hash", "instance-id", "os-image-hash", "key-provider"] {
        let twice: Vec<Event> = boot()
            .into_iter()
            .flat_map(|event| {
                let times = if event.event == name { 2 } else { 1 };
                std::iter::repeat_n(event, times)
            })
            .collect();
        assert_eq!(EventLog(twice).identity(), Err(EventLogError::Duplicate(name)));
    }
    let mut without_optional = boot();
    without_optional.retain(|event| event.event != "os-image-hash" && event.event != "key-provider");
    let identity = EventLog(without_optional).identity().unwrap();
    assert_eq!((identity.os_image_hash, identity.key_provider), (None, Vec::new()));
}

#[test]
fn the_json_is_dstacks() {
    let log = EventLog(vec![Event::runtime("app-id", &[0xab; 2])]);
    let text = String::from_utf8(log.to_json().unwrap()).unwrap();
    let digest = hex::encode(&log.0[0].digest);
    assert_eq!(
        text,
        format!(r#"[{{"imr":3,"event_type":134217729,"digest":"{digest}","event":"app-id","event_payload":"abab"}}]"#)
    );
    let second = EventLog(vec![second_version("x", b"")]);
    assert!(String::from_utf8(second.to_json().unwrap()).unwrap().contains(r#""version":2"#));
    // Absent, null and empty mean the same, and unknown fields of later guests do no harm.
    let lax = br#"[{"imr":3,"event_type":134217729,"event":"x","event_payload":"","preimage":null,"later":1}]"#;
    assert_eq!(EventLog::from_json(lax).unwrap().0[0].event, "x");
    assert!(EventLog::from_json(br#"[{"imr":3,"event_type":1,"event":"x","event_payload":"","version":3}]"#).is_err());
}

#[test]
fn a_log_beyond_the_limits_is_refused() {
    assert!(matches!(EventLog::from_json(&vec![b' '; MAX_JSON_BYTES + 1]), Err(EventLogError::TooLarge { .. })));
    let event = r#"{"imr":0,"event_type":1,"event":"","event_payload":""}"#;
    let many = format!("[{}]", vec![event; MAX_EVENTS + 1].join(","));
    assert!(matches!(EventLog::from_json(many.as_bytes()), Err(EventLogError::TooLarge { unit: "events", .. })));
}

prop_compose! {
    fn any_event()(
        imr in 0..5_u32,
        event_type: u32,
        name: String,
        payload: Vec<u8>,
        second: bool,
        digest in prop::collection::vec(any::<u8>(), 0..50),
    ) -> Event {
        let version = if second { EventVersion::V2 } else { EventVersion::V1 };
        Event { imr, event_type, digest, event: name, event_payload: payload, version, preimage: Vec::new() }
    }
}

proptest! {
    #[test]
    fn every_log_survives_json(
        events in prop::collection::vec(any_event(), 0..8),
        end in any::<prop::sample::Index>(),
    ) {
        let log = EventLog(events);
        let json = log.to_json().unwrap();
        let read = EventLog::from_json(&json).unwrap();
        prop_assert_eq!(&read, &log);
        prop_assert!(EventLog::from_json(&json[..end.index(json.len())]).is_err());
        log.replay_rtmr3().map(drop).ok();
        log.identity().map(drop).ok();
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        EventLog::from_json(&bytes).map(drop).ok();
    }

    #[test]
    fn another_payload_gives_another_register(payload: Vec<u8>, other: Vec<u8>) {
        let replay = |payload: &[u8]| EventLog(vec![Event::runtime("x", payload)]).replay_rtmr3().unwrap();
        prop_assert_eq!(payload == other, replay(&payload) == replay(&other));
    }
}

#[test]
fn a_name_cut_at_another_colon_replays_but_identifies_nobody() {
    let mut log = EventLog(boot());
    let genuine = log.replay_rtmr3();
    // The same digest, but no longer an event called "key-provider".
    log.0[6] = Event::runtime(r#"key-provider:{"name""#, br#""kms","id":"00"}"#);
    assert_eq!(log.replay_rtmr3(), genuine);
    assert_eq!(log.identity(), Err(EventLogError::AmbiguousName { index: 6 }));
    // What the application appends later is its own business.
    let later = EventLog([boot(), vec![Event::runtime("app:event", b"")]].concat());
    assert!(later.identity().is_ok());
}
