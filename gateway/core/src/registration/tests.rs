use super::*;
use crate::packets::NamedSize;
use crate::route::{Port, Route, Target};
use proptest::prelude::*;

const TIME_TO_LIVE: u64 = 60;
const NOW: u64 = 1_000;
const MTU: u16 = 1_420;

fn register() -> Register {
    let pool = AddressPool::new("10.0.0.0/24".parse().unwrap(), "10.0.0.1".parse().unwrap()).unwrap();
    Register::new(pool, [0xff; 32], PacketSizes::new(MTU, []), TIME_TO_LIVE)
}

fn claim(number: u8) -> Claim {
    Claim {
        app: AppId([0xaa; 20]),
        instance: InstanceId([number; 20]),
        key: [number; 32],
        sidecar_port: 5433,
        ports: BTreeMap::new(),
        block: 7,
        fingerprint: [9; 32],
        evidence_until: NOW + 3_600,
    }
}

fn id(number: u8) -> InstanceId {
    InstanceId([number; 20])
}

fn standing(register: &Register, number: u8) -> Option<Standing> {
    register.table().instances().find(|instance| instance.id == id(number)).map(|instance| instance.standing)
}

#[test]
fn a_first_registration_lets_the_key_in_and_opens_the_route() {
    let mut register = register();
    let (assignment, commands) = register.register(claim(5), Link(1), NOW).unwrap();
    assert_eq!(commands, [Command::SetPeer { key: [5; 32], address: assignment.address, mtu: MTU }]);
    let table = register.table();
    let route = Route { target: Target::App(AppId([0xaa; 20])), port: Port::Sidecar };
    let candidates = table.candidates(&route, |_| Ok(())).unwrap();
    assert_eq!(candidates[0].address, (assignment.address, 5433).into());
    assert_eq!(table.by_slot(assignment.slot).unwrap().id, id(5));
}

#[test]
fn a_renewal_keeps_everything_and_touches_no_tunnel() {
    let mut register = register();
    let (first, _) = register.register(claim(5), Link(1), NOW).unwrap();
    let generation = register.table().generation();
    let (second, commands) = register.register(claim(5), Link(1), NOW + 30).unwrap();
    assert_eq!((first, commands), (second, vec![]));
    assert_eq!(register.table().generation(), generation, "the table need not be made anew");
    register.unlinked(&id(5), Link(1));
    register.expire(NOW + TIME_TO_LIVE, |_| false);
    assert!(standing(&register, 5).is_some(), "its time starts over");
}

#[test]
fn a_later_block_alone_changes_nothing_that_connections_see() {
    let mut register = register();
    register.register(claim(5), Link(1), NOW).unwrap();
    let generation = register.table().generation();
    register.register(Claim { block: 8, ..claim(5) }, Link(1), NOW).unwrap();
    assert_eq!(register.allow(&id(5), 9, NOW), []);
    assert_eq!(register.table().generation(), generation);
}

#[test]
fn evidence_that_is_not_believed_any_more_shuts_out_until_other_evidence_comes() {
    let mut register = register();
    register.register(claim(5), Link(1), NOW).unwrap();
    register.register(claim(5), Link(2), NOW).unwrap();
    assert_eq!(register.disbelieve(&id(5), Link(1)), [], "newer evidence came by another connection");
    let expected = [Command::CutSessions { instance: id(5) }, Command::RemovePeer { key: [5; 32] }];
    assert_eq!(register.disbelieve(&id(5), Link(2)), expected);
    assert_eq!(register.allow(&id(5), 9, NOW), [], "the chain's word does not stand for evidence");
    assert_eq!(standing(&register, 5), Some(Standing::Refused));
    register.register(claim(5), Link(3), NOW).unwrap();
    assert_eq!(standing(&register, 5), Some(Standing::Admitted { block: 7 }));
}

#[test]
fn a_new_key_replaces_the_old_tunnel_and_its_sessions() {
    let mut register = register();
    let (assignment, _) = register.register(claim(5), Link(1), NOW).unwrap();
    let (same, commands) = register.register(Claim { key: [6; 32], ..claim(5) }, Link(2), NOW).unwrap();
    assert_eq!(same, assignment);
    let expected = [
        Command::CutSessions { instance: id(5) },
        Command::RemovePeer { key: [5; 32] },
        Command::SetPeer { key: [6; 32], address: assignment.address, mtu: MTU },
    ];
    assert_eq!(commands, expected);
    assert!(register.register(claim(5), Link(3), NOW).is_ok(), "the old key is free again");
}

