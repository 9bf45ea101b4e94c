use postern_plumbing::config::Document;

use super::*;

fn read(text: &str) -> Result<Option<WatchConfig>, String> {
    let mut document = Document::parse(text, [], "TEST").map_err(|problems| problems.to_string())?;
    let config = WatchConfig::from_section(&mut document.section("chain"));
    document.finish().map_err(|problems| problems.to_string())?;
    Ok(config)
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = "[chain]\nrpc_urls = ['https://a:1', 'https://b:1', 'https://c:1']\n\
                kms_contract = '0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C'\nmax_view_age = '2m'";
    let config = read(text).unwrap().unwrap();
    assert_eq!((config.quorum, config.poll_interval), (2, Duration::from_millis(250)));
    assert_eq!(config.freshness, FreshnessPolicy { max_view_age: 120, view_grace: 900 });
}

#[test]
fn all_mistakes_are_found_at_once() {
    let text = "[chain]\nrpc_urls = ['http://a:1', 'ws://b:1', 'no url']\nquorum = 1\nconfirmed = 65\n\
                poll_interval = '0ms'\ncolour = 'red'";
    let problems = read(text).unwrap_err();
    for key in
        ["kms_contract", "rpc_urls[2]", "rpc_urls: endpoint b:1", "quorum", "confirmed", "poll_interval", "colour"]
    {
        assert!(problems.contains(&format!("chain.{key}")), "{key} is missing in:\n{problems}");
    }
}

/// The problems of a section that is in order but for these lines.
fn problems(lines: &str) -> String {
    let kms = "kms_contract = '0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C'\n";
    let kms = if lines.contains("kms_contract") { "" } else { kms };
    let urls = if lines.contains("rpc_urls") { "" } else { "rpc_urls = ['https://a', 'https://b', 'https://c']\n" };
    read(&format!("[chain]\n{kms}{urls}{lines}")).err().unwrap_or_default()
}

#[test]
fn one_node_does_not_count_twice() {
    for same in ["https://a/x", "https://A:443/x", "https://a./x/", "https://user@a/x?key=2#y"] {
        let found = problems(&format!("rpc_urls = ['https://a/x', '{same}', 'https://b/x']"));
        assert!(found.contains("chain.rpc_urls: endpoint a") && found.contains("more than once"), "{same}: {found}");
    }
    assert_eq!(problems("rpc_urls = ['https://a/x', 'https://a/y', 'https://a:444/x', 'https://b/x']"), "");
}

#[test]
fn plain_http_leaves_this_machine_only_where_that_is_said() {
    let far = "rpc_urls = ['http://node.example/secret']\n";
    let found = problems(far);
    assert!(found.contains("node.example:80") && found.contains("insecure_plain_rpc"), "{found}");
    assert!(!found.contains("secret"));
    assert_eq!(problems(&format!("{far}insecure_plain_rpc = true")), "");
    assert_eq!(problems("rpc_urls = ['http://127.0.0.1:1', 'http://[::1]:1', 'http://localhost:1']"), "");
}

#[test]
fn the_zero_address_is_no_contract() {
    let found = problems("kms_contract = '0x0000000000000000000000000000000000000000'");
    assert!(found.contains("chain.kms_contract: must not be the zero address"), "{found}");
}

#[test]
fn a_part_of_a_second_does_not_become_none() {
    let found = problems("sweep_interval = '500ms'\nmax_view_age = '1500ms'\nview_grace = '60001ms'");
    for key in ["sweep_interval", "max_view_age", "view_grace"] {
        assert!(found.contains(&format!("chain.{key}: expected whole seconds")), "{key} is missing in:\n{found}");
    }
    assert_eq!(problems("sweep_interval = '1000ms'"), "");
}

#[test]
fn numbers_with_which_nothing_works_are_all_found_at_once() {
    let keys = ["sweep_interval", "max_view_age", "poll_interval", "call_deadline"];
    let lines: String = keys.iter().map(|key| format!("{key} = '0s'\n")).collect();
    let found = problems(&format!("{lines}max_workloads = 0"));
    for key in keys.into_iter().chain(["max_workloads"]) {
        assert!(found.contains(&format!("chain.{key}: {key} must not be zero")), "{key} is missing in:\n{found}");
    }
    let found = problems("max_view_age = '2m'\nview_grace = '119s'\nquorum = 1");
    assert!(found.contains("chain.view_grace: ") && found.contains("chain.quorum: "), "{found}");
    assert_eq!(problems("max_view_age = '2m'\nview_grace = '120s'"), "");
}

const CODE: &str = "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470";

#[test]
fn a_block_is_confirmed_by_its_depth_or_by_the_word_of_the_endpoints() {
    let confirmed = |line: &str| {
        let kms = "kms_contract = '0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C'";
        read(&format!("[chain]\nrpc_urls = ['https://a']\n{kms}\n{line}")).map(|config| config.unwrap().confirmed)
    };
    assert_eq!(confirmed(""), Ok(Confirmed::Depth(0)));
    assert_eq!(confirmed("confirmed = 64"), Ok(Confirmed::Depth(64)));
    assert_eq!(confirmed("confirmed = 'safe'"), Ok(Confirmed::Safe));
    for wrong in ["confirmed = 65", "confirmed = -1", "confirmed = 'finalised'", "confirmed = true"] {
        let problems = confirmed(wrong).unwrap_err();
        assert!(problems.contains("chain.confirmed"), "{wrong}: {problems}");
    }
}

#[test]
fn further_contracts_concern_everybody_or_one_app() {
    let found = problems("log_contracts = ['0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C', '0x01', 'x=y']");
    assert!(!found.contains("log_contracts[0]"), "{found}");
    assert!(found.contains("chain.log_contracts[1]") && found.contains("chain.log_contracts[2]"), "{found}");
    let one = format!("log_contracts = ['0x{}=0x{}']", "01".repeat(20), "02".repeat(20));
    assert_eq!(problems(&one), "");
}

#[test]
fn all_code_is_pinned_or_none() {
    let (proxies, address) = (format!("pinned_proxies = ['{CODE}']\n"), "01".repeat(20));
    let pin = |key: &str| format!("{key} = ['0x{address}:{CODE}']\n");
    assert_eq!(problems(&format!("{proxies}{}{}", pin("pinned_kms"), pin("pinned_apps"))), "");
    let found = problems(&proxies);
    assert!(found.contains("chain.pinned_kms: missing") && found.contains("chain.pinned_apps: missing"), "{found}");
    let found = problems(&format!("{proxies}{}pinned_apps = ['0x{address}', 'x:y']", pin("pinned_kms")));
    assert!(found.contains("chain.pinned_apps[0]") && found.contains("chain.pinned_apps[1]"), "{found}");
}

#[test]
fn its_debug_form_keeps_the_keys_of_endpoints() {
    let config = WatchConfig::new(vec!["https://node.example/secret".parse().unwrap()], Address::ZERO);
    assert!(!format!("{config:?}").contains("secret"));
}
