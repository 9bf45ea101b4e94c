//! CVMs that must not become reachable.

use std::time::{Duration, Instant};

use postern_world::{Disguise, World};

use postern_world::report::{Outcome, words};

const PATIENCE: Duration = Duration::from_secs(30);

/// Boots an impostor beside a tenant's database and waits until its sidecar says that the gateway refused it, and why.
pub(super) async fn refused(world: &mut World, disguise: Disguise, expected: &str) -> Outcome {
    let impostor = world.impostor(0, disguise).await.map_err(words)?;
    let admin = impostor.sidecar.admin();
    let end = Instant::now() + PATIENCE;
    let outcome = loop {
        match admin.ready().await {
            Ok(()) => break Err("it is registered".to_owned()),
            Err(missing) if missing.contains(expected) => break Ok(format!("refused: {}", reason(&missing, expected))),
            Err(missing) if Instant::now() > end => break Err(format!("not refused for its `{expected}`: {missing}")),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    impostor.stop().await;
    outcome
}

/// The text in quotation marks that holds the expected words.
fn reason<'a>(missing: &'a str, expected: &str) -> &'a str {
    missing.split('"').find(|text| text.contains(expected)).unwrap_or(missing)
}
