//! Other people's programs: started, fed, bounded in time.

use std::process::{Output, Stdio};
use std::time::Duration;

use postern_world::report::words;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Runs a program with this input to its end; kills it at the deadline.
pub(crate) async fn run(mut command: Command, input: &str, deadline: Duration) -> Result<Output, String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{name} could not be started: {error}"))?;
    let mut stdin = child.stdin.take().ok_or("the program has no input")?;
    let input = input.to_owned();
    let exchange = async move {
        // A program that ends without reading says more by its own message than the broken pipe does.
        drop(stdin.write_all(input.as_bytes()).await);
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(deadline, exchange).await;
    output.map_err(|_| format!("{name} did not end within {deadline:?}"))?.map_err(words)
}

/// Frees a command of what the user's own environment would change.
pub(crate) fn cut_off(command: &mut Command, home: &std::path::Path) {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
        command.env_remove(name);
    }
    command.env("HOME", home);
}