#[test]
fn identities_and_keys_cannot_be_taken_over() {
    let mut register = register();
    register.register(claim(5), Link(1), NOW).unwrap();
    let other_app = Claim { app: AppId([0xbb; 20]), ..claim(5) };
    assert_eq!(register.register(other_app, Link(2), NOW), Err(RegistrationError::InstanceOfAnotherApp));
    let other_key = Claim { key: [5; 32], ..claim(6) };
    assert_eq!(register.register(other_key, Link(3), NOW), Err(RegistrationError::KeyInUse));
    for key in [[0; 32], [0xff; 32]] {
        let unusable = Claim { key, ..claim(6) };
        assert_eq!(register.register(unusable, Link(4), NOW), Err(RegistrationError::KeyUnusable));
    }
    assert_eq!(standing(&register, 6), None);
}

#[test]
fn impossible_ports_and_old_evidence_are_refused() {
    let mut register = register();
    let refused = |register: &mut Register, claim| register.register(claim, Link(1), NOW).unwrap_err();
    assert_eq!(refused(&mut register, Claim { sidecar_port: 0, ..claim(1) }), RegistrationError::Port);
    let zero = Claim { ports: BTreeMap::from([(0, true)]), ..claim(1) };
    assert_eq!(refused(&mut register, zero), RegistrationError::Port);
    let old = Claim { evidence_until: NOW, ..claim(1) };
    assert_eq!(refused(&mut register, old), RegistrationError::EvidenceExpired);
}

#[test]
fn a_full_network_refuses_and_says_so() {
    let pool = AddressPool::new("10.0.0.0/30".parse().unwrap(), "10.0.0.1".parse().unwrap()).unwrap();
    let mut register = Register::new(pool, [0xff; 32], PacketSizes::new(MTU, []), TIME_TO_LIVE);
    register.register(claim(1), Link(1), NOW).unwrap();
    assert_eq!(register.register(claim(2), Link(2), NOW), Err(RegistrationError::Full));
}

#[test]
fn a_revocation_cuts_and_shuts_out_and_a_restoration_lets_in_again() {
    let mut register = register();
    let (assignment, _) = register.register(claim(5), Link(1), NOW).unwrap();
    let cut = [Command::CutSessions { instance: id(5) }, Command::RemovePeer { key: [5; 32] }];
    assert_eq!(register.refuse(&id(5)), cut);
    assert_eq!(standing(&register, 5), Some(Standing::Refused));
    assert_eq!(register.refuse(&id(5)), [], "twice is once");
    let back = [Command::SetPeer { key: [5; 32], address: assignment.address, mtu: MTU }];
    assert_eq!(register.allow(&id(5), 9, NOW + 10), back);
    assert_eq!(standing(&register, 5), Some(Standing::Admitted { block: 9 }));
    assert_eq!(register.allow(&id(5), 10, NOW + 11), [], "already in");
}

#[test]
fn a_revoked_instance_that_registers_again_once_allowed_gets_its_tunnel_back() {
    let mut register = register();
    let (assignment, _) = register.register(claim(5), Link(1), NOW).unwrap();
    register.refuse(&id(5));
    let (same, commands) = register.register(claim(5), Link(2), NOW).unwrap();
    assert_eq!(
        (same, commands),
        (assignment, vec![Command::SetPeer { key: [5; 32], address: assignment.address, mtu: MTU }])
    );
}

#[test]
fn a_restoration_needs_evidence_that_still_holds() {
    let mut register = register();
    register.register(claim(5), Link(1), NOW).unwrap();
    register.refuse(&id(5));
    assert_eq!(register.allow(&id(5), 9, NOW + 3_600), []);
    assert_eq!(standing(&register, 5), Some(Standing::Refused));
}

