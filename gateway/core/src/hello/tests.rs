use super::*;
use crate::fixture::{
    Hides, PUBLIC_NAME, grease, handmade, hello, hello_that_hides, hellos, message, records, server_names,
    signature_algorithms,
};
use proptest::prelude::*;
use rustls::server::Acceptor;

const NAME: &str = "a.postern.test";

fn peeked(wire: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    peek(wire, DEFAULT_MAX)
}

fn named(entries: &[(u8, &[u8])]) -> Result<Option<ClientHello>, HelloError> {
    peeked(&handmade(&[server_names(entries), signature_algorithms()]))
}

/// What a rustls server reads of the same bytes: the name, or that it refuses.
enum Oracle {
    Waits,
    Refuses,
    Accepts(Option<String>),
}

fn oracle(wire: &[u8]) -> Oracle {
    let mut acceptor = Acceptor::default();
    let mut rest = wire;
    loop {
        match acceptor.accept() {
            Err(_) => return Oracle::Refuses,
            Ok(Some(accepted)) => return Oracle::Accepts(accepted.client_hello().server_name().map(str::to_owned)),
            Ok(None) if rest.is_empty() => return Oracle::Waits,
            Ok(None) => {
                acceptor.read_tls(&mut rest).unwrap();
            }
        }
    }
}

/// Whatever we accept the server accepts too, and both see the same name.
fn agrees_with_the_server(wire: &[u8]) -> Result<(), TestCaseError> {
    let Ok(Some(hello)) = peeked(wire) else { return Ok(()) };
    match oracle(&wire[..hello.length]) {
        Oracle::Accepts(name) => prop_assert_eq!(name.as_deref(), Some(hello.server_name.as_str())),
        Oracle::Waits => prop_assert!(false, "we accept what the server finds incomplete"),
        Oracle::Refuses => prop_assert!(false, "we accept what the server refuses"),
    }
    Ok(())
}

#[test]
fn a_post_quantum_hello_is_larger_than_a_segment_and_is_read() {
    let wire = hello(NAME);
    assert!(wire.len() > 1_400, "the share of X25519MLKEM768 alone has 1216 bytes");
    let found = peeked(&wire).unwrap().unwrap();
    assert_eq!(found.server_name.as_str(), NAME);
    assert_eq!((found.alpn.len(), found.encrypted, found.length), (0, false, wire.len()));
}

#[test]
fn bytes_behind_the_hello_are_left_alone() {
    let mut wire = hello(NAME);
    let length = wire.len();
    wire.extend([20, 3, 3, 0, 1, 1]);
    assert_eq!(peeked(&wire).unwrap().unwrap().length, length);
}

#[test]
fn the_order_of_alpn_is_kept_and_ech_is_noticed() {
    let alpn = (16, vec![0, 14, 10, b'p', b'o', b's', b't', b'g', b'r', b'e', b's', b'q', b'l', 2, b'h', b'2']);
    let ech = (0xfe0d, vec![0, 0, 1, 0, 1, 9, 0, 0, 0, 1, 5]);
    let wire = handmade(&[server_names(&[(0, b"A.Postern.Test")]), signature_algorithms(), alpn, ech]);
    let found = peeked(&wire).unwrap().unwrap();
    assert_eq!(found.server_name.as_str(), NAME);
    assert_eq!(found.alpn, [b"postgresql".to_vec(), b"h2".to_vec()]);
    assert!(found.encrypted);
    agrees_with_the_server(&wire).unwrap();
}

#[test]
fn a_hidden_name_is_not_known_and_the_one_that_is_shown_counts() {
    let hidden = hello_that_hides(NAME, Hides::ItsName);
    assert!(!hidden.windows(NAME.len()).any(|window| window == NAME.as_bytes()));
    let found = peeked(&hidden).unwrap().unwrap();
    assert_eq!((found.server_name.as_str(), found.encrypted), (PUBLIC_NAME, true));
    let pretended = hello_that_hides(NAME, Hides::NothingButPretends);
    let found = peeked(&pretended).unwrap().unwrap();
    assert_eq!((found.server_name.as_str(), found.encrypted), (NAME, true));
    for wire in [hidden, pretended] {
        assert!(wire.len() > 1_400, "it is post-quantum as well");
        for size in [1, 100, 1 << 14] {
            agrees_with_the_server(&records(&message(&wire), size)).unwrap();
        }
    }
}

