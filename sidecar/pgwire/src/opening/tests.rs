use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::{Opening, OpeningError, parse};
use crate::cancel::CancelKey;
use crate::startup::StartupError;

const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

fn startup(body: &[u8]) -> Vec<u8> {
    let mut packet = BytesMut::new();
    packet.put_u32(u32::try_from(8 + body.len()).unwrap());
    packet.put_u32(196_608);
    packet.put_slice(body);
    packet.to_vec()
}

fn samples() -> Vec<Vec<u8>> {
    vec![
        SSL.to_vec(),
        GSS.to_vec(),
        CancelKey::new(7, &[1; 4]).unwrap().request().to_vec(),
        CancelKey::new(7, &[1; 256]).unwrap().request().to_vec(),
        startup(b"user\0teesql_read\0database\0postgres\0\0"),
    ]
}

#[test]
fn each_kind_is_told_apart() {
    assert_eq!(parse(&[0x16]), Ok(Some((Opening::Tls, 0))));
    assert_eq!(parse(&SSL), Ok(Some((Opening::SslRequest, 8))));
    assert_eq!(parse(&GSS), Ok(Some((Opening::GssEncRequest, 8))));
    let key = CancelKey::new(0xdead_beef, &[3; 32]).unwrap();
    assert_eq!(parse(&key.request()), Ok(Some((Opening::Cancel(key), 44))));
    let raw = startup(b"user\0a\0\0");
    let Ok(Some((Opening::Startup(found), 16))) = parse(&raw) else { panic!("no startup") };
    assert_eq!(&found.raw()[..], &raw[..]);
}

#[test]
fn every_prefix_is_not_yet() {
    for packet in samples() {
        for end in 0..packet.len() {
            assert_eq!(parse(&packet[..end]), Ok(None), "{end} of {packet:?}");
        }
    }
}

#[test]
fn glued_bytes_are_left_to_the_caller() {
    for packet in samples() {
        let glued = [packet.as_slice(), b"\x16\x03\x01"].concat();
        let (_, consumed) = parse(&glued).unwrap().unwrap();
        assert_eq!(consumed, packet.len());
    }
}

#[test]
fn foreign_bytes_are_refused_at_the_first_that_tells() {
    assert_eq!(parse(b"G"), Err(OpeningError::Foreign));
    assert_eq!(parse(&[0x15]), Err(OpeningError::Foreign));
    assert_eq!(parse(&[0, 1]), Err(OpeningError::Foreign));
    assert_eq!(parse(&[0xff, 0xff, 0xff, 0xff]), Err(OpeningError::Foreign));
}

#[test]
fn impossible_lengths_are_refused_before_the_body() {
    assert_eq!(parse(&[0, 0, 0, 0]), Err(OpeningError::Length(0)));
    assert_eq!(parse(&[0, 0, 0, 7]), Err(OpeningError::Length(7)));
    assert_eq!(parse(&[0, 0, 0x27, 0x11]), Err(OpeningError::Length(10_001)));
    assert_eq!(parse(&[0, 0, 0, 9, 4, 210, 22, 47]), Err(OpeningError::Length(9)));
    assert_eq!(parse(&[0, 0, 0, 15, 4, 210, 22, 46]), Err(OpeningError::Length(15)));
    assert_eq!(parse(&[0, 0, 1, 13, 4, 210, 22, 46]), Err(OpeningError::Length(269)));
    assert_eq!(parse(&[0, 0, 0, 8, 0, 3, 0, 0]), Err(OpeningError::Length(8)));
}

#[test]
fn unknown_codes_and_versions_are_refused() {
    assert_eq!(parse(&[0, 0, 0, 8, 4, 210, 22, 49]), Err(OpeningError::Code(80_877_105)));
    assert_eq!(parse(&[0, 0, 0, 9, 0, 2, 0, 0]), Err(StartupError::Version(2, 0).into()));
    assert_eq!(parse(&[0, 0, 0, 9, 0, 4, 0, 1]), Err(StartupError::Version(4, 1).into()));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _verdict = parse(&bytes);
    }

    #[test]
    fn random_packets_never_panic(length in 0_u32..400, code in prop_oneof![80_877_100_u32..80_877_110, Just(196_608), any::<u32>()], body in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut packet = BytesMut::new();
        packet.put_u32(length);
        packet.put_u32(code);
        packet.put_slice(&body);
        if let Ok(Some((_, consumed))) = parse(&packet) {
            prop_assert_eq!(consumed, length as usize);
        }
    }

    #[test]
    fn what_is_refused_stays_refused(bytes in prop::collection::vec(any::<u8>(), 0..32), more in prop::collection::vec(any::<u8>(), 0..32)) {
        if let Err(error) = parse(&bytes) {
            prop_assert_eq!(parse(&[bytes, more].concat()), Err(error));
        }
    }
}
