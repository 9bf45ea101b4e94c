//! When each peer's timers want to be looked at next. Setting and taking out cost the same however many peers there are.

use std::mem;
use std::time::{Duration, Instant};

/// How fine the time is divided. Timers of the protocol are seconds.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// How many ticks ahead may be set: 16 seconds.
const SLOTS: u64 = 64;

/// Keys in the slots of a wheel that turns by one with every tick. A key may be in several; whoever set it knows which one
/// counts.
pub(super) struct Wheel {
    epoch: Instant,
    /// The last tick that was worked off.
    now: u64,
    slots: Vec<Vec<u32>>,
}

impl Wheel {
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch, now: 0, slots: (0..SLOTS).map(|_| Vec::new()).collect() }
    }

    /// The first tick at or after a moment, as far ahead as the wheel reaches, and never one that was worked off.
    pub(super) fn tick_at(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.epoch).as_millis().div_ceil(TICK.as_millis());
        u64::try_from(since).unwrap_or(u64::MAX).clamp(self.now + 1, self.now + SLOTS - 1)
    }

    /// Sets a key for a tick that [`Wheel::tick_at`] gave.
    pub(super) fn set(&mut self, key: u32, tick: u64) {
        if let Some(slot) = usize::try_from(tick % SLOTS).ok().and_then(|slot| self.slots.get_mut(slot)) {
            slot.push(key);
        }
    }

    /// Turns the wheel by one tick, if its time has come, and says what was set for it.
    pub(super) fn turn(&mut self, now: Instant) -> Option<(u64, Vec<u32>)> {
        let passed = now.saturating_duration_since(self.epoch).as_millis() / TICK.as_millis();
        if u128::from(self.now) >= passed {
            return None;
        }
        self.now += 1;
        let slot = usize::try_from(self.now % SLOTS).ok().and_then(|slot| self.slots.get_mut(slot));
        Some((self.now, slot.map(mem::take).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_come_in_their_time_and_none_twice(wanted in prop::collection::vec(0_u64..30_000, 0..50), late in 1_u64..900) {
            let epoch = Instant::now();
            let mut wheel = Wheel::new(epoch);
            let mut due = Vec::new();
            for (key, millis) in (0..).zip(&wanted) {
                let tick = wheel.tick_at(epoch + Duration::from_millis(*millis));
                wheel.set(key, tick);
                due.push((tick, key));
            }
            let (mut came, mut now) = (Vec::new(), epoch);
            for _ in 0..(17_000 / late) + 2 {
                now += Duration::from_millis(late);
                while let Some((tick, keys)) = wheel.turn(now) {
                    prop_assert!(now >= epoch + TICK * u32::try_from(tick).unwrap(), "too early");
                    came.extend(keys.into_iter().map(|key| (tick, key)));
                }
            }
            due.sort_unstable();
            came.sort_unstable();
            prop_assert_eq!(came, due);
        }
    }

    #[test]
    fn what_has_passed_already_comes_with_the_next_tick() {
        let epoch = Instant::now();
        let mut wheel = Wheel::new(epoch);
        let later = epoch + TICK * 5;
        while wheel.turn(later).is_some() {}
        assert_eq!(wheel.tick_at(epoch), 6);
        assert_eq!(wheel.tick_at(later), 6);
        assert_eq!(wheel.tick_at(later + TICK * 1000), 5 + SLOTS - 1);
    }
}
