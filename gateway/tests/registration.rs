//! Instances at the gateway's door, with simulated quotes and a real tunnel.

#[cfg(test)]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gateway::app::Gateway;
use gateway::audit::Audit;
use gateway::reappraisal;
use postern_allowlist::NotAdmitted;
use postern_attest::{Appraiser, Collateral};
use postern_attest_io::Attestor;
use postern_gateway_core::table::{Instance, Standing};
use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::maintenance;
use postern_wireguard::PrivateKey;
use serde_json::json;
use tokio::time::timeout;

use common::chain::{TestChain, refused};
use common::cvm::{GATEWAY_APP, Site, reason, run};
use common::hello::app_name;
use common::instance::{join_tunnel, sidecar};
use common::{House, PATIENCE, limits, session_at, start_tunnel_with};

const APP: AppId = AppId([0xaa; 20]);

/// The members of a gateway.
fn members(gateway: &Gateway) -> Vec<Arc<Instance>> {
    gateway.members().snapshot().table.instances().cloned().collect()
}

fn key() -> PrivateKey {
    PrivateKey::generate()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_instance_is_told_everything_and_can_be_reached() {
    let (site, chain, shutdown) = (Site::new(1), Arc::new(TestChain::default()), Shutdown::new());
    let gateway = site.gateway(&chain, &shutdown).await;
    let cvm = site.cvm(APP, "one");
    let mut registration = site.connect(gateway.registration(), Some(site.keeper(&cvm).await)).await;
    let key = key();
    let (status, answer) = registration.register(&key.public().to_string()).await;
    assert_eq!(status, 200, "{answer}");

    let member = &members(&gateway)[0];
    let server = json!({
        "pk": gateway.tunnel().public_key().to_string(),
        "ip": "10.74.0.1",
        "endpoint": "198.51.100.7:51820",
    });
    assert_eq!(answer["wg"], json!({ "client_ip": member.address.to_string(), "servers": [server] }));
    let agent = json!({
        "external_port": gateway.clients()[0].port(),
        "internal_port": 8090,
        "domain": "postern.test",
        "app_address_ns_prefix": "_dstack-app-address",
    });
    assert_eq!(answer["agent"], agent);
    assert_eq!(answer["gateways"][0]["url"], "https://gateway.postern.test:8432");
    assert_eq!(answer["gateways"][0]["wg_public_key"], server["pk"]);
    let postern = json!({
        "cancel_slot": member.slot.number(),
        "refresh_seconds": 60,
        "gateway_app_id": GATEWAY_APP.to_string(),
    });
    assert_eq!(answer["postern"], postern);
    assert_eq!((member.id, member.app, member.alive), (cvm.instance_id(), APP, true));

    let tunnel = start_tunnel_with(key, member.address).await;
    join_tunnel(&tunnel, gateway.tunnel().public_key(), gateway.tunnel().local_addr(), gateway.tunnel().address());
    let (_sidecar, _heard) = sidecar(&tunnel);
    drop(session_at(gateway.clients()[0], &app_name(0xaa)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_and_the_former_name_of_the_call_change_nothing() {
    let (site, chain, shutdown) = (Site::new(2), Arc::new(TestChain::default()), Shutdown::new());
    let gateway = site.gateway(&chain, &shutdown).await;
    let mut registration = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "one")).await)).await;
    let key = key().public().to_string();
    let first = registration.register(&key).await;
    let legacy = json!({ "client_public_key": key }).to_string();
    let second = registration.post("/prpc/Tproxy.RegisterCvm?json", legacy).await;
    assert_eq!((first.0, second.0), (200, 200));
    assert_eq!((&first.1["wg"], &first.1["postern"]), (&second.1["wg"], &second.1["postern"]));
    assert_eq!(members(&gateway).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_connection_is_noticed_and_the_route_stays() {
    let (site, chain, shutdown) = (Site::new(3), Arc::new(TestChain::default()), Shutdown::new());
    let gateway = site.gateway(&chain, &shutdown).await;
    let mut registration = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "one")).await)).await;
    registration.register(&key().public().to_string()).await;
    assert!(members(&gateway)[0].alive);
    drop(registration);
    ended(&gateway).await;
    assert!(matches!(members(&gateway)[0].standing, Standing::Admitted { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_behind_another_path_has_packets_of_another_size() {
    let (site, chain, shutdown) = (Site::new(31), Arc::new(TestChain::default()), Shutdown::new());
    let sizes = format!("['{APP}=1300', '{}=1400']", site.cvm(APP, "two").instance_id());
    let gateway = site.gateway_with(&chain, &shutdown, &[("WIREGUARD__MTU_OF", &sizes)]).await;
    for (app, instance, mtu) in
        [(APP, "one", Some(1_300)), (APP, "two", Some(1_400)), (AppId([0xbb; 20]), "three", None)]
    {
        let mut registration =
            site.connect(gateway.registration(), Some(site.keeper(&site.cvm(app, instance)).await)).await;
        let key = key().public();
        assert_eq!(registration.register(&key.to_string()).await.0, 200);
        assert_eq!(gateway.tunnel().peer(&key).unwrap().mtu, mtu, "{instance}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_misses_its_renewals_counts_as_ended() {
    let (site, chain, shutdown) = (Site::new(11), Arc::new(TestChain::default()), Shutdown::new());
    let keys = [("REGISTRATION__REFRESH", "1s"), ("LIMITS__REGISTRATION", "500ms")];
    let gateway = site.gateway_with(&chain, &shutdown, &keys).await;
    let mut registration = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "one")).await)).await;
    registration.register(&key().public().to_string()).await;
    let registered = Instant::now();
    registration.closed().await;
    let patience = registered.elapsed();
    assert!((3..6).contains(&patience.as_secs()), "three renewals may be missed: {patience:?}");
    assert!(!members(&gateway)[0].alive);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_on_chain_is_refused_with_the_reason_and_forgotten() {
    let (site, chain, shutdown) = (Site::new(4), Arc::new(TestChain::default()), Shutdown::new());
    *chain.default.lock().unwrap() = Err(refused(3));
    let gateway = site.gateway(&chain, &shutdown).await;
    let mut registration = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "one")).await)).await;
    let answer = registration.register(&key().public().to_string()).await;
    assert_eq!(reason(&answer), (403, "compose_hash_not_allowed"));
    assert_eq!(answer.1["error"], "the compose hash is not allowed on chain");
    assert!(members(&gateway).is_empty());
    assert_eq!(chain.followed(), 0);
    registration.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_during_the_registration_is_not_lost() {
    let (site, chain, shutdown) = (Site::new(5), Arc::new(TestChain::default()), Shutdown::new());
    let gateway = site.gateway(&chain, &shutdown).await;
    let cvm = site.cvm(APP, "one");
    let mut registration = site.connect(gateway.registration(), Some(site.keeper(&cvm).await)).await;
    // The chain allows it when asked, and has changed its mind right after.
    *chain.second_thoughts.lock().unwrap() = Some(refused(9));
    let answer = registration.register(&key().public().to_string()).await;
    assert_eq!(reason(&answer), (403, "compose_hash_not_allowed"));
    assert_eq!(members(&gateway)[0].standing, Standing::Refused);
    assert_eq!(gateway.tunnel().peers(), []);
    drop(registration);
    ended(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_the_chain_has_forgotten_meanwhile_is_asked_about_again() {
    let (site, chain, shutdown) = (Site::new(13), Arc::new(TestChain::default()), Shutdown::new());
    let gateway = site.gateway(&chain, &shutdown).await;
    let mut registration = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "one")).await)).await;
    // As when another registration of the same instance fails at this moment.
    *chain.second_thoughts.lock().unwrap() = Some(NotAdmitted::NotEvaluated);
    assert_eq!(registration.register(&key().public().to_string()).await.0, 200);
    assert_eq!(chain.followed(), 1);
}

