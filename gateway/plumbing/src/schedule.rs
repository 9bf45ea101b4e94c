//! How the system shares out its processors among threads.

use std::io;

/// Has the calling thread wait for a processor whenever it is woken, instead of taking one from whoever works there
/// (SCHED_BATCH, sched(7)). It gets the same share of them as before, in fewer and longer turns. A thread that runs under
/// another policy than the usual one, as by systemd's `CPUSchedulingPolicy`, keeps that.
///
/// That suits a thread that is woken for each of many small pieces of work: while it waits more of them come, and whoever
/// brings them goes on bringing.
///
/// # Errors
/// What the system says.
#[expect(
    unsafe_code,
    reason = "no crate that is here already wraps these calls, and those that do change the niceness as well"
)]
pub fn batch() -> io::Result<()> {
    // SAFETY: the call takes no pointer. Zero is the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    if policy < 0 {
        return Err(io::Error::last_os_error());
    }
    if policy != libc::SCHED_OTHER {
        return Ok(());
    }
    // The policy has no priorities.
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads `priority`, which lives until it returns, and no other memory. Zero is the calling thread.
    let refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority) };
    if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;
    use std::thread;

    use super::*;

    /// The policy of the calling thread, as the kernel numbers it (proc_pid_stat(5), field 41).
    fn policy() -> i32 {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        // Fields are counted from behind the name, which is the second and may hold anything.
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').nth(41 - 3).unwrap().parse().unwrap()
    }

    /// The kernel's number of the calling thread.
    fn thread_id() -> String {
        let link = fs::read_link("/proc/thread-self").unwrap();
        link.file_name().unwrap().to_string_lossy().into_owned()
    }

    #[test]
    fn one_thread_works_in_batches_and_the_others_do_not() {
        let before = policy();
        let other = thread::spawn(|| {
            batch().unwrap();
            policy()
        });
        assert_eq!((other.join().unwrap(), policy()), (libc::SCHED_BATCH, before));
        assert_ne!(before, libc::SCHED_BATCH);
    }

    #[test]
    fn a_policy_that_somebody_chose_is_kept() {
        let chosen = thread::spawn(|| {
            let status = Command::new("chrt").args(["--idle", "--pid", "0", &thread_id()]).status().unwrap();
            assert!(status.success());
            batch().unwrap();
            policy()
        });
        assert_eq!(chosen.join().unwrap(), libc::SCHED_IDLE);
    }
}
