//! Stock libpq, Debian's in psql and a newer one in psycopg, and what they make of each way to authenticate.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use postern_plumbing::net::Endpoint;
use postern_sidecar::keys;
use postern_sidecar::postgres::supervise::Condition;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::connect::Beside;
use crate::real::{Cluster, psql};
use crate::world::{READ_SECRET, SERVER_APP, Sidecar, WRITE_SECRET, World, agent_client};

const SCRAM: &str = "[clients]\nauthentication = \"scram-sha-256\"\n";
const WHO: &str = "select current_user";

/// A sidecar before a real PostgreSQL.
pub(crate) async fn serving(more: &str) -> (World, Cluster, Sidecar) {
    serving_with("", more).await
}

/// The same with these keys in `[postgres]`.
pub(crate) async fn serving_with(postgres: &str, more: &str) -> (World, Cluster, Sidecar) {
    let world = World::new().await;
    let superuser = keys::superuser_password(&agent_client(&world.server_agent)).await.unwrap();
    let cluster = Cluster::start(&superuser).await;
    let sidecar = world.serve_before(cluster.folder(), postgres, more).await;
    assert_eq!(sidecar.serving.postgres().clone().decided().await, Condition::Ready);
    (world, cluster, sidecar)
}

/// A connection string straight to the sidecar, with the client CVM's certificate.
pub(crate) async fn straight(world: &World, sidecar: &Sidecar) -> String {
    let identity = world.client_identity().await.current();
    let (certificate, key) = (world.folder.path().join("client.crt"), world.folder.path().join("client.key"));
    fs::write(&certificate, identity.certificate_pem()).unwrap();
    fs::write(&key, identity.private_key_pem().as_bytes()).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    format!(
        "host=127.0.0.1 port={} user=teesql_read dbname=postgres sslmode=require sslcert={} sslkey={}",
        sidecar.address.port(),
        certificate.display(),
        key.display()
    )
}

/// A connection string through a sidecar in connect mode.
fn beside(endpoint: &Endpoint) -> String {
    let Endpoint::Tcp(address) = endpoint else { panic!("{endpoint}") };
    format!("host=127.0.0.1 port={} user=teesql_read dbname=postgres", address.port())
}

/// A Python with psycopg, whose wheel brings a libpq of its own.
pub(crate) struct Psycopg(PathBuf);

impl Psycopg {
    pub(crate) async fn installed() -> Self {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/libpq"));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/in_process/libpq/prepare");
        let done = Command::new(script).arg(&folder).output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Self(folder.join("python/bin/python"))
    }

    pub(crate) async fn query(&self, connection: &str, password: &str, sql: &str) -> Result<String, String> {
        const PROGRAM: &str = "import sys, psycopg\n\
            connection, password, sql = sys.stdin.read().split('\\0')\n\
            with psycopg.connect(connection, password=password) as session:\n    \
                print(session.execute(sql).fetchone()[0], psycopg.pq.version())";
        let mut command = Command::new(&self.0);
        command.args(["-c", PROGRAM]).env("HOME", "/nonexistent").kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all([connection, password, sql].join("\0").as_bytes()).await.unwrap();
        drop(input);
        let output = child.wait_with_output().await.unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let said = String::from_utf8(output.stdout).unwrap();
        let (answer, libpq) = said.trim().split_once(' ').unwrap();
        assert!(libpq.parse::<u32>().unwrap() >= 180_000, "a libpq {libpq}, which is no newer than Debian's");
        Ok(answer.to_owned())
    }
}

#[tokio::test]
async fn libpq_binds_its_proof_to_the_sidecar() {
    let (world, cluster, sidecar) = serving(SCRAM).await;
    let psycopg = Psycopg::installed().await;
    let straight = straight(&world, &sidecar).await;
    for binding in ["require", "prefer", "disable"] {
        let connection = format!("{straight} channel_binding={binding}");
        assert_eq!(psql(&connection, READ_SECRET, WHO).await.as_deref(), Ok("teesql_read"), "{binding}");
        assert_eq!(psql(&connection, WRITE_SECRET, WHO).await.as_deref(), Ok("teesql_read"), "{binding}");
        let refused = psql(&connection, &READ_SECRET.replace('1', "2"), WHO).await.unwrap_err();
        assert!(refused.contains("password authentication failed for user \"teesql_read\""), "{refused}");
        for negotiation in ["postgres", "direct"] {
            let connection = format!("{connection} sslnegotiation={negotiation} require_auth=scram-sha-256");
            let answer = psycopg.query(&connection, READ_SECRET, WHO).await;
            assert_eq!(answer.as_deref(), Ok("teesql_read"), "{binding} {negotiation}");
        }
    }

    // A driver beside a sidecar in connect mode has no TLS to bind to, and is not offered to.
    let connecting = Beside::start(&world, sidecar.address, SERVER_APP, "").await;
    for binding in ["prefer", "disable"] {
        let connection = format!("{} channel_binding={binding}", beside(&connecting.endpoints[0]));
        assert_eq!(psql(&connection, READ_SECRET, WHO).await.as_deref(), Ok("teesql_read"), "{binding}");
        assert_eq!(psycopg.query(&connection, READ_SECRET, WHO).await.as_deref(), Ok("teesql_read"), "{binding}");
    }
    let connection = format!("{} channel_binding=require", beside(&connecting.endpoints[0]));
    let refused = psql(&connection, READ_SECRET, WHO).await.unwrap_err();
    assert!(refused.contains("channel binding required"), "{refused}");
    cluster.stop().await;
}

#[tokio::test]
async fn libpq_sends_its_secret_where_that_is_asked_for() {
    let (world, cluster, sidecar) = serving("").await;
    let psycopg = Psycopg::installed().await;
    let straight = straight(&world, &sidecar).await;
    for binding in ["prefer", "disable"] {
        let connection = format!("{straight} channel_binding={binding}");
        assert_eq!(psql(&connection, READ_SECRET, WHO).await.as_deref(), Ok("teesql_read"), "{binding}");
        assert_eq!(psycopg.query(&connection, READ_SECRET, WHO).await.as_deref(), Ok("teesql_read"), "{binding}");
    }
    let refused = psql(&format!("{straight} channel_binding=require"), READ_SECRET, WHO).await.unwrap_err();
    assert!(refused.contains("channel binding required"), "{refused}");
    cluster.stop().await;
}
