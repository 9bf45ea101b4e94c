//! Machines with nothing but cables between them: network namespaces, each with a runtime whose threads are in it. A machine is
//! gone once its threads are, and the processes that were started on it.

use std::process::{Child, Command};
use std::sync::mpsc;

use anyhow::{Context as _, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};
use postern_plumbing::tasks::Task;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// A machine. What belongs to its network has to be made by its own threads.
pub(super) struct Machine {
    handle: Handle,
    thread: Pid,
    _running: oneshot::Sender<()>,
}

impl Machine {
    pub(super) fn new() -> anyhow::Result<Self> {
        let (tell, told) = mpsc::channel();
        let (running, stop) = oneshot::channel::<()>();
        std::thread::Builder::new().name("machine".to_owned()).spawn(move || match enter() {
            Ok(runtime) => {
                if tell.send(Ok((runtime.handle().clone(), gettid()))).is_ok() {
                    // Nobody sends: the other end is dropped.
                    drop(runtime.block_on(stop));
                }
            }
            Err(error) => drop(tell.send(Err(error))),
        })?;
        let (handle, thread) = told.recv().context("a machine's thread ended")??;
        Ok(Self { handle, thread, _running: running })
    }

    /// How `ip` names the network of this machine.
    pub(super) fn network(&self) -> Pid {
        self.thread
    }

    /// Starts a future on the machine. It ends when the handle is dropped.
    pub(super) fn start<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        let _here = self.handle.enter();
        Task::spawn(name, work)
    }

    /// Runs a future on the machine to its end.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> anyhow::Result<T> {
        Ok(self.start(name, work).join().await?)
    }

    /// Starts a process on the machine.
    pub(super) async fn spawn(&self, mut command: Command) -> anyhow::Result<Child> {
        let name = command.get_program().to_owned();
        let spawned = self.run("spawn", async move { command.spawn() }).await?;
        spawned.with_context(|| name.display().to_string())
    }

    /// Runs a command on the machine, which has to succeed.
    pub(super) async fn must(&self, mut command: Command) -> anyhow::Result<()> {
        let text = format!("{command:?}");
        let output = self.run("command", async move { command.output() }).await?.with_context(|| text.clone())?;
        ensure!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Runs `ip` with arguments that have no spaces in them.
    pub(super) async fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        let mut command = Command::new("ip");
        command.args(arguments.split(' '));
        self.must(command).await
    }

    /// Sets a value of the kernel's for this machine's network.
    pub(super) async fn set(&self, name: &'static str, value: &'static str) -> anyhow::Result<()> {
        let file = format!("/proc/sys/net/ipv4/{name}");
        self.run("setting", async move { std::fs::write(&file, value).with_context(|| file) }).await?
    }
}

/// Takes this thread, and all that it starts, to a network of their own.
fn enter() -> anyhow::Result<Runtime> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
