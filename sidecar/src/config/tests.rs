use std::path::Path;
use std::time::Duration;

use postern_attest_io::RuleSettings;
use postern_plumbing::net::Endpoint;

use super::sessions::SessionPolicy;
use super::{ConnectConfig, DEFAULT, ServeConfig};
use crate::connect::choice::{Balance, SessionAttrs};
use crate::postgres::privileges::Privileges;
use crate::serve::authenticate::Authentication;
use crate::serve::places::Share;

const READ: &str = "1f8b6ab9f0f9d7d3c1be4efdfb3a2c55d1b7a4470d8a7b0bb1d6f3a1e6b5c301\n";
const WRITE: &str = "a3c5e9017b2d4f6880912a3b4c5d6e7f8091a2b3c4d5e6f70819203142536475\n";
const APP: &str = "00112233445566778899aabbccddeeff00112233";

struct Secrets(tempfile::TempDir);

impl Secrets {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, secret) in [("read", READ), ("write", WRITE), ("bad", "placeholder\n")] {
            std::fs::write(folder.path().join(name), secret).unwrap();
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What has no default, and nothing else.
    fn least(&self) -> String {
        self.judging_by("")
    }

    /// The same with further keys in `[attestation]`.
    fn judging_by(&self, keys: &str) -> String {
        format!(
            "[attestation]\ncollateral = \"/c.json\"\n{keys}[[roles]]\nname = \"teesql_read\"\nsecret_files = [\"{}/read\"]\n",
            self.path().display()
        )
    }
}

fn serve(text: &str) -> ServeConfig {
    ServeConfig::parse(text, []).unwrap_or_else(|problems| panic!("{problems}"))
}

fn serve_problems(text: &str) -> String {
    ServeConfig::parse(text, []).unwrap_err().to_string()
}

const CONNECT: &str = r#"
[attestation]
collateral = "/c.json"
[connect.target]
host = "a.example"
app_ids = ["00112233445566778899aabbccddeeff00112233"]
"#;

#[test]
fn what_has_no_default_is_enough() {
    let secrets = Secrets::new();
    let config = serve(&secrets.least());
    assert_eq!(config.listen, ["127.0.0.1:5433".parse().unwrap()]);
    assert!(matches!(&config.common.attestation.rules, RuleSettings::Inline { root, .. } if root.is_intel()));
    assert!(!config.insecure_allow_unattested_clients && config.chain.is_none());
    assert_eq!(config.postgres.pool.size, 0);
    assert_eq!(config.roles[0].privileges, Privileges::Read);
    assert!(config.role_map().unwrap().admit(b"teesql_read", READ.trim().as_bytes()).is_some());

    let config = ConnectConfig::parse(CONNECT, []).unwrap();
    assert_eq!(config.listeners[0].listen, Endpoint::Tcp("127.0.0.1:5432".parse().unwrap()));
    assert_eq!((config.targets[0].place.port, config.deadline), (5432, Duration::from_secs(15)));
    assert_eq!((config.targets[0].name.as_str(), config.pool.size), ("a.example:5432", 0));
}

#[test]
fn a_role_says_what_its_sessions_may_be() {
    let secrets = Secrets::new();
    let role = serve(&secrets.least()).roles[0].sessions;
    assert_eq!(role, SessionPolicy::default());
    let keys = "replication = true\nmax_connections = 7\nreserved_connections = 3\n";
    let role = serve(&(secrets.least() + keys)).roles[0].sessions;
    assert_eq!(role, SessionPolicy { replication: true, share: Share { most: Some(7), reserved: 3 } });
    for (keys, place) in [
        ("max_connections = 0\n", "max_connections"),
        ("max_connections = 2\nreserved_connections = 3\n", "reserved_connections"),
        ("reserved_connections = 6\n[limits]\nsessions = 5\n", "limits.sessions"),
        ("replication = \"yes\"\n", "replication"),
    ] {
        let problems = serve_problems(&(secrets.least() + keys));
        assert!(problems.contains(place), "{problems}");
    }
}

/// The default file with what it leaves out filled in.
fn default_file(secrets: &Secrets) -> String {
    let filled =
        [("# collateral", "collateral"), ("# host = \"0", "host = \"0"), ("# app_ids = [\"0", "app_ids = [\"0")]
            .iter()
            .fold(DEFAULT.to_owned(), |text, (from, to)| text.replacen(from, to, 1));
    format!("{filled}\n[[roles]]\nname = \"teesql_read\"\nsecret_files = [\"{}/read\"]\n", secrets.path().display())
}

