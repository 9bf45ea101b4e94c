//! What a run tells while it goes on: a line that stays where it is on a terminal, and a line now and then elsewhere.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::drive::Observer;
use crate::report::units::{float, micros, seconds, whole};
use crate::result::Second;

/// How often a line is written where nothing can be overwritten, in seconds.
const EVERY: u32 = 5;

/// Tells how a run is doing.
pub struct Progress {
    telling: Mutex<Telling>,
}

struct Telling {
    way: Way,
    /// How long the load is to go on, in seconds.
    length: f64,
    /// What failed so far.
    failed: u64,
}

enum Way {
    Bar(ProgressBar),
    Lines { to: Box<dyn Write + Send>, told: Option<u32> },
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl Progress {
    /// Tells on the standard error output, for a load that goes on for `length`.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        if io::stderr().is_terminal() {
            Self::on_terminal(ProgressDrawTarget::stderr(), length)
        } else {
            Self::in_lines(Box::new(io::stderr()), length)
        }
    }

    fn on_terminal(target: ProgressDrawTarget, length: Duration) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length.as_secs()), target);
        let style = ProgressStyle::with_template("{bar:24} {prefix}  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self::of(Way::Bar(bar), length)
    }

    fn in_lines(to: Box<dyn Write + Send>, length: Duration) -> Self {
        Self::of(Way::Lines { to, told: None }, length)
    }

    fn of(way: Way, length: Duration) -> Self {
        Self { telling: Mutex::new(Telling { way, length: length.as_secs_f64(), failed: 0 }) }
    }

    fn telling(&self) -> MutexGuard<'_, Telling> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Progress {
    fn tell(&self, text: &str) {
        match &mut self.telling().way {
            Way::Bar(bar) => bar.println(format!("loadtest: {text}")),
            // A run goes on when nobody reads what it tells.
            Way::Lines { to, .. } => writeln!(to, "loadtest: {text}").unwrap_or_default(),
        }
    }

    fn second(&self, phase: &str, second: &Second) {
        let mut telling = self.telling();
        telling.failed += second.failed.values().sum::<u64>();
        let time = format!("{} of {}", seconds(f64::from(second.second + 1)), seconds(telling.length));
        let words = words(phase, second, telling.failed);
        match &mut telling.way {
            Way::Bar(bar) => {
                bar.set_prefix(time);
                bar.set_message(words);
                bar.set_position(u64::from(second.second) + 1);
            }
            Way::Lines { to, told } => {
                if told.is_none_or(|told| second.second >= told + EVERY) {
                    *told = Some(second.second);
                    writeln!(to, "loadtest: {time}  {words}").unwrap_or_default();
                }
            }
        }
    }
}

impl Drop for Progress {
    /// Leaves the terminal as it was.
    fn drop(&mut self) {
        if let Way::Bar(bar) = &self.telling().way {
            bar.finish_and_clear();
        }
    }
}

fn words(phase: &str, second: &Second, failed: u64) -> String {
    let Second { due, done, sessions, p50_us, p99_us, .. } = second;
    let late = if *done > 0 {
        format!("p50 {}, p99 {}", micros(float(*p50_us)), micros(float(*p99_us)))
    } else {
        "nothing done".to_owned()
    };
    let failed = if failed > 0 { format!(", {} failed so far", whole(failed)) } else { String::new() };
    format!("{phase}: {}/s of {}/s, {late}, {} sessions{failed}", whole(*done), whole(*due), whole(*sessions))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use indicatif::InMemoryTerm;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_err(|_| io::ErrorKind::Other)?.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn second(second: u32) -> Second {
        let failed = if second == 3 { [("tls".to_owned(), 7)].into() } else { Default::default() };
        Second {
            second,
            due: 1_000,
            done: 990,
            failed,
            sessions: 16,
            p50_us: 1_200,
            p99_us: 12_000,
            ..Second::default()
        }
    }

    #[test]
    fn elsewhere_a_line_comes_every_few_seconds() {
        let written = Written::default();
        let progress = Progress::in_lines(Box::new(written.clone()), MINUTE);
        (0..8).for_each(|number| progress.second("steady", &second(number)));
        progress.tell("the gateway was killed");
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let expected = "\
            loadtest: 1.0 s of 60 s  steady: 990/s of 1,000/s, p50 1.2 ms, p99 12 ms, 16 sessions\n\
            loadtest: 6.0 s of 60 s  steady: 990/s of 1,000/s, p50 1.2 ms, p99 12 ms, 16 sessions, 7 failed so far\n\
            loadtest: the gateway was killed\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn on_a_terminal_one_line_changes_and_is_gone_in_the_end() {
        let terminal = InMemoryTerm::new(10, 140);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255);
        let progress = Progress::on_terminal(target, MINUTE);
        progress.second("steady", &second(29));
        progress.tell("the gateway was killed");
        let shown = terminal.contents();
        assert!(shown.starts_with("loadtest: the gateway was killed\n"), "{shown}");
        assert!(shown.contains("30 s of 60 s  steady: 990/s of 1,000/s, p50 1.2 ms, p99 12 ms"), "{shown}");
        assert_eq!(shown.lines().count(), 2);
        drop(progress);
        assert_eq!(terminal.contents(), "loadtest: the gateway was killed");
    }

    #[test]
    fn a_second_in_which_nothing_was_done_says_so() {
        assert_eq!(words("idle", &Second::default(), 0), "idle: 0/s of 0/s, nothing done, 0 sessions");
    }
}
