//! What is fuzzed, for the fuzzer and for the replay of its corpora alike. Nothing here may panic but an assertion that says
//! what went wrong.

use postern_gateway_core::hello::{self, Assembly};
use postern_gateway_core::introduction;
use postern_gateway_core::opening::{Opening, Step};
use rustls::server::Acceptor;

/// A target, under its name.
pub(crate) type Target = fn(&[u8]);

/// Every target. Each has a folder of its name in `corpus`.
pub(crate) const ALL: [(&str, Target); 3] = [("hello", hello), ("opening", opening), ("introduction", introduction)];

/// A ClientHello on the wire. What we accept, a server accepts, and both read the same name; and the answer does not depend
/// on how the bytes arrive.
pub(crate) fn hello(data: &[u8]) {
    let whole = hello::peek(data, hello::DEFAULT_MAX);
    for step in [1, 7, 500] {
        let (mut assembly, mut answer, mut end) = (Assembly::default(), Ok(None), 0);
        while end < data.len() && answer == Ok(None) {
            end = data.len().min(end + step);
            answer = assembly.peek(data.get(..end).unwrap_or_default(), hello::DEFAULT_MAX);
        }
        assert_eq!(answer, whole, "in pieces of {step} bytes it is another one");
    }
    let Ok(Some(found)) = whole else { return };
    let Some(wire) = data.get(..found.length) else { panic!("it is longer than what came") };
    assert_eq!(served(wire).as_deref(), Some(found.server_name.as_str()), "the server reads another name");
}

/// The name that a server reads, if it accepts the hello.
fn served(mut wire: &[u8]) -> Option<String> {
    let mut acceptor = Acceptor::default();
    loop {
        match acceptor.accept() {
            Ok(Some(accepted)) => return accepted.client_hello().server_name().map(str::to_owned),
            Ok(None) if !wire.is_empty() => drop(acceptor.read_tls(&mut wire).ok()?),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// How an opening ended.
#[derive(Debug, PartialEq)]
struct Ended {
    steps: Vec<Step>,
    received: Vec<u8>,
}

/// An opening, of which the first byte says whether it is introduced and the second one how it is cut. It ends alike however
/// it is cut where the client waits for answers, and what is replayed is what was sent behind the preamble.
pub(crate) fn opening(data: &[u8]) {
    let [introduced, size, sent @ ..] = data else { return };
    let (whole, cut) = (play(sent, *introduced, usize::MAX), play(sent, *introduced, usize::from(*size).max(1)));
    let is_glued = |ended: &Ended| matches!(ended.steps.last(), Some(Step::Refuse(refusal)) if ended.glued(*refusal));
    if !is_glued(&whole) {
        assert_eq!(cut.steps, whole.steps, "in pieces it goes another way");
        if matches!(whole.steps.last(), Some(Step::Hello(_))) {
            assert!(whole.received.starts_with(&cut.received), "something else is replayed");
        }
    }
    if let Some(Step::Hello(hello)) = cut.steps.last() {
        assert!(
            sent.windows(cut.received.len()).any(|window| window == cut.received),
            "what is replayed was never sent"
        );
        assert!(hello.length <= cut.received.len());
    }
}

impl Ended {
    /// Whether it ended by a rule about bytes that come too early, which depends on when they come.
    fn glued(&self, refusal: postern_gateway_core::refusal::Refusal) -> bool {
        use postern_gateway_core::refusal::Refusal;
        matches!(refusal, Refusal::GluedBytes | Refusal::TrailingCancel)
    }
}

fn play(sent: &[u8], introduced: u8, size: usize) -> Ended {
    let new = if introduced % 2 == 1 { Opening::introduced } else { Opening::new };
    let (mut opening, mut steps) = (new(hello::DEFAULT_MAX), Vec::new());
    'sent: for piece in sent.chunks(size.min(sent.len()).max(1)) {
        let mut step = opening.feed(piece);
        loop {
            match step {
                Step::NeedMore => break,
                Step::Introduced(_) => {
                    steps.push(step);
                    step = opening.feed(&[]);
                }
                Step::Reply(_) => {
                    steps.push(step);
                    break;
                }
                Step::Hello(_) | Step::Cancel(_) | Step::Refuse(_) => {
                    steps.push(step);
                    break 'sent;
                }
            }
        }
    }
    assert!(format!("{opening:?}").len() < 200, "it shows what it has received");
    Ended { steps, received: opening.into_received() }
}

/// The first bytes from a load balancer. A verdict stands, whatever comes behind it.
pub(crate) fn introduction(data: &[u8]) {
    let whole = introduction::peek(data);
    let mut early = None;
    for end in 0..data.len().min(introduction::MAX) {
        match introduction::peek(data.get(..end).unwrap_or_default()) {
            Ok(None) => assert!(early.is_none(), "what was understood is not understood any more"),
            verdict => early = Some(verdict),
        }
        if let Some(early) = &early {
            assert_eq!(early, &whole, "a verdict changes with the bytes behind it");
        }
    }
    if let Ok(Some(found)) = whole {
        assert!(found.length <= data.len() && found.length <= introduction::MAX, "more was consumed than there is");
    }
}