#[test]
fn the_default_file_says_what_is_the_default() {
    let secrets = Secrets::new();
    let written = format!("{:?}", serve(&default_file(&secrets)));
    let least = format!("{:?}", serve(&secrets.least())).replace("/c.json", "/var/lib/postern/collateral.json");
    assert_eq!(written, least);

    let connect = ConnectConfig::parse(&default_file(&secrets), []).unwrap();
    let least = ConnectConfig::parse(CONNECT, []).unwrap();
    let comparable = |config: &ConnectConfig| {
        let ConnectConfig { listeners, targets, deadline, attempt, patience, pool, drain, .. } = config.clone();
        (format!("{listeners:?}"), targets[0].place.port, targets.len(), [deadline, attempt, patience, drain], pool)
    };
    assert_eq!(comparable(&connect), comparable(&least));
}

const DECIDED_BY_POLICY: [&str; 6] =
    ["root ", "tcb_accept", "out_of_date_grace", "min_tcb_evaluation_number", "rejected_advisories", "allow_"];

#[test]
fn examples_in_the_default_file_are_understood() {
    let secrets = Secrets::new();
    let folder = secrets.path().display().to_string();
    let kms_root = postern_simulator::Tee::new([7; 32]).unwrap().kms_root_pem().to_owned();
    std::fs::write(secrets.path().join("kms-root.pem"), kms_root).unwrap();
    let uncommented: String = DEFAULT
        .lines()
        .map(|line| {
            line.strip_prefix("# ").filter(|rest| rest.starts_with('[') || rest.contains(" = ")).unwrap_or(line)
        })
        // A signed policy takes the place of rules that stand in the file as well.
        .filter(|line| !DECIDED_BY_POLICY.iter().any(|key| line.starts_with(key)))
        .map(|line| line.replace("/etc/postern/kms-root.pem", &format!("{folder}/kms-root.pem")))
        .map(|line| line.replace("/run/secrets/teesql_readwrite", &format!("{folder}/write")))
        .map(|line| line.replace("/run/secrets/teesql_read", &format!("{folder}/read")) + "\n")
        .collect();
    let config = serve(&uncommented);
    assert_eq!((config.roles.len(), config.gateways.len()), (2, 1));
    assert_eq!(config.gateways[0].mtu, Some(1280));
    assert!(config.chain.is_some());
    assert_eq!(config.http.unwrap().listen, "0.0.0.0:8080".parse().unwrap());
    let connect = ConnectConfig::parse(&uncommented, []).unwrap();
    assert_eq!((connect.targets.len(), connect.listeners.len()), (2, 2));
}

const TWO: &str = r#"
[attestation]
collateral = "/c.json"
[connect]
servers = ["a.example:5432"]
target_session_attrs = "read-write"
[[connect.targets]]
host = "a.example"
app_ids = ["00112233445566778899aabbccddeeff00112233"]
[[connect.targets]]
name = "b"
host = "b.example"
app_ids = ["00112233445566778899aabbccddeeff00112233"]
[[connect.listeners]]
listen = "127.0.0.1:5439"
target_session_attrs = "prefer-standby"
load_balance_hosts = "least"
"#;

#[test]
fn each_local_port_has_its_servers_and_its_choice_among_them() {
    let config = ConnectConfig::parse(TWO, []).unwrap_or_else(|problems| panic!("{problems}"));
    let [first, second] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    assert_eq!((first.wanted, first.balance), (SessionAttrs::ReadWrite, Balance::Disable));
    assert_eq!((second.wanted, second.balance), (SessionAttrs::PreferStandby, Balance::Least));
    assert_eq!((first.targets.as_slice(), second.targets.as_slice()), ([0].as_slice(), [0, 1].as_slice()));
    let short = ConnectConfig::parse(&TWO.replace("[connect]", "[connect]\ndeadline = \"2s\""), []).unwrap();
    assert_eq!(short.attempt, Duration::from_secs(2), "an attempt takes no longer than all of them");
}

#[test]
fn all_mistakes_of_connect_mode_are_reported_at_once() {
    let text = TWO
        .replace("\"a.example:5432\"", "\"nobody\"")
        .replace("prefer-standby", "sometimes")
        .replace("least", "round-robin")
        .replace("127.0.0.1:5439", "0.0.0.0:5439")
        .replace("name = \"b\"\nhost = \"b.example\"", "host = \"a.example\"")
        + "[connect.pool]\nidle = \"2h\"\n[[connect.listeners]]\nport = 5\n";
    let problems = ConnectConfig::parse(&text, []).unwrap_err().to_string();
    for place in [
        "connect.servers",
        "connect.targets",
        "connect.pool.idle",
        "connect.listeners[0].listen",
        "connect.listeners[0].target_session_attrs",
        "connect.listeners[0].load_balance_hosts",
        "connect.listeners[1].listen",
        "connect.listeners[1].port",
    ] {
        assert!(problems.contains(place), "{place} is missing in:\n{problems}");
    }
}

