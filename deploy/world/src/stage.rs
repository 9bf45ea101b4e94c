//! What every program that starts a world does around it: says where the state is, ends on a signal, stops all parts, and
//! keeps the state of a failure.

use tokio::signal::unix::{SignalKind, signal};

use crate::{State, World, WorldSite};

/// A program that starts a world.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    /// What its messages begin with.
    pub name: &'static str,
    /// Whether the state folder stays after a success, too.
    pub keep: bool,
}

impl Stage {
    /// Builds a world, acts in it and stops it. Gives what the act gave: whether everything went well.
    ///
    /// # Errors
    /// When the world could not be built, a signal came, or the act failed.
    pub async fn play(
        self,
        site: WorldSite,
        act: impl AsyncFnOnce(World) -> Result<(bool, World), String>,
    ) -> Result<bool, String> {
        let folder = site.folder().display().to_string();
        self.tell(&format!("state in {folder}"));
        let outcome = self.show(site, act).await;
        let passed = outcome.as_ref().is_ok_and(|(passed, _)| *passed);
        if passed && !self.keep {
            outcome?.1.remove().map_err(|error| error.to_string())?;
            return Ok(true);
        }
        self.tell(&format!("state and logs stay in {folder}"));
        outcome.map(|_| passed)
    }

    async fn show(
        self,
        site: WorldSite,
        act: impl AsyncFnOnce(World) -> Result<(bool, World), String>,
    ) -> Result<(bool, State), String> {
        let build = async { site.build(|step| self.tell(step)).await.map_err(|error| error.to_string()) };
        let world = unless_stopped(Box::pin(build)).await?;
        let (passed, world) = unless_stopped(Box::pin(act(world))).await?;
        Ok((passed, world.stop().await))
    }

    /// Waits for the signal that ends a program which has nothing else to wait for.
    pub async fn until_stopped(self) {
        self.tell(&format!("{}, stopping", stop_signal().await));
    }

    /// Tells the user what is going on.
    #[expect(clippy::print_stderr, reason = "a command-line program tells its user what it does")]
    pub fn tell(self, text: &str) {
        eprintln!("{}: {text}", self.name);
    }
}

/// Breaks off when a signal asks to end. What the future has started is stopped as it is dropped.
async fn unless_stopped<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::select! {
        outcome = future => outcome,
        signal = stop_signal() => Err(format!("stopped by {signal}")),
    }
}

/// Waits for a signal that asks to end, and names it.
async fn stop_signal() -> &'static str {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    }
}
