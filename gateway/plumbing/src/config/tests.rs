mod hostile;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::net::Endpoint;
use crate::secret::Secret;
use crate::telemetry::LogFormat;

const PREFIX: &str = "POSTERN_TEST";

fn parse(text: &str) -> Document {
    Document::parse(text, [], PREFIX).unwrap()
}

fn with_env<const N: usize>(text: &str, env: [(&str, &str); N]) -> Result<Document, Problems> {
    Document::parse(text, env.map(|(name, value)| (name.to_owned(), value.to_owned())), PREFIX)
}

/// What a document says is wrong with it after a reading that asks for everything below.
fn complaints(mut document: Document) -> Vec<String> {
    let mut listen = document.section("listen");
    listen.required::<SocketAddr>("address");
    listen.or("backlog", 128_u16);
    listen.optional::<Duration>("deadline");
    let mut limits = listen.section("limits");
    limits.optional::<usize>("max_connections");
    for mut app in document.sections("apps") {
        app.required::<String>("name");
    }
    let problems = document.finish().err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn values_of_every_kind_are_read() {
    let mut document = parse(
        r#"
        log = "json"
        [values]
        flag = true
        port = 5433
        share = 0.5
        whole = 2
        name = "tenant"
        path = "/run/postern"
        wait = "250ms"
        listen = "unix:/run/a.sock"
        secret = "hunter2"
        number = "17"
        peers = ["10.0.0.1", "::1"]
        [[apps]]
        name = "a"
        [[apps]]
        name = "b"
        "#,
    );
    assert_eq!(document.root().optional("log"), Some(LogFormat::Json));
    let mut values = document.section("values");
    assert_eq!(values.required("flag"), Some(true));
    assert_eq!(values.required("port"), Some(5433_u16));
    assert_eq!(values.required("share"), Some(0.5));
    assert_eq!(values.required("whole"), Some(2.0));
    assert_eq!(values.required("name"), Some("tenant".to_owned()));
    assert_eq!(values.required("path"), Some(PathBuf::from("/run/postern")));
    assert_eq!(values.required("wait"), Some(Duration::from_millis(250)));
    assert_eq!(values.required("listen"), Some(Endpoint::Unix("/run/a.sock".into())));
    assert_eq!(values.required::<Secret>("secret").unwrap().expose(), "hunter2");
    assert_eq!(values.required("number").map(Text::<i8>::into_inner), Some(17));
    assert_eq!(values.list::<std::net::IpAddr>("peers").len(), 2);
    assert_eq!(values.or("absent", 7_u64), 7);
    assert_eq!(values.optional::<String>("absent"), None);
    assert!(values.list::<String>("absent").is_empty());
    assert!(values.has("flag") && !values.has("absent"));
    let names: Vec<_> = document.sections("apps").iter_mut().filter_map(|app| app.required::<String>("name")).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(document.section("values").keys().len(), 11);
    assert_eq!(document.finish(), Ok(()));
}

#[test]
fn all_mistakes_are_reported_at_once_and_numbered() {
    let mut document = parse(
        r#"
        [listen]
        adress = "127.0.0.1:1"
        backlog = 70000
        deadline = 5
        limits = 3
        [[apps]]
        name = "a"
        nmae = "b"
        [[apps]]
        name = 4
        "#,
    );
    document.section("listen").problem("backlog", "must be below the limit of the system");
    let listed = complaints(document);
    assert_eq!(
        listed,
        [
            "listen.backlog: must be below the limit of the system",
            "listen.address: missing; expected an IP address with a port, such as \"127.0.0.1:5432\" \
             (the variable POSTERN_TEST__LISTEN__ADDRESS sets it, too)",
            "listen.backlog: out of range: expected a whole number from 0 to 65535",
            "listen.deadline: expected a duration with its unit, such as \"250ms\", \"10s\", \"5m\" or \"2h\", \
             found a whole number",
            "listen.limits: expected a section, found a whole number",
            "apps[1].name: expected a text, found a whole number",
            "apps[0].nmae: unknown key; did you mean `name`?",
            "listen.adress: unknown key; did you mean `address`?",
        ]
    );
}

#[test]
fn what_an_option_has_changed_is_told_by_its_name() {
    let read = |document: Result<Document, Problems>| {
        let mut document = document.unwrap();
        let mut listen = document.section("listen");
        let (backlog, address): (Option<u16>, Option<String>) =
            (listen.optional("backlog"), listen.required("address"));
        let problems = document.finish().unwrap_err();
        (backlog, address, problems.to_string())
    };
    let changes =
        [("listen.backlog", "7"), ("listen.Deadline", "x")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let (backlog, _, problems) = read(Document::parse_with("[listen]\nbacklog = 1\n", changes, "--set"));
    assert_eq!(backlog, Some(7));
    assert_eq!(
        problems,
        "1. listen.address: missing; expected a text (--set listen.address sets it, too)\n\
         2. listen.Deadline: unknown key (set by --set listen.Deadline)"
    );
    let (.., problems) = read(Document::parse_alone("[listen]\n"));
    assert_eq!(problems, "1. listen.address: missing; expected a text");
}

#[test]
fn an_option_changes_what_is_in_an_array_and_makes_none_longer() {
    let with = |change: &str| Document::parse_with(APPS, [(change.to_owned(), "new".to_owned())], "--set");
    let mut document = with("apps[1].name").unwrap();
    assert_eq!(names(&mut document), ["a", "new"]);
    for (change, said) in [
        ("apps[2].name", "there is no `apps[2]`"),
        ("apps[-1].name", "there is no `apps[-1]`"),
        ("apps[.name", "there is no `apps[`"),
        ("nobody[0].name", "there is no `nobody[0]`"),
        ("apps.name", "`apps` is not a section"),
        ("listen..backlog", "the name of a key in it is empty"),
    ] {
        let mut document = with(change).unwrap();
        assert_eq!(names(&mut document), ["a", "b"]);
        assert_eq!(document.finish().unwrap_err().to_string(), format!("1. {change}: {said}"));
    }
}

#[test]
fn what_leads_nowhere_is_told_with_every_other_mistake() {
    let changes = [("apps[7].name", "c"), ("backlog", "7000"), ("colour", "red")];
    let changes = changes.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut document = Document::parse_with(APPS, changes, "--set").unwrap();
    assert_eq!(names(&mut document), ["a", "b"]);
    assert_eq!(document.root().optional::<u8>("backlog"), None);
    assert_eq!(
        document.finish().unwrap_err().to_string(),
        "1. apps[7].name: there is no `apps[7]`\n\
         2. backlog: out of range: expected a whole number from 0 to 255 (set by --set backlog)\n\
         3. colour: unknown key (set by --set colour)"
    );
}

fn names(document: &mut Document) -> Vec<String> {
    document.sections("apps").iter_mut().filter_map(|app| app.required("name")).collect()
}

const APPS: &str = "[[apps]]\nname = \"a\"\n[[apps]]\nname = \"b\"\n";

#[test]
fn problems_are_a_numbered_list_of_single_lines() {
    let mut problems = Problems::one("a", "is wrong");
    problems.add("b\nc", "is\r\nwrong");
    assert_eq!(problems.to_string(), "1. a: is wrong\n2. b c: is  wrong");
    assert_eq!(problems.len(), 2);
}

#[test]
fn a_right_document_has_no_complaints() {
    let text = "[listen]\naddress = \"[::1]:1\"\n[listen.limits]\nmax_connections = 5\n[[apps]]\nname = \"a\"";
    assert_eq!(complaints(parse(text)), [""; 0]);
}

#[test]
fn a_key_in_the_wrong_section_is_pointed_to_its_place() {
    let listed = complaints(parse("max_connections = 5\n[listen]\naddress = \"[::1]:1\"\n[colours]\nred = 1"));
    assert_eq!(
        listed,
        ["colours: unknown key", "max_connections: unknown key; did you mean `listen.limits.max_connections`?",]
    );
}

#[test]
fn arrays_and_sections_are_not_taken_for_each_other() {
    let listed = complaints(parse("apps = 1\nlisten = [1]"));
    assert_eq!(
        listed,
        ["listen: expected a section, found an array", "apps: expected an array of tables, found a whole number",]
    );
    let mut document = parse("names = \"one\"\nports = [1, \"x\", 70000]");
    assert!(document.root().list::<String>("names").is_empty());
    assert_eq!(document.root().list::<u16>("ports"), [1]);
    let problems = document.finish().unwrap_err();
    assert_eq!(
        problems.to_string(),
        "1. names: expected an array, found a text\n\
         2. ports[1]: expected a whole number from 0 to 65535, found a text\n\
         3. ports[2]: out of range: expected a whole number from 0 to 65535"
    );
}

#[test]
fn the_environment_overrides_the_document_and_adds_to_it() {
    let document = with_env(
        "[listen]\naddress = \"127.0.0.1:1\"\nbacklog = 5",
        [
            ("POSTERN_TEST__LISTEN__ADDRESS", "127.0.0.1:2"),
            ("POSTERN_TEST__LISTEN__LIMITS__MAX_CONNECTIONS", "9"),
            ("POSTERN_TEST__TOP", "[\"a\", \"b\"]"),
            ("POSTERN_TEST__NAME", "12345"),
            ("POSTERN_TESTS__LISTEN__BACKLOG", "6"),
            ("POSTERN_TEST_LOG", "json"),
        ],
    );
    let mut document = document.unwrap();
    assert_eq!(document.root().list::<String>("top"), ["a", "b"]);
    assert_eq!(document.root().required::<String>("name").unwrap(), "12345", "a text may look like a number");
    let mut listen = document.section("listen");
    assert_eq!(listen.required::<SocketAddr>("address"), Some("127.0.0.1:2".parse().unwrap()));
    assert_eq!(listen.required("backlog"), Some(5_u16));
    assert_eq!(listen.section("limits").required("max_connections"), Some(9_u16));
    assert_eq!(document.finish(), Ok(()));
}

#[test]
fn mistakes_of_the_environment_name_the_variable() {
    let document = with_env(
        "",
        [
            ("POSTERN_TEST__LISTEN__ADDRESS", "nowhere"),
            ("POSTERN_TEST__LISTEN__BACKLOG", "1 # two"),
            ("POSTERN_TEST__LISTEN__DEADLIN", "1s"),
        ],
    );
    assert_eq!(
        complaints(document.unwrap()),
        [
            "listen.address: expected an IP address with a port, such as \"127.0.0.1:5432\" \
             (set by the variable POSTERN_TEST__LISTEN__ADDRESS)",
            "listen.backlog: expected a whole number from 0 to 65535, found a text \
             (set by the variable POSTERN_TEST__LISTEN__BACKLOG)",
            "listen.deadlin: unknown key; did you mean `deadline`? (set by the variable POSTERN_TEST__LISTEN__DEADLIN)",
        ]
    );
}

#[test]
fn a_variable_that_names_no_possible_key_is_refused() {
    let env = [("POSTERN_TEST__LISTEN__PORT", "1"), ("POSTERN_TEST__A____B", "1"), ("POSTERN_TEST__", "1")];
    assert_eq!(
        complaints(with_env("listen = 5", env).unwrap()),
        [
            "POSTERN_TEST__: the name of a key in it is empty",
            "POSTERN_TEST__A____B: the name of a key in it is empty",
            "POSTERN_TEST__LISTEN__PORT: `listen` is not a section",
            "listen: expected a section, found a whole number",
        ]
    );
}

#[test]
fn syntax_errors_tell_their_lines() {
    let problems = Document::parse("a = 1\nb = [1,\nc = \n[d", [], PREFIX).unwrap_err();
    let lines: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
    assert!(lines.contains(&"line 4"), "{problems}");
    assert!(problems.iter().all(|problem| problem.text.starts_with("not TOML: ")), "{problems}");
}

#[test]
fn finish_with_hands_out_what_was_built_only_when_nothing_is_wrong() {
    let mut document = parse("port = 1");
    let port = document.root().required::<u16>("port");
    assert_eq!(document.finish_with(port), Ok(1));

    let mut document = parse("port = 1\nprot = 2");
    let port = document.root().required::<u16>("port");
    assert_eq!(document.finish_with(port).unwrap_err().len(), 1);

    assert_eq!(parse("").finish_with(None::<u8>).unwrap_err().len(), 1);
}

#[test]
fn a_file_is_loaded_and_a_missing_or_huge_one_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    std::fs::write(&path, "port = 1").unwrap();
    let mut document = Document::load(Some(&path), "POSTERN_NOBODY_SETS_THIS").unwrap();
    assert_eq!(document.root().required("port"), Some(1_u8));
    assert!(Document::load(None, "POSTERN_NOBODY_SETS_THIS").unwrap().finish().is_ok());

    let missing = Document::load(Some(&folder.path().join("none.toml")), PREFIX).unwrap_err();
    assert!(missing.to_string().contains("none.toml: cannot be opened: "), "{missing}");
    std::fs::write(&path, "#".repeat(1024 * 1024 + 1)).unwrap();
    let huge = Document::load(Some(&path), PREFIX).unwrap_err();
    assert!(huge.to_string().ends_with("gateway.toml: is longer than 1 MiB"), "{huge}");
}

#[test]
fn the_debug_forms_hold_no_value() {
    let environment = [("P__TOKEN".to_owned(), "hunter2".to_owned())];
    let mut document = Document::parse("password = \"hunter2\"\n[a]\nkey = \"hunter2\"", environment, "P").unwrap();
    let section = format!("{:?}", document.section("a"));
    assert!(section.contains("key") && !section.contains("hunter2"), "{section}");
    let whole = format!("{document:?}");
    assert!(whole.contains("password") && whole.contains("P__TOKEN") && !whole.contains("hunter2"), "{whole}");
}
