use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn load(rate: f64, weights: &[f64]) -> Load {
    Load { rate, pace: Pace::Poisson, weights: weights.to_vec() }
}

fn arrivals(seed: u64, stream: u64, load: &Load, length: Duration) -> Vec<Arrival> {
    Timetable::new(seed, stream, load, length, 0).collect()
}

#[test]
fn the_same_seed_gives_the_same_arrivals_and_another_gives_others() {
    let load = load(1000.0, &[1.0, 2.0]);
    let one = arrivals(7, 0, &load, SECOND);
    assert_eq!(one, arrivals(7, 0, &load, SECOND));
    assert_ne!(one, arrivals(8, 0, &load, SECOND));
    assert_ne!(one, arrivals(7, 1, &load, SECOND), "phases do not repeat each other");
    // Written down, so that a change of the generator is noticed: results of different versions are to be comparable.
    let first: Vec<_> = one.iter().take(3).map(|arrival| (arrival.at.as_micros(), arrival.tenant)).collect();
    assert_eq!(first, FIRST);
}

const FIRST: [(u128, usize); 3] = [(1444, 1), (1803, 1), (2241, 0)];

#[test]
fn as_many_arrive_as_were_asked_for_and_to_whom() {
    let all = arrivals(1, 0, &load(10_000.0, &[1.0, 3.0]), SECOND * 10);
    // Four standard deviations of a Poisson count of 100,000 are 1265, and of a binomial one with p = 3/4 they are 548.
    assert!((98_735..101_265).contains(&all.len()), "{}", all.len());
    let of_second = all.iter().filter(|arrival| arrival.tenant == 1).count();
    assert!((of_second * 4).abs_diff(all.len() * 3) < 4 * 548, "{of_second} of {}", all.len());
}

#[test]
fn an_even_pace_is_even() {
    let even = Load { pace: Pace::Even, ..load(4.0, &[1.0]) };
    let times: Vec<_> = arrivals(1, 0, &even, SECOND).iter().map(|arrival| arrival.at.as_millis()).collect();
    assert_eq!(times, [250, 500, 750]);
}

#[test]
fn noise_takes_nothing_from_the_others() {
    let quiet = load(300.0, &[1.0, 1.0, 1.0]);
    let noisy = quiet.clone().with_noise(0, 10.0);
    let asked = |load: &Load, tenant: usize| load.rate * load.shares()[tenant];
    assert!((asked(&noisy, 0) - 1000.0).abs() < 1e-6);
    assert!((asked(&noisy, 1) - asked(&quiet, 1)).abs() < 1e-6);
}

#[test]
fn popularity_falls_with_the_rank() {
    assert_eq!(zipf(3, 0.0), [1.0, 1.0, 1.0]);
    assert_eq!(zipf(4, 1.0), [1.0, 0.5, 1.0 / 3.0, 0.25]);
}

#[test]
fn nothing_arrives_where_nobody_asks() {
    for load in [load(0.0, &[1.0]), load(10.0, &[]), load(10.0, &[0.0, 0.0])] {
        assert!(arrivals(1, 0, &load, SECOND).is_empty());
    }
}

proptest! {
    #[test]
    fn arrivals_are_in_order_in_time_and_of_tenants_that_exist(
        seed: u64,
        rate in 1.0_f64..500.0,
        weights in prop::collection::vec(0.0_f64..10.0, 1..20),
    ) {
        let load = load(rate, &weights);
        let all: Vec<_> = Timetable::new(seed, 0, &load, SECOND, 100).collect();
        prop_assert!(all.is_sorted_by_key(|arrival| arrival.at));
        for (arrival, number) in all.iter().zip(100..) {
            prop_assert!(arrival.at < SECOND);
            prop_assert_eq!(arrival.number, number);
            prop_assert!(weights[arrival.tenant] > 0.0, "a tenant without weight has no arrivals");
        }
    }
}