#[test]
fn all_mistakes_of_serve_mode_are_reported_at_once() {
    let secrets = Secrets::new();
    let text = format!(
        r#"
gateways = [{{ url = "http://gateway", app_id = "{APP}", mtu = 1 }}]
[admin]
listen = "0.0.0.0:9433"
[attestation]
root = "/does/not/exist"
[listen]
addresses = []
[postgres]
superuser = "Root"
superuser_login = "trust"
databases = []
[[roles]]
name = "Bad Name"
secret_files = ["{0}/bad", "{0}/missing"]
[[roles]]
name = "teesql_read"
[clients]
app_ids = ["12"]
insecure_allow_unatested_clients = true
[chain]
rpc_urls = []
[wireguard]
mtu = 1
key = "other"
[limits]
handshake = "0s"
sessions = 0
"#,
        secrets.path().display()
    );
    let problems = serve_problems(&text);
    for place in [
        "admin.listen",
        "attestation.root",
        "attestation.collateral",
        "listen.addresses",
        "postgres.superuser",
        "postgres.superuser_login",
        "postgres.databases",
        "roles[0].name",
        "roles[0].secret_files",
        "roles[1].secret_files",
        "clients.app_ids[0]",
        "clients.insecure_allow_unatested_clients",
        "chain.rpc_urls",
        "chain.kms_contract",
        "gateways[0].url",
        "gateways[0].mtu",
        "wireguard.mtu",
        "wireguard.key",
        "limits.handshake",
        "limits.sessions",
    ] {
        assert!(problems.contains(place), "{place} is missing in:\n{problems}");
    }
    assert!(!problems.contains("placeholder\n"), "secrets stay out of problems");
}

#[test]
fn the_public_port_is_there_when_its_section_is() {
    let secrets = Secrets::new();
    assert_eq!(serve(&secrets.least()).http, None);
    let http = serve(&(secrets.least() + "[http]\n")).http.unwrap();
    assert_eq!((http.listen, http.metrics), ("0.0.0.0:8080".parse().unwrap(), false));
    let problems = serve_problems(&(secrets.least() + "[http]\nlisten = \"all\"\nquotes_per_source = 0\n"));
    assert!(problems.contains("http.listen") && problems.contains("http.quotes_per_source"), "{problems}");
}

#[test]
fn roles_that_contradict_each_other_are_a_mistake() {
    let secrets = Secrets::new();
    let again = secrets.least() + &secrets.least().replace("[attestation]\ncollateral = \"/c.json\"\n", "");
    assert!(serve_problems(&again).contains("defined twice"));
    let unknown = secrets.least() + "opens = [\"nobody\"]\n";
    assert!(serve_problems(&unknown).contains("nobody"));
    assert!(serve_problems("[attestation]\ncollateral = \"/c\"\n").contains("[[roles]]"));
}

#[test]
fn clients_are_asked_for_what_the_configuration_says() {
    let secrets = Secrets::new();
    let authentication = |word: &str| secrets.least() + &format!("[clients]\nauthentication = \"{word}\"\n");
    assert_eq!(serve(&secrets.least()).authentication, Authentication::Password);
    assert_eq!(serve(&authentication("password")).authentication, Authentication::Password);
    assert_eq!(serve(&authentication("scram-sha-256")).authentication, Authentication::Scram);
    assert!(serve_problems(&authentication("trust")).contains("clients.authentication"));
}

const SIGNED: &str = "policy = \"/p.toml\"\nstate_dir = \"/s\"\n\
    policy_key = \"RWQBAgMEBQYHCNdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea\"\n";

const CHAIN: &str =
    "[chain]\nrpc_urls = [\"http://127.0.0.1:1\"]\nkms_contract = \"0x5FbDB2315678afecb367f032d93F642f64180aa3\"\n";

#[test]
fn a_rule_needs_a_signed_policy() {
    let secrets = Secrets::new();
    let rule = format!(
        "[[clients.rules]]\napp_id = \"{APP}\"\ncompose_hashes = [\"{}\"]\nroles = [\"teesql_read\"]\n",
        "ab".repeat(32)
    );
    for more in ["", CHAIN] {
        let problems = serve_problems(&(secrets.least() + &rule + more));
        assert_eq!(problems.matches("need attestation.policy").count(), 1, "{problems}");
        assert_eq!(serve(&(secrets.judging_by(SIGNED) + &rule + more)).rules.len(), 1);
    }
    serve(&secrets.least());
}

