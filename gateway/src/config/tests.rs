use postern_attest::{PeerPolicy, TrustRoot};
use postern_attest_io::RuleSettings;
use postern_identity::InstanceId;
use postern_simulator::Tee;

use super::*;

/// What has no default, and nothing else.
const LEAST: &str = r#"
[edge]
domains = ["Postern.Test"]
[attestation]
collateral = "/var/lib/postern/collateral.json"
[wireguard]
endpoint = "198.51.100.7:51820"
[chain]
rpc_urls = ["http://127.0.0.1:8545"]
kms_contract = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
"#;

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, [])
}

/// Whose number changes the default of the quorum.
const RPC_URLS: &str =
    r#"rpc_urls = ["https://rpc-a.example.org", "https://rpc-b.example.org", "https://rpc-c.example.org"]"#;

fn root_of(config: &Config) -> &TrustRoot {
    match &config.attestation.rules {
        RuleSettings::Inline { root, .. } => root,
        RuleSettings::Signed(signed) => panic!("{signed:?}"),
    }
}

/// Each problem as a line.
fn problems(text: &str) -> Vec<String> {
    let text = parse(text).unwrap_err().to_string();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_configuration_of_what_has_no_default_is_enough() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.domain.bases()[0].as_str(), "postern.test");
    assert_eq!(config.listen, ["0.0.0.0:5432".parse().unwrap()]);
    assert!(config.admin.ip().is_loopback());
    assert!(root_of(&config).is_intel());
    assert_eq!((&config.registration.apps, &config.chain.welcome), (&None, &PeerPolicy::default()));
    assert_eq!(config.chain.quorum, 1);
}

#[test]
fn the_default_file_says_what_is_the_default() {
    let written = format!("{DEFAULT}\n");
    let written = ["# domains", "# collateral", "# endpoint = \"198", "# rpc_urls", "# kms_contract"]
        .iter()
        .fold(written, |text, key| text.replace(key, &key[2..]));
    let written = written.replace(RPC_URLS, r#"rpc_urls = ["http://127.0.0.1:8545"]"#);
    let (written, least) = (parse(&written).unwrap(), parse(LEAST).unwrap());
    let comparable = |config: &Config| {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            (&config.listen, &config.proxies, config.threads),
            config.admin,
            config.registration,
            config.agent,
            config.attestation,
            config.tunnel,
            (
                &config.chain.quorum,
                &config.chain.poll_interval,
                &config.chain.call_deadline,
                &config.chain.max_workloads
            ),
            (&config.chain.rules, &config.chain.freshness),
            (&config.limits, config.drain),
            config.log,
        )
    };
    assert_eq!(comparable(&written), comparable(&least));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let found = problems(
        r#"
        [edge]
        domains = []
        proxy_protocol_from = ["10.0.0.0/33"]
        threads = 5000
        listne = ["0.0.0.0:5432"]
        [admin]
        listen = "0.0.0.0:9432"
        [registration]
        refresh = "10m"
        time_to_live = "5m"
        [attestation]
        root = "/does/not/exist"
        [wireguard]
        network = "10.0.0.0/24"
        address = "10.0.1.1"
        endpoint = "0.0.0.0:51820"
        mtu = 9217
        mtu_of = ["1300"]
        [chain]
        rpc_urls = ["http://127.0.0.1:8545"]
        quorum = 2
        kms_contract = "0x12"
        [limits]
        opening = "0s"
        hello = 100
        openings_per_network = 0
        "#,
    );
    let places = [
        "edge.domains",
        "edge.proxy_protocol_from[0]",
        "edge.threads",
        "edge.listne",
        "admin.listen",
        "registration.time_to_live",
        "wireguard.address",
        "wireguard.endpoint",
        "wireguard.mtu",
        "wireguard.mtu_of[0]",
        "attestation.root",
        "attestation.collateral",
        "chain.quorum",
        "chain.kms_contract",
        "limits.opening",
        "limits.hello",
        "limits.openings_per_network",
    ];
    for place in places {
        assert!(found.iter().any(|line| line.contains(&format!("{place}:"))), "{place} in {found:#?}");
    }
    assert_eq!(found.iter().filter(|line| line.contains(": ")).count(), places.len(), "{found:#?}");
}

#[test]
fn the_environment_overrides_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.pem");
    let tee = Tee::new([1; 32]).unwrap();
    std::fs::write(&root, tee.root_pem()).unwrap();
    let variables = [
        ("POSTERN_GATEWAY__LIMITS__OPENING", "250ms"),
        ("POSTERN_GATEWAY__EDGE__LISTEN", r#"["127.0.0.1:0"]"#),
        ("POSTERN_GATEWAY__ATTESTATION__ROOT", root.to_str().unwrap()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::parse(LEAST, variables).unwrap();
    assert_eq!(config.limits.opening, Duration::from_millis(250));
    assert_eq!(config.listen, ["127.0.0.1:0".parse().unwrap()]);
    assert_eq!(*root_of(&config), TrustRoot::from_pem(tee.root_pem().as_bytes()).unwrap());
}

#[test]
fn the_apps_that_may_register_are_part_of_the_one_verdict() {
    let text = format!("{LEAST}[registration]\napps = ['{}']", "07".repeat(20));
    assert_eq!(parse(&text).unwrap().chain.welcome, PeerPolicy::app(AppId([7; 20])));
}

#[test]
fn an_app_or_an_instance_may_have_packets_of_another_size() {
    let (one, other) = ("07".repeat(20), "08".repeat(20));
    let text = |sizes: &str| LEAST.replace("[wireguard]", &format!("[wireguard]\nmtu_of = [{sizes}]"));
    let sizes = parse(&text(&format!("'{one}=1300', '{other}=8920'"))).unwrap().tunnel.sizes;
    assert_eq!(sizes.of(&AppId([7; 20]), &InstanceId([1; 20])), 1_300);
    assert_eq!((sizes.of(&AppId([1; 20]), &InstanceId([1; 20])), sizes.largest()), (1_420, 8_920));
    let found = problems(&text(&format!("'{one}=575', '{other}=1300', '{other}=1400'")));
    for mistake in [format!("expected 576 to 9216 for {one}"), format!("{other} is named more than once")] {
        assert!(
            found.iter().any(|line| line.contains(&format!("wireguard.mtu_of: {mistake}"))),
            "{mistake} in {found:#?}"
        );
    }
}
