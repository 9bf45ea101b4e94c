//! Stops the processes of a world whose owner was killed before it could do so itself.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::owner::Owner;
use crate::trust;

/// How long a process gets to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is read of a pid file, in bytes. A world has a few dozen processes, and a fleet some thousand.
const MAX_PID_FILE: u64 = 1024 * 1024;

/// Stops every process that a pid file of this user lists and that is still the one it lists: pids are used again, so the
/// start time and the user have to agree too.
pub(crate) fn stop(pid_file: &Path) {
    let Ok(lines) = read(pid_file) else { return };
    let leftovers: Vec<(i32, u64)> = lines.lines().filter_map(parse).filter(|&leftover| runs(leftover)).collect();
    signal_all(&leftovers, Signal::TERM);
    // One that was halted would not hear it.
    signal_all(&leftovers, Signal::CONT);
    let deadline = Instant::now() + PATIENCE;
    while leftovers.iter().any(|&leftover| runs(leftover)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    signal_all(&leftovers, Signal::KILL);
}

fn read(pid_file: &Path) -> io::Result<String> {
    let file = trust::open_own_file(pid_file, File::options().read(true))?;
    let mut lines = String::new();
    file.take(MAX_PID_FILE).read_to_string(&mut lines)?;
    Ok(lines)
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
    start_time(pid) == Some(started) && user(pid).is_some_and(is_ours)
}

/// Whether worlds of this user have processes that run as that user.
fn is_ours(user: u32) -> bool {
    let as_another = || Owner::unprivileged().ok().flatten();
    user == geteuid().as_raw() || as_another().is_some_and(|owner| owner.uid == user)
}

/// The effective user of a process (proc_pid_status(5), `Uid`).
fn user(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()
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
    fn processes_of_other_users_are_not_ours() {
        let own = geteuid().as_raw();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(user(pid), Some(own));
        assert!(is_ours(own) && !is_ours(own + 4242));
    }

    #[test]
    fn a_linked_pid_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper();
        let pid = i32::try_from(child.id()).unwrap();
        let (file, link) = (folder.path().join("pids"), folder.path().join("link"));
        fs::write(&file, format!("{pid} {} sleeper\n", start_time(pid).unwrap())).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        stop(&link);
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
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
