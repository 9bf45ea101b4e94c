//! A program that runs beside this one and is stopped by its pid.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::WorldError;
use crate::owner::Owner;
use crate::state::{PidFile, State};

/// How long a process gets to end after it was asked to; then it is killed.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same when this program has no time left, as on a panic.
const HASTY: Duration = Duration::from_secs(2);
const LOG_TAIL: usize = 4096;

/// How a process is started, and started again.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// What it is called in logs and messages.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments. No secret belongs here: any user can read them.
    pub arguments: Vec<String>,
    /// Additions to its environment.
    pub environment: Vec<(String, String)>,
    /// The signal that asks it to end.
    pub(crate) stop: Signal,
    /// The user it runs as, when that is another.
    pub(crate) owner: Option<Owner>,
}

impl Recipe {
    /// A program that ends on SIGTERM and runs as this user.
    #[must_use]
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            stop: Signal::TERM,
            owner: None,
        }
    }

    /// Appends arguments.
    #[must_use]
    pub fn arguments<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Starts it; its output is appended to `logs/<name>.log` in the state folder.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(self, state: &State) -> Result<Process, WorldError> {
        let log = state.log(&self.name);
        let mut process = Process { recipe: self, log, pids: state.pids(), child: None };
        process.start()?;
        Ok(process)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().cloned()).stdin(Stdio::null()).kill_on_drop(true);
        // A Ctrl-C at the terminal is for this program, which then stops the others in their order.
        command.process_group(0);
        if let Some(owner) = &self.owner {
            command.uid(owner.uid).gid(owner.gid).current_dir("/");
        }
        command
    }
}

/// A process that ends with this value: asked first, then killed.
#[derive(Debug)]
pub struct Process {
    recipe: Recipe,
    log: PathBuf,
    pids: Arc<PidFile>,
    child: Option<Child>,
}

