mod hostile;
mod world;

use std::io;
use std::task::Poll;

use proptest::prelude::*;

use self::world::{Weather, World, at, calm, cx, exchange, millis, silence};
use super::*;

#[test]
fn a_calm_network_carries_bytes_both_ways_and_both_ends_finish() {
    let mut world = World::calm();
    exchange(&mut world, [300_000, 200_000]);
    world.run_until(|world| world.ends.iter().all(|end| matches!(end.phase(), Phase::Resting | Phase::Over)));
    assert!(world.now < 2000, "took {} ms", world.now);
}

#[test]
fn reading_goes_on_after_shutting_down_and_after_the_far_end_did() {
    let mut world = World::connected();
    world.ends[0].shutdown().unwrap();
    world.pass(50);
    assert_eq!(world.read(1).unwrap().unwrap(), b"");
    assert_eq!(world.write(1, b"late"), 4);
    assert_eq!(
        world.ends[0].poll_write(&cx(), &[io::IoSlice::new(b"x")]).map_err(|error| error.kind()),
        Poll::Ready(Err(io::ErrorKind::BrokenPipe))
    );
    world.pass(50);
    assert_eq!(world.read(0).unwrap().unwrap(), b"late");
    assert!(world.read(0).is_none());
}

#[test]
fn a_writer_waits_for_its_reader() {
    let mut world = World::connected();
    let mut written = 0;
    for _ in 0..1000 {
        written += world.write(0, &[7; 10_000]);
        world.pass(1);
    }
    assert_eq!(written, 2 * BUFFER, "one buffer at each end is full");
    assert!(world.write(0, b"more") == 0);
    let mut got = 0;
    while got < written {
        got += world.read(1).map_or(0, |part| part.unwrap().len());
        world.pass(1);
    }
    assert_eq!(world.write(0, b"more"), 4);
}

#[test]
fn an_end_that_takes_nothing_can_still_be_read_from() {
    let mut world = World::connected();
    let mut missing = [0; 2];
    for _ in 0..1000 {
        for end in 0..2 {
            missing[1 - end] += world.write(end, &[7; 10_000]);
        }
        world.pass(1);
    }
    assert_eq!(missing, [2 * BUFFER; 2]);
    world.pass(20_000);
    while missing[0] > 0 {
        missing[0] -= world.read(0).map_or(0, |part| part.unwrap().len());
        world.pass(1);
        assert!(world.now < 60_000, "still missing {missing:?}");
    }
}

#[test]
fn a_far_end_that_falls_silent_is_given_up_in_time() {
    for busy in [false, true] {
        let mut world = World::connected();
        let start = world.now;
        if busy {
            world.write(0, b"hello?");
        }
        world.weather = silence();
        world.run_until(|world| world.ends[0].ending().is_some());
        assert_eq!(world.ends[0].ending(), Some(Ending::TimedOut));
        let limit = millis(TcpSettings::default().user_timeout);
        assert!(world.now - start <= limit + 2000, "busy {busy}: {} ms", world.now - start);
        assert_eq!(world.read(0).unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}

#[test]
fn an_idle_connection_to_a_living_end_stays() {
    let mut world = World::connected();
    world.pass(3_600_000);
    assert!(world.ends.iter().all(|end| end.phase() == Phase::Open));
}

#[test]
fn a_handshake_that_is_not_completed_is_over_soon() {
    let mut world = World::calm();
    world.run_until(|world| world.ends[1].tcp_state() == State::SynReceived);
    world.weather = silence();
    world.flying.clear();
    world.run_until(|world| world.ends[1].phase() == Phase::Over);
    assert!(world.now <= 12_000, "took {} ms", world.now);
}

#[test]
fn dropping_a_stream_resets_it_unless_it_was_shut_down() {
    let mut world = World::connected();
    world.ends[0].abandon(at(world.now));
    world.run_until(|world| world.ends[1].ending().is_some());
    assert_eq!(world.ends[1].ending(), Some(Ending::Reset));
    assert_eq!(world.read(1).unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(world.ends[0].phase(), Phase::Over);
}

#[test]
fn a_stream_that_was_shut_down_delivers_after_it_was_dropped() {
    let mut world = World::connected();
    assert_eq!(world.write(0, &[9; 60_000]), 60_000);
    world.ends[0].shutdown().unwrap();
    world.ends[0].abandon(at(world.now));
    let mut got = 0;
    loop {
        match world.read(1) {
            Some(part) if part.as_ref().unwrap().is_empty() => break,
            Some(part) => got += part.unwrap().len(),
            None => world.step(),
        }
    }
    assert_eq!(got, 60_000);
    world.ends[1].shutdown().unwrap();
    world.run_until(|world| world.ends.iter().all(|end| matches!(end.phase(), Phase::Over | Phase::Resting)));
}

#[test]
fn what_comes_for_a_dropped_stream_is_refused_and_silence_is_not_waited_out() {
    let mut world = World::connected();
    world.ends[0].shutdown().unwrap();
    world.ends[0].abandon(at(world.now));
    world.run_until(|world| world.ends[0].tcp_state() == State::FinWait2);
    world.write(1, b"who is there?");
    world.run_until(|world| world.ends[1].ending() == Some(Ending::Reset));

    let mut world = World::connected();
    world.ends[0].shutdown().unwrap();
    world.ends[0].abandon(at(world.now));
    world.run_until(|world| world.ends[0].phase() == Phase::Over);
    assert!(world.now <= millis(LINGER) + 2000, "took {} ms", world.now);
}

#[test]
fn bytes_that_came_before_a_cut_are_not_given_out() {
    let mut world = World::connected();
    world.write(1, b"secret");
    world.pass(50);
    world.ends[0].cut(Ending::Removed);
    assert_eq!(world.read(0).unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

#[test]
fn ends_that_lost_each_other_s_acknowledgements_find_together_again() {
    let mut world = World::connected();
    assert_eq!((world.write(0, &[1; 6000]), world.write(1, &[2; 6000])), (6000, 6000));
    world.emit();
    // What is under way arrives, and everything after it is lost until both have timed out.
    let calm = std::mem::replace(&mut world.weather, silence());
    world.pass(900);
    world.weather = calm;
    let mut missing = [6000; 2];
    while missing != [0; 2] {
        for (end, missing) in missing.iter_mut().enumerate() {
            *missing -= world.read(end).map_or(0, |part| part.unwrap().len());
        }
        world.pass(1);
        assert!(world.now < 3000, "still missing {missing:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_rough_network_carries_every_byte(
        seed in any::<[u8; 32]>(),
        lost in 0_u8..40, doubled in 0_u8..40, late in 0_u8..80,
        sizes in prop::array::uniform2(0_usize..60_000),
    ) {
        use rand::{RngCore as _, SeedableRng as _};
        let mut rng = rand::rngs::StdRng::from_seed(seed);
        let numbers = Box::new(std::iter::repeat_with(move || rng.next_u32().to_be_bytes()[0]));
        // With bad luck many retries in a row fail, and the pause between them grows to a minute.
        let patient = TcpSettings { user_timeout: Duration::from_secs(3600), ..TcpSettings::default() };
        let mut world = World::with(calm(), patient);
        world.run_until(|world| world.ends.iter().all(|end| end.phase() == Phase::Open));
        world.weather = Weather { numbers, lost, doubled, late };
        exchange(&mut world, sizes);
    }
}
