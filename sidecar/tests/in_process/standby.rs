//! A sidecar in front of a standby, and in front of what becomes of it.

use std::time::Duration;

use postern_sidecar::keys;
use postern_sidecar::postgres::supervise::Condition;

use crate::driver::{Driver, startup};
use crate::real::Cluster;
use crate::world::{READ_SECRET, World, agent_client};

const PATIENCE: Duration = Duration::from_secs(60);
const VERIFIER: &str = "SELECT rolpassword FROM pg_authid WHERE rolname = 'teesql_read'";

#[tokio::test]
async fn a_standby_is_served_with_the_roles_of_its_primary_and_provisioned_once_it_is_promoted() {
    let world = World::new().await;
    let superuser = keys::superuser_password(&agent_client(&world.server_agent)).await.unwrap();
    let mut cluster = Cluster::start(&superuser).await;
    let first = world.serve_before(cluster.folder(), "", "").await;
    assert_eq!(first.serving.postgres().clone().decided().await, Condition::Ready);
    drop(first);
    let verifier = cluster.superuser(&superuser, VERIFIER).await;
    cluster.stand_by().await;

    let sidecar = world.serve_before(cluster.folder(), "", "").await;
    let mut postgres = sidecar.serving.postgres().clone();
    let decided = tokio::time::timeout(PATIENCE, postgres.decided()).await;
    assert_eq!(decided.expect("it never becomes ready"), Condition::Ready);
    let opening = startup(&[("user", "teesql_read"), ("database", "postgres")]);
    Driver::log_in(world.attested(&sidecar).await, &opening, READ_SECRET).await.unwrap();
    assert_eq!(cluster.superuser(&superuser, "SELECT pg_is_in_recovery()").await, "t");
    assert_eq!(cluster.superuser(&superuser, VERIFIER).await, verifier);

    assert_eq!(cluster.superuser(&superuser, "SELECT pg_promote()").await, "t");
    let provisioned = async {
        while cluster.superuser(&superuser, VERIFIER).await == verifier {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, provisioned).await.expect("the new primary is not provisioned");
    Driver::log_in(world.attested(&sidecar).await, &opening, READ_SECRET).await.unwrap();
    cluster.stop().await;
}
