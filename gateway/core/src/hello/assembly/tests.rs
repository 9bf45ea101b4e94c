use proptest::prelude::*;

use super::*;
use crate::fixture::{handmade, hello, hellos, message, records, server_names, signature_algorithms};
use crate::hello::{DEFAULT_MAX, HIGHEST_MAX, peek};

/// The slow model: it joins everything from the first byte on, each time it is asked.
fn from_the_start(buf: &[u8], max: usize) -> Result<Option<ClientHello>, HelloError> {
    let too_large_or_more = |wire: usize| if wire > max { Err(HelloError::TooLarge) } else { Ok(None) };
    let (mut message, mut wire, mut rest) = (Vec::new(), 0, buf);
    loop {
        if rest.first().is_some_and(|kind| *kind != 22) || rest.get(1).is_some_and(|major| *major != 3) {
            return Err(HelloError::NotTls);
        }
        if rest.len() < 5 {
            return too_large_or_more(wire + 5);
        }
        let (header, body) = rest.split_at(5);
        let record = usize::from(header[3]) * 256 + usize::from(header[4]);
        if record == 0 || record > 16_384 {
            return Err(HelloError::RecordLength);
        }
        let fragment = &body[..record.min(body.len())];
        message.extend_from_slice(fragment);
        wire += 5 + fragment.len();
        if message.first().is_some_and(|kind| *kind != 1) {
            return Err(HelloError::NotClientHello);
        }
        if let [_, high, middle, low, ..] = message[..] {
            let end = 4 + usize::from(high) * 65_536 + usize::from(middle) * 256 + usize::from(low);
            if end > max || wire > max {
                return Err(HelloError::TooLarge);
            }
            if message.len() - fragment.len() + record > end {
                return Err(HelloError::TrailingData);
            }
            if message.len() == end {
                return parse(&message[4..], wire).map(Some);
            }
        }
        if fragment.len() < record {
            return too_large_or_more(wire);
        }
        rest = &body[record..];
    }
}

/// Feeds `wire` in reads of these lengths and compares each answer, up to the first that is final.
fn agrees(wire: &[u8], reads: &[usize], max: usize) -> Result<(), TestCaseError> {
    let mut assembly = Assembly::default();
    let (mut end, mut reads) = (0, reads.iter().cycle());
    loop {
        end = wire.len().min(end + reads.next().unwrap());
        let expected = from_the_start(&wire[..end], max);
        prop_assert_eq!(&assembly.peek(&wire[..end], max), &expected, "after {} bytes", end);
        prop_assert_eq!(&peek(&wire[..end], max), &expected, "{} bytes at once", end);
        if end == wire.len() || expected != Ok(None) {
            return Ok(());
        }
    }
}

fn reads() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![0usize..40, 0usize..900], 1..20).prop_map(|mut reads| {
        reads.push(1);
        reads
    })
}

fn sizes() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1usize, 2, 3, 7, 100, 512, 1 << 14])
}

#[test]
fn what_was_read_is_not_read_again() {
    let padding = (21, vec![0; 10_000]);
    let wire = handmade(&[server_names(&[(0, b"a.test")]), signature_algorithms(), padding]);
    let mut wire = records(&message(&wire), 1);
    let mut assembly = Assembly::default();
    for end in 0..wire.len() {
        assert_eq!(assembly.peek(&wire[..end], HIGHEST_MAX), Ok(None), "{end}");
        let read = assembly.read;
        assert!(end - read < 5, "only a part of a record header waits");
        wire[..read].fill(0xff);
    }
    assert_eq!(assembly.peek(&wire, HIGHEST_MAX).unwrap().unwrap().length, wire.len());
}

proptest! {
    #[test]
    fn pieces_give_the_answers_of_the_whole(wire in hellos(), size in sizes(), reads in reads(), glued in 0usize..9) {
        let mut cut = records(&message(&wire), size);
        cut.extend(&wire[..glued]);
        agrees(&cut, &reads, DEFAULT_MAX)?;
    }

    #[test]
    fn pieces_of_damaged_bytes_give_the_answers_of_the_whole(
        wire in hellos(),
        size in sizes(),
        reads in reads(),
        max in prop_oneof![Just(DEFAULT_MAX), 0usize..3_000],
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut cut = records(&message(&wire), size);
        for (at, byte) in changes {
            let at = at.index(cut.len());
            cut[at] = byte;
        }
        agrees(&cut, &reads, max)?;
    }

    #[test]
    fn single_bytes_of_records_of_any_length_give_the_answers_of_the_whole(
        fragments in prop::collection::vec(0usize..12, 1..12), length in 0u8..60, max in 0usize..200,
    ) {
        let mut bytes = [1, 0, 0, length].into_iter().chain(std::iter::repeat(7));
        let mut wire = Vec::new();
        for fragment in fragments {
            wire.extend([22, 3, 1, 0, u8::try_from(fragment).unwrap()]);
            wire.extend(bytes.by_ref().take(fragment));
        }
        agrees(&wire, &[1], max)?;
    }
}

#[test]
fn a_hello_is_found_by_its_last_byte() {
    let wire = hello("a.postern.test");
    let mut assembly = Assembly::default();
    assert_eq!(assembly.peek(&wire[..wire.len() - 1], DEFAULT_MAX), Ok(None));
    assert!(assembly.peek(&wire, DEFAULT_MAX).unwrap().is_some());
}
