//! What a PostgreSQL's pg_hba.conf may say, and what it may not.

use postern_plumbing::secret::Secret;
use postern_sidecar::keys;
use postern_sidecar::postgres::supervise::Condition;
use postern_sidecar::start::StartError;

use tokio::process::Command;

use crate::driver::{Driver, startup};
use crate::real::Cluster;
use crate::world::{READ_SECRET, World, agent_client};

/// Has the superuser known by the user of this machine that the test runs as.
async fn know_by_peer(cluster: &Cluster, first: &str) {
    let user = Command::new("id").arg("-un").output().await.unwrap();
    let user = String::from_utf8(user.stdout).unwrap();
    std::fs::write(cluster.folder().join("data/pg_ident.conf"), format!("ours {} postgres\n", user.trim())).unwrap();
    cluster.set_access(&format!("{first}\nlocal all postgres peer map=ours\nlocal all all scram-sha-256\n")).await;
}

#[tokio::test]
async fn a_superuser_that_postgres_knows_by_its_user_needs_no_password() {
    let world = World::new().await;
    let cluster = Cluster::start(&Secret::new("the password of nobody".to_owned())).await;
    know_by_peer(&cluster, "").await;
    let peer = "superuser_login = \"peer\"\n";
    let sidecar = world.serve_before(cluster.folder(), peer, "").await;
    assert_eq!(sidecar.serving.postgres().clone().decided().await, Condition::Ready);
    let opening = startup(&[("user", "teesql_read"), ("database", "postgres")]);
    Driver::log_in(world.attested(&sidecar).await, &opening, READ_SECRET).await.unwrap();

    // It is not taken for peer when everybody is let in, and peer is not taken for a password.
    for (first, more) in [("local all postgres trust", peer), ("", "")] {
        know_by_peer(&cluster, first).await;
        let mut sidecar = world.serve_before(cluster.folder(), more, "").await;
        let ended = sidecar.serving.until_stopped(&sidecar.ground).await;
        assert!(matches!(ended, Err(StartError::Postgres)), "{first}: {ended:?}");
    }
    cluster.stop().await;
}

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
        let mut sidecar = world.serve_before(cluster.folder(), "", "").await;
        let ended = sidecar.serving.until_stopped(&sidecar.ground).await;
        assert!(matches!(ended, Err(StartError::Postgres)), "{trusted}: {ended:?}");
        let error = Driver::reader(world.attested(&sidecar).await).await.unwrap_err();
        assert_eq!(error.sqlstate, "57P03", "nobody is let in meanwhile");
    }
    cluster.set_access(&proper).await;
    let sidecar = world.serve_before(cluster.folder(), "", "").await;
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
