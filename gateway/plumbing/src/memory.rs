//! Keys and secrets in this process's memory, kept from files and from other processes.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps of this process, and that other processes of its user trace it or read its memory and environment. To be
/// called before there is a secret in memory. Programs that this one starts are not covered by it.
///
/// The files below `/proc/<pid>` belong to root from then on, also those of this process: what it wants to know about itself
/// has to be in the files that everybody may read, such as `stat` and `status`.
///
/// # Errors
/// What the system says.
pub fn protect() -> io::Result<()> {
    // A core pattern that is a pipe takes no notice of the limit, hence both.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    /// Set in the process that is to end, which is this test run again: whether it protects itself before.
    const CHILD: &str = "POSTERN_TEST_MEMORY_CHILD";
    const NAME: &str = "memory::tests::a_protected_process_dumps_no_core";

    #[test]
    fn a_protected_process_dumps_no_core() {
        match std::env::var(CHILD).as_deref() {
            Ok("protected") => {
                super::protect().unwrap();
                let limit = getrlimit(Resource::Core);
                assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
                assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
                std::process::abort();
            }
            Ok(_) => {
                assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
                std::process::abort();
            }
            Err(_) => {}
        }
        let folder = tempfile::tempdir().unwrap();
        for (kind, may_dump) in [("protected", false), ("bare", true)] {
            let mut child = Command::new("sh");
            child.args(["-c", "ulimit -c unlimited 2>/dev/null; ulimit -c; exec \"$0\" \"$@\""]);
            child.arg(std::env::current_exe().unwrap()).args(["--exact", NAME]).env(CHILD, kind);
            let output = child.current_dir(folder.path()).output().unwrap();
            assert_eq!(output.status.signal(), Some(6), "{}", String::from_utf8_lossy(&output.stderr));
            // Where the machine forbids core dumps to everybody, only the process's own word remains.
            if kind == "protected" || output.stdout.starts_with(b"unlimited") {
                assert_eq!(output.status.core_dumped(), may_dump, "{kind}");
            }
        }
    }
}
