use std::path::Path;

use super::*;

#[test]
fn an_endpoint_is_a_socket_or_a_url() {
    let unix = AgentEndpoint::Unix("/run/a.sock".into());
    for text in ["/run/a.sock", "unix:/run/a.sock", "unix:///run/a.sock"] {
        assert_eq!(text.parse(), Ok(unix.clone()), "{text}");
    }
    let http = |authority: &str, base: &str| AgentEndpoint::Http { authority: authority.into(), base: base.into() };
    for (text, expected) in [
        ("http://localhost:8090", http("localhost:8090", "/")),
        ("http://localhost:8090/", http("localhost:8090", "/")),
        ("http://agent.test", http("agent.test:80", "/")),
        ("http://[::1]:8090/api/", http("[::1]:8090", "/api/")),
        ("http://[::1]", http("[::1]:80", "/")),
    ] {
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
    for text in ["", "run/a.sock", "https://agent.test", "http://", "http://:80", "http://a:b", "http://a:70000"] {
        assert_eq!(text.parse::<AgentEndpoint>(), Err(NotAnAgentEndpoint(text.to_owned())), "{text}");
    }
}

#[test]
fn methods_lie_under_the_base() {
    let under = |text: &str| text.parse::<AgentEndpoint>().unwrap().path_of("Info");
    assert_eq!(under("/run/a.sock"), "/Info");
    assert_eq!(under("http://a"), "/Info");
    assert_eq!(under("http://a/prpc"), "/prpc/Info");
}

#[test]
fn the_environment_goes_before_the_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let (absent, present) = (folder.path().join("absent"), folder.path().join("present"));
    std::fs::write(&present, "").unwrap();
    let sockets: [&Path; 2] = [&absent, &present];
    let chosen = |variable| AgentEndpoint::choose(variable, &sockets);
    assert_eq!(chosen(Some("/other")).unwrap(), AgentEndpoint::Unix("/other".into()));
    assert_eq!(chosen(Some("")).unwrap(), AgentEndpoint::Unix(present.clone()));
    assert_eq!(chosen(None).unwrap(), AgentEndpoint::Unix(present.clone()));
    assert!(matches!(chosen(Some("ftp://x")), Err(AgentError::Endpoint(_))));
    let none = AgentEndpoint::choose(None, &[&absent]).unwrap_err();
    assert!(none.to_string().contains("absent"), "{none}");
}

#[test]
fn a_key_that_is_none_is_refused_without_being_told() {
    assert_eq!(*answers::key(format!(r#"{{"key":"{}"}}"#, "ab".repeat(32)).as_bytes()).unwrap(), [0xab; 32]);
    for body in [r#"{"key":"5ec2e7"}"#, r#"{"keys":"5ec2e7"}"#, r#"{"key":5}"#, "5ec2e7"] {
        let told = answers::key(body.as_bytes()).unwrap_err();
        assert!(!told.contains("5ec2e7"), "{told}");
    }
}

#[test]
fn what_a_refusal_says_stays_short_and_on_one_line() {
    assert_eq!(answers::refusal(br#"{"error":"no\nquote"}"#), "noquote");
    assert_eq!(answers::refusal(b"plain"), "plain");
    assert_eq!(answers::refusal(&[0xff; 4000]).chars().count(), 200);
}

#[test]
fn an_application_without_instance_ids_is_understood() {
    let info: Info = serde_json::from_str(&format!(r#"{{"app_id":"{}","instance_id":""}}"#, "a0".repeat(20))).unwrap();
    assert_eq!(info.instance_id, None);
    assert_eq!(info.compose_hash, None);
    assert!(serde_json::from_str::<Info>(r#"{"instance_id":""}"#).is_err());
}