impl Process {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.recipe.name
    }

    /// Its pid while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Starts it again after [`Process::stop`] or [`Process::kill`].
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&mut self) -> Result<(), WorldError> {
        let file_error = |error| WorldError::file(&self.log, error);
        let output = File::options().create(true).append(true).open(&self.log).map_err(file_error)?;
        let errors = output.try_clone().map_err(file_error)?;
        let started = self.recipe.command().stdout(output).stderr(errors).spawn();
        let child = started
            .map_err(|source| WorldError::Start { program: self.recipe.program.display().to_string(), source })?;
        if let Some(pid) = raw_pid(&child) {
            self.pids.add(pid.as_raw_nonzero().get(), &self.recipe.name);
        }
        self.child = Some(child);
        Ok(())
    }

    /// Asks it to end and waits; kills it when it takes longer than ten seconds.
    pub async fn stop(&mut self) {
        self.ask_to_end();
        self.reap(PATIENCE).await;
    }

    /// Asks it to end, and does not wait for it.
    pub fn ask_to_end(&self) {
        self.signal(self.recipe.stop);
        // A halted process would not hear it.
        self.go_on();
    }

    /// Kills it at once, as a crash would.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.reap(PATIENCE).await;
    }

    /// Halts it, so that it does nothing and answers nobody until [`Process::go_on`].
    pub fn halt(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Process::halt`].
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until `probe` finds nothing missing any more. The probe says what is missing.
    ///
    /// # Errors
    /// When the process ends, or something is still missing at the deadline.
    pub async fn ready(
        &mut self,
        deadline: Duration,
        mut probe: impl AsyncFnMut() -> Result<(), String>,
    ) -> Result<(), WorldError> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.exited() {
                let (process, status) = (self.recipe.name.clone(), status.to_string());
                return Err(WorldError::Ended { process, status, log: self.log_tail() });
            }
            let Err(reason) = probe().await else { return Ok(()) };
            if Instant::now() >= end {
                let process = self.recipe.name.clone();
                return Err(WorldError::NotReady { process, deadline, reason, log: self.log_tail() });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let start = log.len().saturating_sub(LOG_TAIL);
        let start = (start..=log.len()).find(|&index| log.is_char_boundary(index)).unwrap_or(start);
        log.get(start..).unwrap_or_default().to_owned()
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.as_ref().and_then(raw_pid) {
            // The child is not reaped yet, so the pid is still its own; it may have ended.
            kill_process(pid, signal).unwrap_or_default();
        }
    }

    async fn reap(&mut self, patience: Duration) {
        let Some(mut child) = self.child.take() else { return };
        let pid = raw_pid(&child);
        if tokio::time::timeout(patience, child.wait()).await.is_err() {
            drop(child.kill().await);
        }
        self.forget(pid);
    }

    fn forget(&self, pid: Option<Pid>) {
        if let Some(pid) = pid {
            self.pids.remove(pid.as_raw_nonzero().get());
        }
    }
}

impl Drop for Process {
    /// For panics and early returns: blocks for up to two seconds. An orderly end has awaited [`Process::stop`] before.
    fn drop(&mut self) {
        self.ask_to_end();
        let Some(mut child) = self.child.take() else { return };
        let pid = raw_pid(&child);
        let end = Instant::now() + HASTY;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= end {
                drop(child.start_kill());
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.forget(pid);
    }
}

fn raw_pid(child: &Child) -> Option<Pid> {
    child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (tempfile::TempDir, State, Process) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(Some(folder.path())).unwrap();
        let process = Recipe::new("shell", "/bin/sh").arguments(["-c", script]).start(&state).unwrap();
        (folder, state, process)
    }

    fn runs(pid: u32) -> bool {
        crate::leftovers::start_time(i32::try_from(pid).unwrap()).is_some()
    }

    /// Waits until the log holds a word so many times at least.
    async fn said(process: &mut Process, word: &str, times: usize) {
        let log = process.log.clone();
        let count = async || fs::read_to_string(&log).unwrap_or_default().matches(word).count();
        let probe = async || if count().await >= times { Ok(()) } else { Err(word.to_owned()) };
        process.ready(PATIENCE, probe).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_is_gone_when_its_value_is() {
        let (_folder, state, process) = shell("exec sleep 100");
        let pid = process.pid().unwrap();
        assert!(runs(pid));
        assert!(fs::read_to_string(state.path("pids")).unwrap().contains("shell"));
        drop(process);
        assert!(!runs(pid));
        assert_eq!(fs::read_to_string(state.path("pids")).unwrap(), "");
    }

    #[tokio::test]
    async fn a_process_that_does_not_listen_is_killed() {
        let (_folder, _state, mut process) = shell("trap '' TERM; echo deaf; while :; do sleep 1; done");
        said(&mut process, "deaf", 1).await;
        let pid = process.pid().unwrap();
        drop(process);
        // The kill itself takes a moment, and nobody reaps a dropped child before the runtime turns.
        for _ in 0..100 {
            if !runs(pid) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it still runs");
    }

    #[tokio::test]
    async fn a_halted_process_does_nothing_until_it_may_go_on() {
        let (_folder, _state, mut process) = shell("while :; do echo tick; sleep 0.01; done");
        said(&mut process, "tick", 3).await;
        process.halt();
        let halted = format!("/proc/{}/stat", process.pid().unwrap());
        let probe = async || match fs::read_to_string(&halted).unwrap().contains(") T ") {
            true => Ok(()),
            false => Err("it still runs".to_owned()),
        };
        process.ready(PATIENCE, probe).await.unwrap();
        let before = process.log().len();
        process.go_on();
        let log = process.log.clone();
        let longer = async || match fs::read_to_string(&log).unwrap().len() > before {
            true => Ok(()),
            false => Err("it says nothing".to_owned()),
        };
        process.ready(PATIENCE, longer).await.unwrap();
        process.stop().await;
    }

    #[tokio::test]
    async fn a_killed_process_can_be_started_again() {
        let (_folder, _state, mut process) = shell("echo started; exec sleep 100");
        said(&mut process, "started", 1).await;
        let first = process.pid().unwrap();
        process.kill().await;
        assert!(!runs(first) && process.pid().is_none());
        process.start().unwrap();
        said(&mut process, "started", 2).await;
        process.stop().await;
    }

    #[tokio::test]
    async fn a_process_that_ends_early_is_reported_with_its_last_words() {
        let (_folder, _state, mut process) = shell("echo cannot go on; exit 3");
        let error = process.ready(PATIENCE, async || Err("nothing yet".into())).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("cannot go on"), "{error}");
    }

    #[tokio::test]
    async fn a_process_that_is_not_ready_in_time_is_reported_with_what_is_missing() {
        let (_folder, _state, mut process) = shell("exec sleep 100");
        let outcome = process.ready(Duration::from_millis(50), async || Err("no socket".into())).await;
        assert!(outcome.unwrap_err().to_string().contains("no socket"));
    }
}
