use ppp::v2::{Builder, Command, Protocol, Version};
use proptest::prelude::*;

use super::*;

const CLIENT: &str = "192.0.2.7:4711";
const SERVER: &str = "198.51.100.1:5432";

fn endpoints(client: &str, server: &str) -> Endpoints {
    Endpoints { client: client.parse().unwrap(), server: server.parse().unwrap() }
}

fn binary_of(command: Command, protocol: Protocol, client: &str, server: &str) -> Builder {
    let pair: (SocketAddr, SocketAddr) = (client.parse().unwrap(), server.parse().unwrap());
    Builder::with_addresses(Version::Two | command, protocol, pair)
}

fn binary_from(client: &str, server: &str) -> Vec<u8> {
    binary_of(Command::Proxy, Protocol::Stream, client, server).build().unwrap()
}

/// Both versions, both families, with and without what load balancers add.
fn headers() -> Vec<(Vec<u8>, Option<Endpoints>)> {
    let (six_client, six_server) = ("[2001:db8::7]:4711", "[2001:db8::1]:5432");
    let added = binary_of(Command::Proxy, Protocol::Stream, CLIENT, SERVER).write_tlv(0xea, b"vpce-1234").unwrap();
    vec![
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 5432\r\n".to_vec(), Some(endpoints(CLIENT, SERVER))),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 5432\r\n".to_vec(), Some(endpoints(six_client, six_server))),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4711 5432\r\n".to_vec(), Some(endpoints(CLIENT, SERVER))),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), None),
        (binary_from(CLIENT, SERVER), Some(endpoints(CLIENT, SERVER))),
        (binary_from(six_client, six_server), Some(endpoints(six_client, six_server))),
        (binary_from("[::ffff:192.0.2.7]:4711", "[::ffff:198.51.100.1]:5432"), Some(endpoints(CLIENT, SERVER))),
        (added.build().unwrap(), Some(endpoints(CLIENT, SERVER))),
        (binary_of(Command::Local, Protocol::Stream, CLIENT, SERVER).build().unwrap(), None),
        (binary_of(Command::Proxy, Protocol::Unspecified, CLIENT, SERVER).build().unwrap(), None),
        ([v2::PROTOCOL_PREFIX, &[0x20, 0, 0, 0]].concat(), None),
    ]
}

#[test]
fn every_form_is_read_to_its_last_byte_and_no_further() {
    for (header, expected) in headers() {
        for behind in [&b""[..], b"\x16\x03\x01", b"\r\n", b"PROXY "] {
            let bytes = [&header[..], behind].concat();
            let found = peek(&bytes).unwrap().unwrap();
            assert_eq!((found.endpoints, found.length), (expected, header.len()), "{header:?}");
        }
        for end in 0..header.len() {
            assert_eq!(peek(&header[..end]), Ok(None), "{end} bytes of {header:?}");
        }
    }
}

#[test]
fn what_is_no_header_is_told_at_once() {
    let datagram = binary_of(Command::Proxy, Protocol::Datagram, CLIENT, SERVER).build().unwrap();
    let cut = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0, 4, 1, 2, 3, 4]].concat();
    let broken_field = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0, 16], &[1; 12], &[0xea, 0, 9, 1]].concat();
    let version_1 = [v2::PROTOCOL_PREFIX, &[0x11, 0, 0, 0]].concat();
    let wrong: [&[u8]; 13] = [
        b"\x16\x03\x01",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 5432\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 70000\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 5432\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 4711 5432\r\n",
        b"PROXYTCP4",
        &datagram,
        &cut,
        &broken_field,
        &version_1,
    ];
    for bytes in wrong {
        assert_eq!(peek(bytes), Err(NoIntroduction), "{bytes:?}");
    }
}

#[test]
fn a_header_without_end_ends_at_the_limit() {
    let line = [b"PROXY UNKNOWN ".to_vec(), vec![b'1'; 200]].concat();
    assert_eq!((peek(&line[..106]), peek(&line[..107])), (Ok(None), Err(NoIntroduction)));
    let longest = u16::try_from(MAX - FIXED).unwrap();
    for (length, expected) in [(longest, Ok(None)), (longest + 1, Err(NoIntroduction)), (u16::MAX, Err(NoIntroduction))]
    {
        let start = [v2::PROTOCOL_PREFIX, &[0x21, 0x11], &length.to_be_bytes()].concat();
        assert_eq!(peek(&start), expected, "{length}");
    }
}

proptest! {
    #[test]
    fn no_verdict_changes_with_more_bytes(
        which in 0usize..12, at in any::<prop::sample::Index>(), byte: u8, more in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let (mut bytes, _) = headers().swap_remove(which);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.extend(more);
        let mut verdict = Ok(None);
        for end in 0..=bytes.len() {
            let next = peek(&bytes[..end]);
            if verdict != Ok(None) {
                prop_assert_eq!(next, verdict, "after {} bytes", end);
            }
            if let Ok(Some(found)) = next {
                prop_assert!(found.length <= end && found.length <= MAX);
            }
            verdict = next;
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0usize..3) {
        let start: &[u8] = [&b""[..], b"PROXY ", v2::PROTOCOL_PREFIX][start];
        let _verdict = peek(&[start, &bytes].concat());
    }
}
