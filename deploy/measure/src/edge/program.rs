//! Programs that are compared, as processes on one of the machines.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::machine::Machine;

/// How long a program may take until it is there.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running process. It ends when this is dropped.
pub(super) struct Program {
    process: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a program, whose words go to a file of this name in a folder.
    pub(super) async fn start(
        machine: &Machine,
        mut command: Command,
        folder: &Path,
        name: &str,
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self { process: machine.spawn(command).await?, log })
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until something is the case.
    pub(super) async fn until<F: Future<Output = bool>>(&mut self, so: impl Fn() -> F) -> anyhow::Result<()> {
        let started = Instant::now();
        while !so().await {
            if self.process.try_wait()?.is_some() || started.elapsed() > PATIENCE {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("it did not come up: {}", log.lines().collect::<Vec<_>>().join("; "));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until somebody can connect from a machine to an address.
    pub(super) async fn until_reached(&mut self, from: &Machine, address: SocketAddr) -> anyhow::Result<()> {
        self.until(|| {
            let attempt = from.start("attempt", TcpStream::connect(address));
            async move { matches!(attempt.join().await, Ok(Ok(_))) }
        })
        .await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What a program says of its version, in one line.
pub(super) fn version(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", output.status);
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
}