#[test]
fn a_role_may_do_without_a_secret_where_a_rule_opens_it() {
    let secrets = Secrets::new();
    let role = secrets.judging_by(SIGNED) + "[[roles]]\nname = \"indexer\"\n";
    assert!(serve_problems(&role).contains("roles[1].secret_files"));
    let rule = |app: &str, compose: &str, roles: &str| {
        format!("{role}[[clients.rules]]\napp_id = \"{app}\"\n{compose}roles = [{roles}]\n")
    };
    let compose = format!("compose_hashes = [\"{}\"]\n", "ab".repeat(32));
    let config = serve(&rule(APP, &compose, "\"indexer\""));
    assert!(config.roles[1].role.secrets.is_empty() && config.rules.len() == 1);
    assert!(config.rules[0].clients.compose_hashes.is_some());

    // What runs under an app id is for somebody to say.
    assert!(serve_problems(&rule(APP, "", "\"indexer\"")).contains("clients.rules[0].compose_hashes"));
    assert!(
        serve_problems(&rule(APP, "compose_hashes = []\n", "\"indexer\"")).contains("clients.rules[0].compose_hashes")
    );
    assert!(serve(&(rule(APP, "", "\"indexer\"") + CHAIN)).rules[0].clients.compose_hashes.is_none());

    assert!(serve_problems(&rule(APP, &compose, "\"indexer\", \"nobody\"")).contains("`nobody` is none of [[roles]]"));
    assert!(serve_problems(&rule(APP, &compose, "")).contains("clients.rules[0].roles"));
    assert!(serve_problems(&rule("12", &compose, "\"indexer\"")).contains("clients.rules[0].app_id"));
    let opens = rule(APP, &compose, "\"indexer\"")
        .replace("name = \"indexer\"", "name = \"indexer\"\nopens = [\"teesql_read\"]");
    assert!(serve_problems(&opens).contains("roles[1].opens"));
}

#[test]
fn a_file_may_hold_the_secret_that_replaces_another() {
    let secrets = Secrets::new();
    std::fs::write(secrets.path().join("read"), format!("{READ}{WRITE}")).unwrap();
    let map = serve(&secrets.least()).role_map().unwrap();
    assert!(map.admit(b"teesql_read", READ.trim().as_bytes()).is_some());
    assert!(map.admit(b"teesql_read", WRITE.trim().as_bytes()).is_some());
    std::fs::write(secrets.path().join("read"), format!("{READ}{WRITE}{}", WRITE.replace('7', "8"))).unwrap();
    assert!(serve_problems(&secrets.least()).contains("3 secrets"));
}

#[test]
fn the_superusers_names_are_not_for_clients() {
    let secrets = Secrets::new();
    for superuser in ["", "[postgres]\nsuperuser = \"root\"\n"] {
        for name in ["superuser", "postgres", "root"] {
            let text = superuser.to_owned() + &secrets.least().replace("teesql_read\"", &format!("{name}\""));
            if name == "root" && superuser.is_empty() {
                serve(&text);
            } else {
                assert!(serve_problems(&text).contains("not for clients"), "{superuser}{name}");
            }
        }
    }
}

#[test]
fn connect_mode_is_strict_about_where_it_listens_and_whom_it_trusts() {
    let problems = |text: &str| ConnectConfig::parse(text, []).unwrap_err().to_string();
    let open = format!("{CONNECT}[connect]\nlisten = \"0.0.0.0:5432\"\n");
    assert!(problems(&open).contains("insecure_listen_beyond_loopback"));
    let allowed = format!("{open}insecure_listen_beyond_loopback = true\n");
    assert!(ConnectConfig::parse(&allowed, []).is_ok());
    let unix = format!("{CONNECT}[connect]\nlisten = \"unix:/tmp/.s.PGSQL.5432\"\n");
    assert!(ConnectConfig::parse(&unix, []).is_ok());
    let anybody = CONNECT.replace("app_ids", "# app_ids");
    assert!(problems(&anybody).contains("connect.target.app_ids"));
}

#[test]
fn the_environment_overrides_the_file() {
    let variable = |key: &str, value: &str| (format!("POSTERN_SIDECAR__{key}"), value.to_owned());
    let variables = [variable("CONNECT__TARGET__ADDRESS", "127.0.0.1:9"), variable("CONNECT__DEADLINE", "3s")];
    let config = ConnectConfig::parse(CONNECT, variables).unwrap();
    assert_eq!(config.targets[0].place.address, Some("127.0.0.1:9".parse().unwrap()));
    assert_eq!(config.deadline, Duration::from_secs(3));
}

#[test]
fn a_thread_for_each_core_carries_sessions_unless_a_number_is_given() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let threads = |text: &str| ConnectConfig::parse(&format!("{CONNECT}{text}"), []).unwrap().common.threads.get();
    assert_eq!(threads(""), cores);
    assert_eq!(threads("[runtime]\nthreads = 0\n"), cores);
    assert_eq!(threads("[runtime]\nthreads = 7\n"), 7);
    let too_many = ConnectConfig::parse(&format!("{CONNECT}[runtime]\nthreads = 100000\n"), []).unwrap_err();
    assert!(too_many.to_string().contains("runtime.threads"), "{too_many}");
}
