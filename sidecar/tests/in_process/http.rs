//! What serve mode shows to everybody in HTTP, and what `sidecar verify` makes of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use postern_attest::Statement;
use postern_identity::{AppId, Register};
use postern_simulator::Measurements;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::postgres::Manner;
use crate::world::{CLIENT_APP, SERVER_APP, Sidecar, World};
use crate::{binary, rules};

/// Enough for every test but the one about limits.
const HTTP: &str = "[http]\nlisten = \"127.0.0.1:0\"\nquotes_per_second = 100\nquotes_per_source = 100\n";

struct Said {
    status: u16,
    head: String,
    body: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{} {}", self.head, self.body))
    }
}

async fn ask(address: SocketAddr, request: &str) -> Said {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Said { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

async fn serving(http: &str) -> (World, Sidecar, SocketAddr) {
    let (world, sidecar) = World::serving(http).await;
    let address = sidecar.serving.http().unwrap();
    (world, sidecar, address)
}

/// What it says must be a problem of this kind.
fn assert_problem(said: &Said, status: u16, retry: bool) {
    assert_eq!((said.status, said.head.contains("retry-after: ")), (status, retry), "{} {}", said.head, said.body);
    assert!(said.head.contains("content-type: application/problem+json"), "{}", said.head);
    let problem = said.json();
    assert_eq!((&problem["status"], &problem["type"]), (&json!(status), &json!("about:blank")));
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
}

#[tokio::test]
async fn everybody_may_see_whether_it_is_alive_and_ready_and_no_more() {
    let (world, sidecar, address) = serving(HTTP).await;
    assert_eq!(ask(address, "GET /health").await.json(), json!({"status": "ok"}));
    assert_eq!(ask(address, "GET /ready").await.json(), json!({"ready": true, "reasons": []}));
    let secret = format!("cannot open {}", world.folder.path().display());
    sidecar.ground.readiness.register("postgres").not_ready(secret);
    let said = ask(address, "GET /ready").await;
    let reasons = json!([{"check": "postgres", "reason": "Postgres is away, or its roles are not set up"}]);
    assert_eq!((said.status, said.json()), (503, json!({"ready": false, "reasons": reasons})));

    assert_problem(&ask(address, "GET /metrics").await, 404, false);
    assert_problem(&ask(address, "GET /").await, 404, false);
    let said = ask(address, "POST /attestation").await;
    assert_problem(&said, 405, false);
    assert!(said.head.contains("allow: get"), "{}", said.head);
}

#[tokio::test]
async fn metrics_are_shown_where_they_are_asked_for() {
    let (_world, _sidecar, address) = serving(&format!("{HTTP}metrics = true\n")).await;
    let said = ask(address, "GET /metrics").await;
    assert_eq!(said.status, 200);
}

#[tokio::test]
async fn an_answer_without_a_nonce_has_teesqls_fields_and_formula_and_is_kept_for_a_second() {
    let (world, _sidecar, address) = serving(HTTP).await;
    let said = ask(address, "GET /attestation").await;
    assert!(said.status == 200 && said.head.contains("cache-control: no-store"), "{}", said.head);
    let answer = said.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert_eq!(answer["app_id"], json!(SERVER_APP.to_string()));
    assert_eq!(text(&answer["compose_hash"]).len(), 64);
    assert_eq!(
        answer["postgres_state"],
        json!({"wal_lsn": "0/16B3748", "controldata_hash": "c0de", "pg_version": "17.0"})
    );
    for register in ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"] {
        assert_eq!(hex::decode(text(&answer["tcb_info"][register])).unwrap().len(), 48, "{register}");
    }
    let timestamp = answer["timestamp"].as_u64().unwrap();
    let statement = Statement {
        app_id: "",
        compose_hash: "",
        instance_id: "",
        wal_lsn: "0/16B3748",
        controldata_hash: "c0de",
        pg_version: "",
        timestamp,
    };
    let (quote, bound) = (hex::decode(text(&answer["quote"])).unwrap(), statement.report_data());
    assert_eq!(answer["report_data"], json!(hex::encode(bound)));
    assert_eq!(&quote[568..632], bound, "where TDX quotes of version 4 have their report data");
    assert!(answer.get("nonce").is_none());

    let asked = || world.postgres.statements().iter().filter(|sql| sql.contains("pg_control_system")).count();
    let before = asked();
    let mut seen = BTreeSet::new();
    let started = tokio::time::Instant::now();
    for _ in 0..20 {
        seen.insert(ask(address, "GET /attestation").await.body);
    }
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!(asked() - before <= seconds + 1 && seen.len() <= seconds + 2, "{} answers in {seconds} s", seen.len());
}

#[tokio::test]
async fn a_nonce_is_answered_anew_and_bad_ones_are_not() {
    let (_world, _sidecar, address) = serving(HTTP).await;
    let nonce = "AB".repeat(32);
    let first = ask(address, &format!("GET /attestation?nonce={nonce}")).await.json();
    let second = ask(address, &format!("GET /attestation?nonce={}", "cd".repeat(16))).await.json();
    assert_eq!((&first["nonce"], &second["nonce"]), (&json!("ab".repeat(32)), &json!("cd".repeat(16))));
    assert_ne!(first["report_data"], second["report_data"]);
    assert!(first["tls_public_key"].as_str().unwrap().starts_with("3059"), "a P-256 key");
    for bad in ["", "ab", &"ab".repeat(15), &"ab".repeat(65), &"zz".repeat(16), &format!("{nonce}&nonce={nonce}")] {
        assert_problem(&ask(address, &format!("GET /attestation?nonce={bad}")).await, 400, false);
    }
}

#[tokio::test]
async fn quotes_are_limited_and_what_is_away_is_told_with_a_time_to_come_back() {
    let asked = format!("GET /attestation?nonce={}", "ab".repeat(16));
    for (limit, status) in [("quotes_per_source", 429), ("quotes_per_second", 503)] {
        let (_world, _sidecar, address) =
            serving(&HTTP.replace(&format!("{limit} = 100"), &format!("{limit} = 1"))).await;
        let mut statuses = BTreeSet::new();
        // The first five are the burst.
        for _ in 0..20 {
            let said = ask(address, &asked).await;
            if said.status != 200 {
                assert_problem(&said, status, true);
            }
            statuses.insert(said.status);
        }
        assert_eq!(statuses, BTreeSet::from([200, status]), "{limit}");
    }

    let (world, _sidecar, address) = serving(HTTP).await;
    world.postgres.set(Manner::Starting);
    let said = ask(address, &asked).await;
    assert_problem(&said, 503, true);
    assert!(said.body.contains("Postgres") && !said.body.contains("starting up"), "{}", said.body);
}

/// Runs `sidecar verify --json` for the simulated platform.
async fn verify(world: &World, arguments: &[&str]) -> (Option<i32>, Value) {
    let [root, collateral] = ["root.pem", "collateral.json"].map(|name| world.folder.path().join(name));
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidecar"));
    command.arg("verify").args(arguments).arg("--json").arg("--root").arg(root).arg("--collateral").arg(collateral);
    let output = command.output().await.unwrap();
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code(), report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

fn codes(list: &Value) -> BTreeSet<&str> {
    list.as_array().unwrap().iter().map(|statement| statement["code"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn verify_believes_an_answer_to_its_own_nonce() {
    let (world, _sidecar, address) = serving(HTTP).await;
    let url = "http://db.example:8080/attestation";
    let (app, address) = (SERVER_APP.to_string(), address.to_string());
    let (code, report) = verify(&world, &[url, "--address", &address, "--app-id", &app]).await;
    assert_eq!((code, &report["verdict"], &report["reason"]), (Some(0), &json!("accepted"), &Value::Null));
    assert_eq!((&report["subject"]["kind"], &report["subject"]["name"]), (&json!("attestation"), &json!(url)));
    let proven = codes(&report["proven"]);
    for code in ["quote_signed", "event_log", "state_bound", "fresh", "tls_key_bound", "app_expected"] {
        assert!(proven.contains(code), "{code} in {proven:?}");
    }
    let expected = ["hardware", "image", "chain", "revocation", "channel", "compose_hash_expected"];
    assert_eq!(codes(&report["not_proven"]), BTreeSet::from(expected));
    let database = &report["database"];
    assert_eq!((&database["wal_lsn"], &database["pg_version"]), (&json!("0/16B3748"), &json!("17.0")));
    assert_eq!(database["nonce"].as_str().unwrap().len(), 64);

    let (code, report) = verify(&world, &[url, "--address", &address, "--nonce", "none"]).await;
    let (proven, open) = (codes(&report["proven"]), codes(&report["not_proven"]));
    assert!(code == Some(0) && !proven.contains("fresh") && open.contains("freshness"), "{report}");
    let (code, report) = verify(&world, &[url, "--address", &address, "--app-id", &"ab".repeat(20)]).await;
    assert_eq!((code, &report["reason"]["code"]), (Some(1), &json!("app_not_expected")));
}

/// A server that gives this answer to everybody.
async fn parrot(answer: String) -> (SocketAddr, postern_plumbing::tasks::Task<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            drop(stream.read(&mut [0; 4_096]).await);
            drop(stream.write_all((head + &answer).as_bytes()).await);
        }
    };
    (address, postern_plumbing::tasks::Task::spawn("parrot", serving))
}

#[tokio::test]
async fn verify_refuses_what_was_replayed_altered_or_made_up() {
    let (world, _sidecar, address) = serving(HTTP).await;
    let nonce = "ab".repeat(16);
    let plain = ask(address, "GET /attestation").await.json();
    let fresh = ask(address, &format!("GET /attestation?nonce={nonce}")).await.json();
    let with = |answer: &Value, field: &str, value: &str| {
        let mut answer = answer.clone();
        *answer.pointer_mut(field).unwrap() = json!(value);
        answer
    };
    let file = world.folder.path().join("answer.json");
    let path = file.to_str().unwrap();
    let none: &[&str] = &[];
    let for_nonce: &[&str] = &["--nonce", &nonce];
    let other = "cd".repeat(16);
    let for_another: &[&str] = &["--nonce", &other];
    let mut nameless = plain.clone();
    nameless.as_object_mut().unwrap().remove("event_log");
    for (answer, arguments, code, reason) in [
        (plain.clone(), none, 0, Value::Null),
        (fresh.clone(), none, 0, Value::Null),
        (fresh.clone(), for_nonce, 0, Value::Null),
        (nameless.clone(), none, 0, Value::Null),
        (nameless, &["--app-id", "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e"], 2, json!("app_unknown")),
        (plain.clone(), for_nonce, 1, json!("nonce")),
        (fresh.clone(), for_another, 1, json!("nonce")),
        (with(&fresh, "/nonce", &other), for_another, 1, json!("state_not_bound")),
        (with(&fresh, "/postgres_state/pg_version", "16.0"), for_nonce, 1, json!("state_not_bound")),
        (with(&plain, "/postgres_state/wal_lsn", "0/0"), none, 1, json!("state_not_bound")),
        (with(&fresh, "/tls_public_key", "00"), for_nonce, 1, json!("state_not_bound")),
        (with(&plain, "/app_id", &"00".repeat(20)), none, 1, json!("contradicted")),
        (with(&plain, "/tcb_info/mrtd", &"00".repeat(48)), none, 1, json!("contradicted")),
        (with(&plain, "/quote", "xyz"), none, 1, json!("attestation_malformed")),
        (json!({"quote": "00"}), none, 1, json!("attestation_malformed")),
    ] {
        std::fs::write(&file, answer.to_string()).unwrap();
        let (found, report) = verify(&world, &[&["--attestation", path], arguments].concat()).await;
        assert_eq!((found, &report["reason"]["code"].clone()), (Some(code), &reason), "{arguments:?} {report}");
    }
    let url = |address: SocketAddr| format!("http://{address}/attestation");
    let (replayer, _task) = parrot(fresh.to_string()).await;
    let (code, report) = verify(&world, &[&url(replayer)]).await;
    assert_eq!((code, &report["reason"]["code"]), (Some(1), &json!("nonce")));
    world.postgres.set(Manner::Starting);
    let (code, report) = verify(&world, &[&url(address)]).await;
    assert_eq!((code, &report["reason"]["code"]), (Some(2), &json!("http_status")), "{report}");
}

#[tokio::test]
async fn verify_judges_an_attestation_by_a_signed_policy() {
    let (world, _sidecar, address) = serving(HTTP).await;
    let folder = world.folder.path();
    let answer = ask(address, "GET /attestation").await.json();
    let mut nameless = answer.clone();
    nameless.as_object_mut().unwrap().remove("event_log");
    std::fs::write(folder.join("answer.json"), answer.to_string()).unwrap();
    std::fs::write(folder.join("nameless.json"), nameless.to_string()).unwrap();

    let (ours, key) = (Measurements::default(), rules::signer().public_key());
    let other = Measurements { mrtd: Register([9; 48]), ..ours.clone() };
    let app = |app: AppId| format!("apps = [\"{app}\"]");
    for (file, peers, image, code, words) in [
        ("answer.json", app(SERVER_APP), &ours, 0, "those of \"release 0\""),
        ("answer.json", app(SERVER_APP), &other, 1, "image_unknown"),
        ("answer.json", app(CLIENT_APP), &ours, 1, "app_not_expected"),
        ("nameless.json", app(SERVER_APP), &ours, 2, "app_unknown"),
        ("nameless.json", String::new(), &ours, 0, "those of \"release 0\""),
    ] {
        rules::put(folder, &rules::policy(1, &peers, &[image]));
        let arguments = format!("verify --attestation {file} --collateral collateral.json --policy policy.toml");
        let arguments: Vec<_> = arguments.split(' ').chain(["--policy-key", &key]).collect();
        let said = binary::Said::by(&arguments, folder).await;
        assert_eq!(said.code, Some(code), "{file} {peers}: {}{}", said.out, said.err);
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
}