/// Waits until the gateway has noticed that the only member's connection ended.
async fn ended(gateway: &Gateway) {
    let noticed = async {
        while members(gateway).iter().any(|member| member.alive) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, noticed).await.is_ok(), "the end of the connection is not noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_evidence_is_not_believed_any_more_is_shut_out_at_once() {
    let (site, chain, shutdown) = (Site::new(12), Arc::new(TestChain::default()), Shutdown::new());
    let (gateway, attestor) = site.judged_gateway(&chain, &shutdown, &[]).await;
    let mut registration = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "one")).await)).await;
    assert_eq!(registration.register(&key().public().to_string()).await.0, 200);
    assert_eq!(gateway.tunnel().peers().len(), 1);
    let elsewhere = Site::new(66);
    attestor.replace_collateral(elsewhere.attestor().collateral().as_ref().clone());
    shut_out(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_connection_is_gone_is_judged_again_as_well() {
    let (site, chain, shutdown) = (Site::new(14), Arc::new(TestChain::default()), Shutdown::new());
    let (gateway, attestor) = site.judged_gateway(&chain, &shutdown, &[]).await;
    let mut registration = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "one")).await)).await;
    assert_eq!(registration.register(&key().public().to_string()).await.0, 200);
    drop(registration);
    ended(&gateway).await;
    // A change that the evidence stands is none that the member would notice.
    let standing = attestor.collateral();
    attestor.replace_collateral(Collateral::clone(&standing));
    assert_eq!(gateway.tunnel().peers().len(), 1);
    attestor.replace_collateral(Collateral::default());
    shut_out(&gateway).await;
    assert_eq!(members(&gateway)[0].standing, Standing::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_members_evidence_is_judged_again_when_it_has_reached_its_greatest_age() {
    let (site, house, now) = (Site::new(15), House::open(limits()).await, Arc::new(AtomicU64::new(unix_now())));
    let leaf = site.keeper(&site.cvm(APP, "one")).await.current().certificate().clone();
    let mut instance = house.instance(1, 0xaa).await;
    instance.proven(&house, Arc::from([leaf]));
    let clock = Arc::clone(&now);
    let judge = site.attestor();
    let appraiser = Appraiser::clone(&judge.appraiser());
    let collateral = Collateral::clone(&judge.collateral());
    let attestor = Attestor::with_clock(appraiser, collateral, Arc::new(move || clock.load(Ordering::Relaxed)));
    attestor.limit_evidence_age(Duration::from_millis(50));
    let members = house.edge.members.clone();
    let _judging =
        maintenance("judging", move || reappraisal::follow(Arc::clone(&attestor), members.clone(), Audit::log_only()));
    drop(house.session(0xaa).await);
    // No collateral and no policy has changed; it is the collateral's own end.
    now.store(unix_now() + 100 * 86_400, Ordering::Relaxed);
    let gone = async {
        while !house.edge.tunnel.peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it is never judged again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_shows_too_many_unknown_certificates_is_told_to_come_back() {
    let (site, chain, shutdown) = (Site::new(16), Arc::new(TestChain::default()), Shutdown::new());
    let keys = [("ATTESTATION__APPRAISALS_PER_MINUTE", "1"), ("ATTESTATION__APPRAISALS_BURST", "1")];
    let gateway = site.gateway_with(&chain, &shutdown, &keys).await;
    let keepers = [site.keeper(&site.cvm(APP, "one")).await, site.keeper(&site.cvm(APP, "two")).await];
    let [first, second] = keepers.map(|keeper| site.connect(gateway.registration(), Some(keeper)));
    let (mut first, mut second) = (first.await, second.await);
    assert_eq!(first.register(&key().public().to_string()).await.0, 200);
    assert_eq!(reason(&second.register(&key().public().to_string()).await), (429, "source_limited"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_lets_no_expired_certificate_in() {
    let (site, chain, shutdown) = (Site::new(17), Arc::new(TestChain::default()), Shutdown::new());
    let state = site.folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("high-water.json"), format!("{{\"now\":{}}}", unix_now() + 7_200)).unwrap();
    let keys = [("ATTESTATION__STATE_DIR", state.to_str().unwrap())];
    let gateway = site.gateway_with(&chain, &shutdown, &keys).await;
    // By the host's clock it is good for another hour.
    let mut registration = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "one")).await)).await;
    assert_eq!(reason(&registration.register(&key().public().to_string()).await), (403, "certificate_expired"));
}

async fn shut_out(gateway: &Gateway) {
    let shut_out = async {
        while !gateway.tunnel().peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, shut_out).await.is_ok(), "nobody has to renew for that");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_believable_evidence_is_registered() {
    let (site, chain, shutdown) = (Site::new(6), Arc::new(TestChain::default()), Shutdown::new());
    let gateway = site.gateway(&chain, &shutdown).await;
    let mut nobody = site.connect(gateway.registration(), None).await;
    let answer = nobody.register(&key().public().to_string()).await;
    assert_eq!(reason(&answer), (401, "no_certificate"));
    let error = answer.1["error"].as_str().unwrap();
    assert!(error.starts_with("no attestation provided"), "dstack's guests look for these words: {error}");

    let elsewhere = Site::new(66);
    let foreign = elsewhere.keeper(&elsewhere.cvm(APP, "one")).await;
    let mut foreign = site.connect(gateway.registration(), Some(foreign)).await;
    assert_eq!(reason(&foreign.register(&key().public().to_string()).await), (403, "other_root"));
    assert!(members(&gateway).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_may_ask_what_this_gateway_is() {
    let (site, chain, shutdown) = (Site::new(7), Arc::new(TestChain::default()), Shutdown::new());
    let gateway = site.gateway(&chain, &shutdown).await;
    let (status, info) = site.connect(gateway.registration(), None).await.post("/prpc/Info?json", "{}").await;
    assert_eq!((status, &info["base_domain"]), (200, &json!("postern.test")));
    let mut nobody = site.connect(gateway.registration(), None).await;
    assert_eq!(nobody.post("/prpc/Info?json", "{}").await.0, 200);
    let answered = Instant::now();
    nobody.closed().await;
    assert!(answered.elapsed().as_secs() < 5, "whoever is not believed is answered once");
    let mut other = site.connect(gateway.registration(), None).await;
    assert_eq!(reason(&other.post("/prpc/AcmeInfo?json", "{}").await), (404, "no_such_call"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_told_so() {
    let (site, chain, shutdown) = (Site::new(8), Arc::new(TestChain::default()), Shutdown::new());
    let gateway = site.gateway(&chain, &shutdown).await;
    let keeper = site.keeper(&site.cvm(APP, "one")).await;
    let post = async |body: String| {
        let mut registration = site.connect(gateway.registration(), Some(Arc::clone(&keeper))).await;
        let answer = registration.post("/prpc/RegisterCvm?json", body).await;
        (answer.0, answer.1["reason"].as_str().unwrap().to_owned())
    };
    let expect = |status: u16, reason: &str| (status, reason.to_owned());
    assert_eq!(post("{".to_owned()).await, expect(400, "malformed"));
    assert_eq!(post("{}".to_owned()).await, expect(400, "malformed"));
    assert_eq!(post(r#"{"client_public_key":"short"}"#.to_owned()).await, expect(400, "key"));
    assert_eq!(post(" ".repeat(70_000)).await, expect(413, "too_long"));
    let own = gateway.tunnel().public_key();
    assert_eq!(post(json!({ "client_public_key": own.to_string() }).to_string()).await, expect(400, "key_unusable"));
    let port = json!({ "client_public_key": key().public().to_string(), "postern": { "sidecar_port": 0 } });
    assert_eq!(post(port.to_string()).await, expect(400, "port"));
    let ports: Vec<_> = (1..=65).map(|port| json!({ "port": port })).collect();
    let many = json!({ "client_public_key": key().public().to_string(), "port_policy": { "ports": ports } });
    assert_eq!(post(many.to_string()).await, expect(400, "ports"));
    assert!(members(&gateway).is_empty());
    assert_eq!(chain.followed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_key_belongs_to_one_instance() {
    let (site, chain, shutdown) = (Site::new(9), Arc::new(TestChain::default()), Shutdown::new());
    let gateway = site.gateway(&chain, &shutdown).await;
    let mut first = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "one")).await)).await;
    let mut second = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "two")).await)).await;
    let key = key().public().to_string();
    assert_eq!(first.register(&key).await.0, 200);
    assert_eq!(reason(&second.register(&key).await), (409, "key_in_use"));
    assert_eq!(members(&gateway).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_asked_to_stop_drains_to_its_deadline_and_counts_what_is_left() {
    let (site, chain, shutdown) = (Site::new(10), Arc::new(TestChain::default()), Shutdown::new());
    let gateway = site.gateway(&chain, &shutdown).await;
    let mut registration = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "one")).await)).await;
    let key = key();
    registration.register(&key.public().to_string()).await;
    let tunnel = start_tunnel_with(key, members(&gateway)[0].address).await;
    join_tunnel(&tunnel, gateway.tunnel().public_key(), gateway.tunnel().local_addr(), gateway.tunnel().address());
    let (_sidecar, _heard) = sidecar(&tunnel);
    let door = gateway.clients()[0];
    let _left = session_at(door, &app_name(0xaa)).await;
    let ends = session_at(door, &app_name(0xaa)).await;
    assert_eq!(gateway.connections(), 2);
    let running = run(gateway);
    shutdown.trigger();
    drop(ends);
    let drained = timeout(PATIENCE, running.join()).await.unwrap().unwrap();
    assert_eq!((drained.clean, drained.left), (false, 1));
    assert!(tokio::net::TcpStream::connect(door).await.is_err(), "the door is shut");
}