#[test]
fn a_lost_connection_leaves_the_route_until_the_time_to_live_is_over() {
    let mut register = register();
    register.register(claim(5), Link(1), NOW).unwrap();
    let alive = |register: &Register| register.table().instances().next().map(|instance| instance.alive);
    assert_eq!(alive(&register), Some(true));
    register.unlinked(&id(5), Link(1));
    assert_eq!(alive(&register), Some(false));
    let (gone, commands) = register.expire(NOW + TIME_TO_LIVE - 1, |_| false);
    assert_eq!((gone, commands), (vec![], vec![]));
    let (gone, commands) = register.expire(NOW + TIME_TO_LIVE, |_| false);
    assert_eq!(gone, [id(5)]);
    assert_eq!(commands, [Command::CutSessions { instance: id(5) }, Command::RemovePeer { key: [5; 32] }]);
    assert_eq!(alive(&register), None);
}

#[test]
fn an_open_connection_or_live_sessions_keep_a_member() {
    let mut register = register();
    register.register(claim(5), Link(1), NOW).unwrap();
    register.register(claim(5), Link(2), NOW).unwrap();
    register.unlinked(&id(5), Link(1));
    assert_eq!(register.expire(NOW + TIME_TO_LIVE, |_| false).0, [], "the second connection is open");
    register.unlinked(&id(5), Link(2));
    assert_eq!(register.expire(NOW + TIME_TO_LIVE, |_| true).0, [], "sessions go through it");
    assert_eq!(register.expire(NOW + TIME_TO_LIVE, |_| false).0, [id(5)]);
}

#[test]
fn expired_evidence_ends_the_membership_of_the_liveliest_instance() {
    let mut register = register();
    register.register(claim(5), Link(1), NOW).unwrap();
    let (gone, commands) = register.expire(NOW + 3_600, |_| true);
    assert_eq!(gone, [id(5)]);
    assert_eq!(commands, [Command::CutSessions { instance: id(5) }, Command::RemovePeer { key: [5; 32] }]);
}

#[test]
fn slots_and_addresses_are_distinct_and_come_back_after_memory_loss() {
    let ids: Vec<u8> = (1..100).collect();
    let mut before = register();
    let given: BTreeMap<u8, Assignment> =
        ids.iter().map(|number| (*number, before.register(claim(*number), Link(1), NOW).unwrap().0)).collect();
    let slots: BTreeSet<Slot> = given.values().map(|assignment| assignment.slot).collect();
    let addresses: BTreeSet<IpAddr> = given.values().map(|assignment| assignment.address).collect();
    assert_eq!((slots.len(), addresses.len()), (ids.len(), ids.len()));
    let mut after = register();
    assert_eq!(after.register(claim(42), Link(1), NOW).unwrap().0.slot, given[&42].slot);
}

#[test]
fn no_instance_has_the_slot_of_nobody() {
    let mut register = register();
    for head in [0, 1, Slot::MAX - 1, Slot::MAX, Slot::MAX + 1, 2 * Slot::MAX, u32::MAX] {
        let mut instance = InstanceId([9; 20]);
        instance.0[..4].copy_from_slice(&head.to_be_bytes());
        let mut key = [9; 32];
        key[..4].copy_from_slice(&head.to_be_bytes());
        let (assignment, _) = register.register(Claim { instance, key, ..claim(1) }, Link(1), NOW).unwrap();
        assert_ne!(assignment.slot, Slot::NONE, "{head}");
        assert_eq!(register.table().by_slot(assignment.slot).unwrap().id, instance);
    }
}

#[test]
fn every_change_is_a_new_generation() {
    let mut register = register();
    let mut last = register.table().generation();
    let mut grew = |register: &Register| {
        let now = register.table().generation();
        now > std::mem::replace(&mut last, now)
    };
    register.register(claim(5), Link(1), NOW).unwrap();
    assert!(grew(&register));
    register.unlinked(&id(5), Link(1));
    assert!(grew(&register));
    register.refuse(&id(5));
    assert!(grew(&register));
    register.allow(&id(5), 8, NOW);
    assert!(grew(&register));
    register.register(Claim { block: 9, ..claim(5) }, Link(2), NOW).unwrap();
    assert!(grew(&register), "alive again");
    register.unlinked(&id(5), Link(2));
    assert!(grew(&register));
    register.expire(NOW + TIME_TO_LIVE, |_| false);
    assert!(grew(&register));
}

