//! What a PostgreSQL's pg_hba.conf may say, and what it may not.

use postern_sidecar::keys;
use postern_sidecar::postgres::supervise::Condition;
use postern_sidecar::start::StartError;

use crate::driver::Driver;
use crate::real::Cluster;
use crate::world::{World, agent_client};

#[tokio::test]
async fn a_start_in_front_of_a_postgres_that_trusts_anybody_is_refused() {
    let world = World::new().await;
    let superuser = keys::superuser_password(&agent_client(&world.server_agent)).await.unwrap();
    let cluster = Cluster::start(&superuser).await;
    let proper = cluster.access();
    for trusted in [
        "local all all trust",
        "local all teesql_read trust",
        "local all nobody trust",
        "local other all trust",
        "local replication all trust",
        "host all all 127.0.0.1/32 trust",
    ] {
        cluster.set_access(&format!("{trusted}\n{proper}")).await;
        let mut sidecar = world.serve_before(cluster.folder(), "").await;
        let ended = sidecar.serving.until_stopped(&sidecar.ground).await;
        assert!(matches!(ended, Err(StartError::Postgres)), "{trusted}: {ended:?}");
        let error = Driver::reader(world.attested(&sidecar).await).await.unwrap_err();
        assert_eq!(error.sqlstate, "57P03", "nobody is let in meanwhile");
    }
    cluster.set_access(&proper).await;
    let sidecar = world.serve_before(cluster.folder(), "").await;
    assert_eq!(sidecar.serving.postgres().clone().decided().await, Condition::Ready);

    // Trust that is given later is found as well, and served no more.
    cluster.set_access(&format!("local all nobody trust\n{proper}")).await;
    let refused = async {
        while sidecar.serving.postgres().condition() != Condition::Misconfigured {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), refused).await.unwrap();
    cluster.stop().await;
}
