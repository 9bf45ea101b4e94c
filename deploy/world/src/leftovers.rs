//! Stops the processes of a world whose owner was killed before it could do so itself.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a process gets to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stops every process that a pid file lists and that is still the one it lists: pids are used again, so the start time
/// has to agree too.
pub(crate) fn stop(pid_file: &Path) {
    let Ok(lines) = fs::read_to_string(pid_file) else { return };
    let leftovers: Vec<(i32, u64)> = lines.lines().filter_map(parse).filter(|&leftover| runs(leftover)).collect();
    signal_all(&leftovers, Signal::TERM);
    let deadline = Instant::now() + PATIENCE;
    while leftovers.iter().any(|&leftover| runs(leftover)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    signal_all(&leftovers, Signal::KILL);
}

fn signal_all(leftovers: &[(i32, u64)], signal: Signal) {
    for &leftover in leftovers.iter().filter(|&&leftover| runs(leftover)) {
        if let Some(pid) = Pid::from_raw(leftover.0) {
            // It may have ended between the look and the signal.
            kill_process(pid, signal).unwrap_or_default();
        }
    }
}

fn runs((pid, started): (i32, u64)) -> bool {
    start_time(pid) == Some(started)
}

fn parse(line: &str) -> Option<(i32, u64)> {
    let mut words = line.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// When a process started, in clock ticks since boot (proc_pid_stat(5), field 22); nothing for one that has ended.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold spaces and brackets: the last bracket ends it.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if state == "Z" { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn sleeper() -> Child {
        Command::new("sleep").arg("100").stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn a_process_that_was_left_behind_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper();
        let pid = i32::try_from(child.id()).unwrap();
        let file = folder.path().join("pids");
        fs::write(&file, format!("{pid} {} sleeper\n", start_time(pid).unwrap())).unwrap();
        stop(&file);
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn another_process_with_the_same_pid_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper();
        let pid = i32::try_from(child.id()).unwrap();
        let file = folder.path().join("pids");
        fs::write(&file, format!("{pid} {} sleeper\nnonsense\n\n", start_time(pid).unwrap() + 1)).unwrap();
        stop(&file);
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
