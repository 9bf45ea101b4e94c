//! A newer policy is put beside a running sidecar, and then an older one.

use std::time::{Duration, Instant};

use postern_world::{SignedPolicy, World};
use serde_json::json;

use super::refusals;
use super::revocation::Cutter;
use crate::client::Login;
use crate::client::psql::Psql;
use crate::client::python::Python;
use postern_world::report::{Outcome, seconds, words};

/// Policies are looked for every two seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Signs a policy without the application's composition while a session is idle, and waits until the sidecar has cut it.
pub(super) async fn cuts(
    world: &World,
    policy: &SignedPolicy,
    cutter: Cutter,
    python: &Python,
    login: &Login,
) -> Outcome {
    let mut session = python.start("hold", login, json!({"seconds": 60})).await?;
    session.next().await?;
    let before = cutter.cuts().await?;
    // The sidecar goes on believing its gateway.
    let gateway = world.gateway().guest.cvm().compose_hash();
    policy.sign(2, Some(&[gateway])).map_err(words)?;
    session.next().await?;
    let answer = session.next().await?;
    let error = cutter.told(&answer)?;
    cutter.cut_one(before).await?;
    Ok(format!("the sidecar took it over while it ran, and cut the session; the driver saw `{error}`"))
}

/// Signs a policy that welcomes everybody again, and connects until it works.
pub(super) async fn welcomes(policy: &SignedPolicy, psql: &Psql, login: &Login) -> Outcome {
    policy.sign(3, None).map_err(words)?;
    let signed = Instant::now();
    loop {
        match psql.run(login, "select 42;\n").await {
            Ok(_) => return Ok(format!("works {} after it was signed", seconds(signed))),
            Err(error) if signed.elapsed() > PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Puts the policy back that forbids the application. The sidecar has to say that it is older, and go on with the newer one.
pub(super) async fn refuses_the_older(world: &World, policy: &SignedPolicy, psql: &Psql, login: &Login) -> Outcome {
    let admin = world.tenant(0).ok_or("no tenant")?.database().sidecar.admin();
    let rollbacks = async || admin.metric("attest_policy_reloads_total", "outcome=\"rollback\"").await;
    let before = rollbacks().await?;
    let gateway = world.gateway().guest.cvm().compose_hash();
    policy.sign(2, Some(&[gateway])).map_err(words)?;
    let signed = Instant::now();
    while rollbacks().await? <= before {
        if signed.elapsed() > PATIENCE {
            return Err("the sidecar does not say that the policy is older".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    psql.run(login, "select 42;\n").await?;
    // With the older one a restart would be refused, too.
    policy.sign(3, None).map_err(words)?;
    Ok("refused as older, and the newer one stays in force".to_owned())
}

/// What a client reads that the policy forbids.
pub(super) async fn refuses_newcomers(psql: &Psql, login: &Login) -> Outcome {
    refusals::refused(psql, login, &["another composition"]).await
}
