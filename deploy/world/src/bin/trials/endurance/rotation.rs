//! A cluster secret is replaced while pgbench connects with it, transaction by transaction, and while sessions last.

use std::path::Path;
use std::time::{Duration, Instant};

use postern_world::World;
use postern_world::report::{Outcome, seconds, words};

use super::pgbench::{Bench, Ended, Work};
use super::{DEADLINE, MIDST, TURN};

const ROLE: &str = "teesql_readwrite";

/// Two secrets are in force while one replaces the other, so no connection is refused, whichever of them it shows. In the end
/// the old one opens nothing, and the sessions that it has opened go on.
pub(crate) async fn without_downtime(world: &World, old: &Bench) -> Outcome {
    let guest = &world.tenant(0).ok_or("no tenant")?.database().guest;
    let file = guest.folder().join("secrets").join(ROLE);
    let secret = hex::encode(rand::random::<[u8; 32]>());
    let new = old.with_secret(&secret);

    let replaced = async {
        let both = format!("{}\n{secret}\n", old.secret());
        let (shown, added) = tokio::join!(old.work(Work::Connect, TURN), in_force(&file, &both, &new, true));
        let first = shown?.without_failure()?;
        let (shown, gone) = tokio::join!(new.work(Work::Connect, TURN), in_force(&file, &secret, old, false));
        let second = shown?.without_failure()?;
        Ok::<_, String>(format!(
            "old: {first}, new: {second}; in force after {}, the old one out of it after {}",
            added?, gone?
        ))
    };
    let (lasting, replaced) = tokio::join!(old.work(Work::Session, TURN * 3), replaced);
    Ok(format!("{}; sessions: {}", replaced?, lasting?.without_failure()?))
}

/// Puts secrets into the file in the midst of things, and waits until one is accepted, or no longer.
async fn in_force(file: &Path, secrets: &str, bench: &Bench, accepted: bool) -> Outcome {
    tokio::time::sleep(MIDST).await;
    // Whole or not at all, as whoever mounts secrets does it.
    let aside = file.with_extension("new");
    std::fs::write(&aside, secrets).map_err(words)?;
    std::fs::rename(&aside, file).map_err(words)?;
    let since = Instant::now();
    loop {
        let ended = bench.work(Work::Connect, Duration::from_secs(1)).await?;
        if matches!(ended, Ended::Done { failed: 0, .. }) == accepted {
            return Ok(seconds(since));
        }
        if since.elapsed() > DEADLINE / 3 {
            return Err(format!("not noticed within {:?}", DEADLINE / 3));
        }
    }
}
