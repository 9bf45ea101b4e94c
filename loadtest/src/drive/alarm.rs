//! A sleep that is exact to some microseconds, where those of a runtime are a millisecond coarse.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// The shortest sleep.
const LEAST: Duration = Duration::from_nanos(1);

/// A timer of the kernel (timerfd_create(2)). It wakes a task as a socket does: no thread sleeps for it, which would have to
/// be given a processor before it could hand out anything.
#[derive(Debug)]
pub(super) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    /// A timer of this runtime.
    ///
    /// # Errors
    /// When there is no descriptor left for it.
    #[expect(
        deprecated,
        reason = "what is left to the caller, an `OwnedFd` keeps: it is the same open descriptor for all its life"
    )]
    pub(super) fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self(AsyncFd::new(timer)?))
    }

    /// Sleeps that long.
    ///
    /// # Errors
    /// When the kernel does not take the time.
    pub(super) async fn sleep(&self, time: Duration) -> io::Result<()> {
        self.set(time)?;
        loop {
            let mut ready = self.0.readable().await?;
            // A timer that is set anew forgets that it has rung; the news of it may still come.
            let rung = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
            if let Ok(rung) = rung {
                return rung.map(drop);
            }
        }
    }

    fn set(&self, time: Duration) -> io::Result<()> {
        // Nothing at all would stop the timer.
        let once = Itimerspec { it_interval: timespec(Duration::ZERO)?, it_value: timespec(time.max(LEAST))? };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

fn timespec(time: Duration) -> io::Result<Timespec> {
    time.try_into().map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_rings_after_its_time_and_again() {
        let (alarm, begun) = (Alarm::new().unwrap(), Instant::now());
        for _ in 0..10 {
            alarm.sleep(Duration::from_micros(300)).await.unwrap();
        }
        assert!(begun.elapsed() >= Duration::from_millis(3));
        alarm.sleep(Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn a_bell_that_nobody_heard_does_not_cut_the_next_sleep_short() {
        let alarm = Alarm::new().unwrap();
        alarm.set(LEAST).unwrap();
        drop(alarm.0.readable().await.unwrap());
        let begun = Instant::now();
        alarm.sleep(Duration::from_millis(5)).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(5), "{:?}", begun.elapsed());
    }
}