#[test]
fn values_that_mean_nothing_are_borne() {
    let mut extensions = grease();
    extensions.insert(1, server_names(&[(0, NAME.as_bytes())]));
    extensions.push(signature_algorithms());
    let wire = handmade(&extensions);
    assert_eq!(peeked(&wire).unwrap().unwrap().server_name.as_str(), NAME);
    agrees_with_the_server(&wire).unwrap();
}

#[test]
fn names_that_could_be_read_in_two_ways_are_refused() {
    assert_eq!(named(&[(0, b"a.test"), (0, b"b.test")]), Err(HelloError::ServerNameList));
    assert_eq!(named(&[(0, b"a.test"), (1, b"b.test")]), Err(HelloError::ServerNameList));
    assert_eq!(named(&[(1, b"a.test")]), Err(HelloError::ServerNameList));
    assert_eq!(named(&[]), Err(HelloError::Malformed));
    let twice = handmade(&[server_names(&[(0, b"a.test")]), signature_algorithms(), server_names(&[(0, b"b.test")])]);
    assert_eq!(peeked(&twice), Err(HelloError::DuplicateExtension));
    let unknown_twice = [server_names(&[(0, b"a.test")]), (0x0a0a, vec![]), signature_algorithms(), (0x0a0a, vec![])];
    assert_eq!(peeked(&handmade(&unknown_twice)), Err(HelloError::DuplicateExtension));
}

#[test]
fn names_that_are_no_host_names_are_refused() {
    assert_eq!(named(&[(0, b"a\0.test")]), Err(HelloError::ServerName(HostNameError::Label)));
    assert_eq!(named(&[(0, b"192.0.2.1")]), Err(HelloError::ServerName(HostNameError::IpAddress)));
    assert_eq!(named(&[(0, b"a.test.")]), Err(HelloError::ServerName(HostNameError::TrailingDot)));
    assert_eq!(named(&[(0, b"")]), Err(HelloError::ServerName(HostNameError::Empty)));
}

#[test]
fn what_a_server_needs_must_be_there() {
    assert_eq!(peeked(&handmade(&[signature_algorithms()])), Err(HelloError::MissingServerName));
    assert_eq!(peeked(&handmade(&[])), Err(HelloError::MissingServerName));
    assert_eq!(peeked(&handmade(&[server_names(&[(0, b"a.test")])])), Err(HelloError::MissingSignatureAlgorithms));
}

#[test]
fn extensions_of_the_wrong_shape_are_refused() {
    let wrong: [(u16, Vec<u8>); 8] = [
        (10, vec![0, 3, 0, 29, 0]),
        (10, vec![0, 0]),
        (16, vec![0, 1, 0]),
        (23, vec![0]),
        (43, vec![3, 3, 4, 3]),
        (51, vec![0, 5, 0, 29, 0, 9, 1]),
        (0xfe0d, vec![2]),
        (0xff01, vec![1]),
    ];
    for (kind, body) in wrong {
        let wire = handmade(&[server_names(&[(0, b"a.test")]), signature_algorithms(), (kind, body)]);
        assert_eq!(peeked(&wire), Err(HelloError::Malformed), "extension {kind}");
        assert!(matches!(oracle(&wire), Oracle::Refuses), "extension {kind}: the server agrees");
    }
    let early =
        [server_names(&[(0, b"a.test")]), (41, vec![0, 7, 0, 1, 9, 0, 0, 0, 0, 0, 2, 1, 5]), signature_algorithms()];
    assert_eq!(peeked(&handmade(&early)), Err(HelloError::Malformed), "pre_shared_key must come last");
}

#[test]
fn records_that_are_no_handshake_are_refused_at_their_first_wrong_byte() {
    assert_eq!(peeked(b"G"), Err(HelloError::NotTls));
    assert_eq!(peeked(&[22, 2]), Err(HelloError::NotTls));
    assert_eq!(peeked(&[21, 3, 3, 0, 2, 2, 40]), Err(HelloError::NotTls));
    assert_eq!(peeked(&[22, 3, 1, 0, 0]), Err(HelloError::RecordLength));
    assert_eq!(peeked(&[22, 3, 1, 0x40, 1]), Err(HelloError::RecordLength));
    assert_eq!(peeked(&[22, 3, 1, 0, 9, 2]), Err(HelloError::NotClientHello));
    let mut interleaved = records(&message(&hello(NAME)), 100);
    interleaved[105] = 23;
    assert_eq!(peeked(&interleaved), Err(HelloError::NotTls));
}

#[test]
fn an_empty_record_between_fragments_is_refused() {
    let mut wire = records(&message(&hello(NAME)), 700);
    wire.splice(705..705, [22, 3, 1, 0, 0]);
    assert_eq!(peeked(&wire), Err(HelloError::RecordLength));
}

