use proptest::prelude::*;

use super::*;

/// A trail of these events, behind a head.
fn trail(start: Head, events: &[String]) -> (Vec<Vec<u8>>, Head) {
    let mut head = start;
    let lines = events.iter().map(|event| {
        let (line, next) = head.line(event);
        head = next;
        line.into_bytes()
    });
    (lines.collect(), head)
}

fn events(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{{\"event\":\"admitted\",\"instance\":\"{number}\"}}")).collect()
}

fn verify(lines: &[Vec<u8>], start: Head, anchors: &[Head]) -> Result<Head, Broken> {
    let mut verifier = Verifier::behind(start).anchored(anchors.iter().copied());
    for line in lines {
        verifier.line(line)?;
    }
    verifier.finish()
}

#[test]
fn a_line_says_its_number_and_the_hash_of_the_one_before() {
    let (first, head) = Head::default().line("{\"event\":\"started\"}");
    assert_eq!(first, format!("{{\"n\":1,\"prev\":\"{}\",\"event\":\"started\"}}", "0".repeat(64)));
    let (second, _) = head.line("{}");
    assert_eq!(second, format!("{{\"n\":2,\"prev\":\"{}\"}}", hex::encode(Sha256::digest(first.as_bytes()))));
    assert_eq!(head.to_string().parse(), Ok(head));
    assert!("1:00".parse::<Head>().is_err() && "x".parse::<Head>().is_err());
}

#[test]
fn a_trail_that_nobody_touched_is_in_order_whole_and_in_parts() {
    let (lines, head) = trail(Head::default(), &events(9));
    assert_eq!(verify(&lines, Head::default(), &[head]), Ok(head));
    let (front, middle) = trail(Head::default(), &events(4));
    assert_eq!(verify(&lines[4..], middle, &[middle, head]), Ok(head));
    assert_eq!(verify(&front, Head::default(), &[head]), Err(Broken::Cut { count: 4, anchored: 9 }));
    assert_eq!(verify(&lines[4..], Head::default(), &[]), Err(Broken::Number { expected: 1, found: 5 }));
    let (_, first) = trail(Head::default(), &events(1));
    assert_eq!(verify(&lines[4..], middle, &[first]), Err(Broken::Before { anchored: 1 }));
    let other = Head { hash: [1; 32], ..middle };
    assert_eq!(verify(&lines[4..], other, &[]), Err(Broken::Link { number: 5 }));
}

#[test]
fn without_an_anchor_a_trail_that_lost_its_end_looks_like_a_shorter_one() {
    let (lines, _) = trail(Head::default(), &events(9));
    let (_, shorter) = trail(Head::default(), &events(7));
    assert_eq!(verify(&lines[..7], Head::default(), &[]), Ok(shorter));
}

#[test]
fn what_does_not_begin_as_a_line_is_none() {
    let zeros = "0".repeat(64);
    for line in [
        String::new(),
        "{}".to_owned(),
        format!("{{\"n\": 1,\"prev\":\"{zeros}\"}}"),
        format!("{{\"n\":-1,\"prev\":\"{zeros}\"}}"),
        format!("{{\"n\":,\"prev\":\"{zeros}\"}}"),
        format!("{{\"n\":1,\"prev\":\"{}\"}}", &zeros[1..]),
        format!("{{\"n\":1,\"prev\":\"{}g\"}}", &zeros[1..]),
        format!("{{\"n\":1,\"prev\":\"{zeros}\"x"),
        format!("{{\"n\":99999999999999999999,\"prev\":\"{zeros}\"}}"),
    ] {
        assert_eq!(Verifier::behind(Head::default()).line(line.as_bytes()), Err(Broken::NotALine), "{line}");
    }
}

/// One act of somebody who can write the file.
#[derive(Debug, Clone)]
enum Tampering {
    /// Changes a bit.
    Flip { line: usize, byte: usize, bit: u8 },
    /// Takes lines out.
    Remove { from: usize, count: usize },
    /// Exchanges two lines.
    Swap { one: usize, other: usize },
    /// Writes a line twice.
    Repeat { line: usize },
    /// Takes the end of the last line, or all of it and more.
    Truncate { bytes: usize },
    /// Writes another line in a line's place, properly chained to the one before.
    Replace { line: usize },
    /// Writes a line of its own in between, properly chained to the one before.
    Insert { line: usize },
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let (at, few) = (|| 0..1_000_usize, 1..4_usize);
    prop_oneof![
        4 => (at(), at(), 0..8_u8).prop_map(|(line, byte, bit)| Tampering::Flip { line, byte, bit }),
        1 => (at(), few).prop_map(|(from, count)| Tampering::Remove { from, count }),
        1 => (at(), at()).prop_map(|(one, other)| Tampering::Swap { one, other }),
        1 => at().prop_map(|line| Tampering::Repeat { line }),
        1 => (1..2_000_usize).prop_map(|bytes| Tampering::Truncate { bytes }),
        1 => at().prop_map(|line| Tampering::Replace { line }),
        1 => at().prop_map(|line| Tampering::Insert { line }),
    ]
}

impl Tampering {
    fn perform(&self, lines: &mut Vec<Vec<u8>>) {
        let count = lines.len();
        match *self {
            Self::Flip { line, byte, bit } => {
                let line = &mut lines[line % count];
                let byte = byte % line.len();
                line[byte] ^= 1 << bit;
            }
            Self::Remove { from, count: some } => {
                let from = from % count;
                lines.drain(from..(from + some).min(count));
            }
            Self::Swap { one, other } => lines.swap(one % count, other % count),
            Self::Repeat { line } => lines.insert(line % count, lines[line % count].clone()),
            Self::Truncate { bytes } => {
                let text = lines.join(&b'\n');
                let text = &text[..text.len().saturating_sub(bytes)];
                *lines =
                    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
            }
            Self::Replace { line } => lines[line % count] = forged(lines, line % count),
            Self::Insert { line } => lines.insert(line % count, forged(lines, line % count)),
        }
    }
}

/// A line that could be in this place.
fn forged(lines: &[Vec<u8>], place: usize) -> Vec<u8> {
    let hash = place.checked_sub(1).map_or([0; 32], |before| Sha256::digest(&lines[before]).into());
    let head = Head { count: u64::try_from(place).unwrap(), hash };
    head.line("{\"event\":\"admitted\",\"instance\":\"the intruder\"}").0.into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_is_done_to_the_lines_is_found(count in 1..12_usize, tampering in tampering()) {
        let (lines, head) = trail(Head::default(), &events(count));
        let mut tampered = lines.clone();
        tampering.perform(&mut tampered);
        let found = verify(&tampered, Head::default(), &[head]);
        prop_assert_eq!(found.is_err(), tampered != lines, "{:?}", found);
    }

    #[test]
    fn no_bytes_panic(line: Vec<u8>) {
        let _: Result<(), Broken> = Verifier::behind(Head::default()).line(&line);
    }
}
