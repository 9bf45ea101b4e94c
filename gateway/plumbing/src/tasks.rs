//! Tasks with a name and an owner. The only place that calls `tokio::spawn`.
//!
//! There are two families. Tasks that serve somebody may finish; a [`Tasks`] tracks them, so that a drain can wait for them
//! and say how many were left. Maintenance never ends by itself: [`maintenance`] restarts it, and its future has no value
//! to return but an error.

mod maintenance;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::maintenance::maintenance;
use crate::seldom::Seldom;

/// A group of tasks that are waited for together. Clones share the group.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Whether every task ended by itself before the deadline.
    pub clean: bool,
    /// How many tasks were still running at the deadline; they were cut.
    pub left: usize,
}

impl Tasks {
    /// An empty group.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a future as a named task of this group. Must be called within a runtime.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cut = Seldom::new(self.cut.clone().cancelled_owned());
        // In boxes: whatever is wrapped around a future would hold the whole of it once more.
        let future = Box::pin(future);
        let watched = self.tracker.track_future(async move {
            tokio::select! {
                biased;
                () = cut => {}
                () = future => {}
            }
        });
        Task::spawn(name, Box::pin(watched)).detach();
    }

    /// How many tasks are running.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until every task has ended, at most for `deadline`; then cuts those that are left at their next await.
    pub async fn close_and_wait(&self, deadline: Duration) -> Drained {
        self.tracker.close();
        let clean = tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok();
        let left = if clean { 0 } else { self.tracker.len() };
        self.cut.cancel();
        Drained { clean: left == 0, left }
    }
}

/// A running task that is aborted when its handle is dropped. The abort takes effect at the task's next await, not at once.
#[derive(Debug)]
#[must_use = "the task is aborted when its handle is dropped; use `detach` to let it run"]
pub struct Task<T> {
    name: &'static str,
    handle: Option<JoinHandle<T>>,
}

/// A task ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskFailed {
    /// The task panicked; the log has the panic.
    #[error("the task `{0}` panicked")]
    Panicked(&'static str),
    /// The task was aborted, or its runtime has ended.
    #[error("the task `{0}` was stopped")]
    Stopped(&'static str),
}

impl<T: Send + 'static> Task<T> {
    /// Runs a future as a named task. Must be called within a runtime.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(name: &'static str, future: F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let handle = tokio::spawn(async move {
            let _running = Running::new(name);
            future.await
        });
        Self { name, handle: Some(handle) }
    }

    /// Waits for the task's result. Dropping this future aborts the task.
    ///
    /// # Errors
    /// When the task panicked or was stopped.
    pub async fn join(mut self) -> Result<T, TaskFailed> {
        let Some(handle) = self.handle.as_mut() else { return Err(TaskFailed::Stopped(self.name)) };
        match handle.await {
            Ok(value) => Ok(value),
            Err(error) if error.is_panic() => Err(TaskFailed::Panicked(self.name)),
            Err(_) => Err(TaskFailed::Stopped(self.name)),
        }
    }

    /// Aborts the task and waits until it is gone.
    pub async fn stop(self) {
        self.abort();
        // A panic on the way out is in the log already, and being stopped is what was asked for.
        drop(self.join().await);
    }
}

impl<T> Task<T> {
    /// The name that the task was given.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Asks the task to end at its next await.
    pub fn abort(&self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Lets the task run without an owner.
    pub fn detach(mut self) {
        drop(self.handle.take());
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Counts a running task by its name, and reports a panic of it.
struct Running {
    name: &'static str,
    running: metrics::Gauge,
}

impl Running {
    fn new(name: &'static str) -> Self {
        let running = metrics::gauge!("tasks_running", "task" => name);
        running.increment(1);
        Self { name, running }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.running.decrement(1);
        if std::thread::panicking() {
            metrics::counter!("tasks_panicked_total", "task" => self.name).increment(1);
            tracing::error!(task = self.name, "a task panicked");
        }
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.clean { f.write_str("clean") } else { write!(f, "forced with {} left", self.left) }
    }
}

#[cfg(test)]
mod tests;
