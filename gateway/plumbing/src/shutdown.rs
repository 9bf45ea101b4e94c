//! One signal to stop, seen by everything that has to.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::tasks::Task;

/// A flag that goes up once and is awaited by many. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A flag that is down.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that goes up with this one, and can be raised without raising this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Raises the flag. Raising it twice is the same as once.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Waits until the flag is up; returns at once when it is.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// Whether the flag is up.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Raises the flag on SIGTERM or SIGINT; a second one of either ends the process at once, with the exit code that a
    /// shell gives to a process killed by it. Must be called within a runtime.
    pub fn on_signals(&self) {
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => {
                Task::spawn("signals", watch(self.clone(), terminate, interrupt)).detach();
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "cannot watch for signals: SIGTERM and SIGINT will end the process at once");
            }
        }
    }
}

async fn watch(shutdown: Shutdown, mut terminate: Signal, mut interrupt: Signal) {
    let first = next(&mut terminate, &mut interrupt).await;
    tracing::info!(signal = first.as_raw_value(), "asked to stop");
    shutdown.trigger();
    let second = next(&mut terminate, &mut interrupt).await;
    tracing::warn!(signal = second.as_raw_value(), "asked to stop again: ending at once");
    std::process::exit(128 + second.as_raw_value());
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> SignalKind {
    tokio::select! {
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::io::{AsyncBufReadExt as _, BufReader};
    use tokio::process::Command;

    use super::*;

    #[tokio::test]
    async fn every_clone_and_child_sees_it_and_a_child_does_not_raise_its_parent() {
        let shutdown = Shutdown::new();
        let (clone, child) = (shutdown.clone(), shutdown.child());
        child.trigger();
        assert!(child.is_triggered() && !clone.is_triggered());
        let sibling = shutdown.child();
        shutdown.trigger();
        clone.triggered().await;
        sibling.triggered().await;
    }

    /// Set in the process that gets the signals, which is this test run again.
    const CHILD: &str = "POSTERN_TEST_SHUTDOWN_CHILD";

    #[tokio::test]
    async fn the_first_signal_raises_the_flag_and_the_second_ends_the_process() {
        if std::env::var_os(CHILD).is_some() {
            return child().await;
        }
        for (name, code) in [("TERM", 143), ("INT", 130)] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--nocapture"])
                .arg("shutdown::tests::the_first_signal_raises_the_flag_and_the_second_ends_the_process")
                .env(CHILD, "1")
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            for expected in ["watching", "flag is up"] {
                while lines.next_line().await.unwrap().expect("the child ended early") != expected {}
                let pid = child.id().unwrap().to_string();
                assert!(Command::new("kill").args(["-s", name, &pid]).status().await.unwrap().success());
            }
            assert_eq!(child.wait().await.unwrap().code(), Some(code));
        }
    }

    #[expect(clippy::print_stdout, reason = "the parent waits for these lines")]
    async fn child() {
        let shutdown = Shutdown::new();
        shutdown.on_signals();
        println!("\nwatching");
        shutdown.triggered().await;
        println!("flag is up");
        std::future::pending().await
    }
}