#[test]
fn a_second_message_in_the_record_of_the_hello_is_refused() {
    let mut message = message(&hello(NAME));
    message.extend([1, 0, 0, 0]);
    let wire = records(&message, 1 << 14);
    assert_eq!(peeked(&wire), Err(HelloError::TrailingData));
    assert_eq!(peeked(&wire[..wire.len() - 4]), Err(HelloError::TrailingData));
    assert_eq!(peeked(&wire[..9]), Err(HelloError::TrailingData), "the two headers give it away");
}

#[test]
fn a_hello_of_twenty_kilobytes_is_refused_at_its_header_unless_configured() {
    let padding = (21, vec![0; 20_000]);
    let wire = handmade(&[server_names(&[(0, b"a.test")]), signature_algorithms(), padding]);
    assert_eq!(peeked(&wire), Err(HelloError::TooLarge));
    assert_eq!(peeked(&wire[..9]), Err(HelloError::TooLarge));
    assert_eq!(peek(&wire, HIGHEST_MAX).unwrap().unwrap().length, wire.len());
    agrees_with_the_server(&handmade(&[server_names(&[(0, b"a.test")]), signature_algorithms(), (21, vec![0; 9_000])]))
        .unwrap();
}

#[test]
fn tiny_records_cannot_outgrow_the_limit() {
    let message = message(&hello(NAME));
    let wire = records(&message, 1);
    assert_eq!(wire.len(), 6 * message.len());
    assert!(peeked(&wire).unwrap().is_some());
    let limit = wire.len() - 1;
    assert_eq!(peek(&wire, limit), Err(HelloError::TooLarge));
    let first_refusal = (0..=wire.len()).find(|end| peek(&wire[..*end], limit).is_err()).unwrap();
    assert!(first_refusal <= limit + 1, "never more than the limit and one byte");
}

proptest! {
    #[test]
    fn every_cut_into_records_and_segments_is_found_and_no_prefix_is(
        wire in hellos(), size in prop::sample::select(vec![1usize, 7, 100, 512, 1 << 14]),
    ) {
        let cut = records(&message(&wire), size);
        let whole = peeked(&wire).unwrap().unwrap();
        let found = peeked(&cut).unwrap().unwrap();
        prop_assert_eq!((&found.server_name, &found.alpn, found.length), (&whole.server_name, &whole.alpn, cut.len()));
        agrees_with_the_server(&cut)?;
        let step = 1 + cut.len() / 300;
        for end in (0..cut.len()).step_by(step).chain(cut.len().saturating_sub(8)..cut.len()) {
            prop_assert_eq!(peeked(&cut[..end]), Ok(None), "prefix of {} bytes", end);
        }
    }

    #[test]
    fn a_changed_hello_is_never_accepted_against_the_server(
        wire in hellos(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut wire = wire;
        for (at, byte) in changes {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        agrees_with_the_server(&wire)?;
    }

    #[test]
    fn a_hello_of_random_extensions_is_never_accepted_against_the_server(
        extensions in prop::collection::vec(
            (
                prop::sample::select(vec![
                    0u16, 5, 10, 11, 13, 16, 19, 23, 27, 35, 41, 42, 43, 44, 45, 47, 51, 58, 0xff01, 0xfe0d, 0xfd00, 99,
                ]),
                prop::collection::vec(0u8..6, 0..12),
            ),
            0..3,
        ),
    ) {
        let mut all = vec![server_names(&[(0, b"a.test")]), signature_algorithms()];
        all.extend(extensions);
        agrees_with_the_server(&handmade(&all))?;
    }

    #[test]
    fn any_name_is_read_as_the_server_reads_it(name in prop::collection::vec(prop::sample::select(b"aZ09-_.\0:s".to_vec()), 0..20)) {
        agrees_with_the_server(&handmade(&[server_names(&[(0, &name)]), signature_algorithms()]))?;
    }

    #[test]
    fn an_answer_does_not_change_with_more_bytes(wire in hellos(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut wire = wire;
        let at = at.index(wire.len());
        wire[at] = byte;
        let mut answer = Ok(None);
        for end in (0..=wire.len()).step_by(1 + wire.len() / 200) {
            let next = peeked(&wire[..end]);
            if answer != Ok(None) {
                prop_assert_eq!(&next, &answer);
            }
            answer = next;
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), tls: bool) {
        let mut wire = if tls { vec![22, 3, 1, 0, 200, 1, 0, 0, 196] } else { vec![] };
        wire.extend(bytes);
        agrees_with_the_server(&wire)?;
    }
}