#[test]
fn what_changes_nothing_is_no_new_generation() {
    let mut register = register();
    register.register(claim(5), Link(1), NOW).unwrap();
    let before = register.table().generation();
    register.register(claim(5), Link(1), NOW + 30).unwrap();
    register.register(claim(5), Link(2), NOW + 60).unwrap();
    register.unlinked(&id(5), Link(1));
    register.unlinked(&id(5), Link(9));
    register.allow(&id(5), claim(5).block, NOW + 60);
    register.refuse(&id(6));
    register.expire(NOW + 61, |_| false);
    assert_eq!(register.table().generation(), before);
}

/// Something that can happen to a register.
#[derive(Debug, Clone)]
enum Event {
    Register { instance: u8, key: u8, link: u64 },
    Unlinked { instance: u8, link: u64 },
    Refuse(u8),
    Allow(u8),
    Later(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1u8..5, 1u8..6, 0u64..4).prop_map(|(instance, key, link)| Event::Register { instance, key, link }),
        2 => (1u8..5, 0u64..4).prop_map(|(instance, link)| Event::Unlinked { instance, link }),
        2 => (1u8..5).prop_map(Event::Refuse),
        2 => (1u8..5).prop_map(Event::Allow),
        1 => (1u64..90).prop_map(Event::Later),
    ];
    prop::collection::vec(event, 1..60)
}

proptest! {
    /// Whoever performs the commands has, after each of them, exactly the admitted members in the tunnel.
    #[test]
    fn the_commands_keep_the_tunnel_in_step_with_the_table(events in events()) {
        let mut register = register();
        let mut shown = register.table().clone();
        let mut peers: BTreeMap<TunnelKey, IpAddr> = BTreeMap::new();
        let mut now = NOW;
        for event in events {
            let commands = match event {
                Event::Register { instance, key, link } => {
                    let claim = Claim { key: [key; 32], evidence_until: now + 100, ..claim(instance) };
                    register.register(claim, Link(link), now).map(|(_, commands)| commands).unwrap_or_default()
                }
                Event::Unlinked { instance, link } => {
                    register.unlinked(&id(instance), Link(link));
                    Vec::new()
                }
                Event::Refuse(instance) => register.refuse(&id(instance)),
                Event::Allow(instance) => register.allow(&id(instance), 9, now),
                Event::Later(seconds) => {
                    now += seconds;
                    register.expire(now, |_| false).1
                }
            };
            for command in commands {
                match command {
                    Command::SetPeer { key, address, .. } => {
                        prop_assert_eq!(peers.insert(key, address), None, "nobody is let in twice");
                    }
                    Command::RemovePeer { key } => prop_assert!(peers.remove(&key).is_some(), "who is shut out was in"),
                    Command::CutSessions { .. } => {}
                }
            }
            let table = register.table();
            let changed = !table.instances().eq(shown.instances());
            prop_assert_eq!(table.generation() > shown.generation(), changed, "a generation is a change of the table");
            shown = table.clone();
            let admitted = table.instances().filter(|at| at.standing != Standing::Refused);
            let addresses: BTreeSet<IpAddr> = admitted.map(|at| at.address).collect();
            prop_assert_eq!(addresses, peers.values().copied().collect::<BTreeSet<_>>());
            let slots: BTreeSet<Slot> = table.instances().map(|at| at.slot).collect();
            prop_assert_eq!(slots.len(), table.instances().count());
        }
    }
}

#[test]
fn members_are_let_in_with_the_size_of_packets_that_is_theirs() {
    let pool = AddressPool::new("10.0.0.0/24".parse().unwrap(), "10.0.0.1".parse().unwrap()).unwrap();
    let sizes = PacketSizes::new(MTU, [NamedSize { id: [6; 20], mtu: 1_300 }]);
    let mut register = Register::new(pool, [0xff; 32], sizes, TIME_TO_LIVE);
    let mtu = |commands: &[Command]| match commands {
        [Command::SetPeer { mtu, .. }] => *mtu,
        others => panic!("{others:?}"),
    };
    for (number, size) in [(5, MTU), (6, 1_300)] {
        let (_, commands) = register.register(claim(number), Link(number.into()), NOW).unwrap();
        assert_eq!(mtu(&commands), size);
        register.refuse(&id(number));
        assert_eq!(mtu(&register.allow(&id(number), 9, NOW)), size, "when it is let in again");
    }
}
