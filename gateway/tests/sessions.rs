//! Sessions of clients that do it right, and what happens to them.

#[cfg(test)]
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::connection::{self, Connection};
use gateway::edge::Limits;
use gateway::proxy_header::ConnectionId;
use ppp::v2::{Addresses, Header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use common::chain::{allowed, refused};
use common::hello::{SSL_REQUEST, app_name, hello};
use common::{House, PATIENCE, alert, error_response, limits, rest};

const APP: u8 = 0xaa;

#[tokio::test]
async fn a_session_reaches_the_sidecar_behind_a_proxy_header_and_ends_in_order() {
    let house = House::open(limits()).await;
    let mut instance = house.instance(1, APP).await;
    let mut stream = house.connect().await;
    let client = stream.local_addr().unwrap();
    stream.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    let hello = hello(&app_name(APP));
    stream.write_all(&hello).await.unwrap();
    let heard = instance.heard().await;
    assert_eq!(heard.first, hello, "the preamble is not replayed, and the hello is as it came");
    assert_eq!(heard.from.ip(), house.edge.tunnel.address());

    let header = Header::try_from(heard.header.as_slice()).unwrap();
    let Addresses::IPv4(addresses) = header.addresses else { panic!("{:?}", header.addresses) };
    assert_eq!((addresses.source_address, addresses.source_port), ("127.0.0.1".parse().unwrap(), client.port()));
    assert_eq!(addresses.destination_port, house.clients.port());
    let fields: Vec<_> =
        header.tlvs().map(|field| field.map(|field| (field.kind, field.value.to_vec())).unwrap()).collect();
    assert_eq!((fields[0].0, fields[0].1.len()), (0xe0, 16));
    assert_eq!(fields[1], (0xe1, vec![1]));
    assert_eq!(fields[2], (2, app_name(APP).into_bytes()));

    let mut echo = vec![0; hello.len()];
    stream.read_exact(&mut echo).await.unwrap();
    stream.write_all(b"the last words").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, b"the last words", "the other direction goes on after one has ended");
    house.settle().await;
}

#[tokio::test]
async fn a_revocation_cuts_live_sessions_and_a_restoration_lets_new_ones_in() {
    let house = House::open(limits()).await;
    let mut instance = house.instance(1, APP).await;
    let _other_app = house.instance(2, 0xbb).await;
    let mut first = house.session(APP).await;
    let mut second = house.session(APP).await;
    instance.heard().await;
    assert_eq!(house.edge.sessions.count(), 2);

    let announced = Instant::now();
    house.chain.announce(&instance.boot, Err(refused(12)), 12);
    assert_eq!(rest(&mut first).await, b"");
    assert_eq!(rest(&mut second).await, b"");
    assert!(announced.elapsed() < Duration::from_secs(1), "{:?}", announced.elapsed());
    assert_eq!(house.answer_to(&hello(&app_name(APP))).await, alert(49));
    house.settle().await;
    assert!(house.edge.tunnel.peer(&instance.tunnel.public_key()).is_none(), "the tunnel is closed as well");

    house.chain.announce(&instance.boot, Ok(allowed(15)), 15);
    let restored = async {
        while house.edge.tunnel.peer(&instance.tunnel.public_key()).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        house.session(APP).await
    };
    drop(timeout(PATIENCE, restored).await.expect("the restored instance serves again"));
    house.settle().await;
}

#[tokio::test]
async fn not_knowing_what_the_chain_says_keeps_live_sessions() {
    let house = House::open(limits()).await;
    let instance = house.instance(1, APP).await;
    let mut live = house.session(APP).await;
    let unknown = postern_allowlist::NotAdmitted::ViewTooOld { age: 1_000 };
    house.chain.announce(&instance.boot, Err(unknown), 12);
    assert_eq!(house.answer_to(&hello(&app_name(APP))).await, alert(80));
    live.write_all(b"still here").await.unwrap();
    let mut echo = [0; 10];
    live.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"still here");
    drop(live);
    house.settle().await;
}

#[tokio::test]
async fn a_cancel_request_reaches_the_instance_whose_slot_is_in_its_key() {
    let house = House::open(limits()).await;
    let mut instance = house.instance(1, APP).await;
    let _other = house.instance(2, APP).await;
    let process_id = (instance.slot << 12 | 0xabc).to_be_bytes();
    for secret in [4_u16, 32, 256] {
        let length = (12 + secret).to_be_bytes();
        let cancel = [&[0, 0], &length[..], &[4, 210, 22, 46], &process_id, &vec![7; usize::from(secret)]].concat();
        assert_eq!(house.answer_to(&cancel).await, b"", "its sender is told nothing but the end");
        let heard = instance.heard().await;
        assert_eq!(heard.first, cancel);
        let header = Header::try_from(heard.header.as_slice()).unwrap();
        assert!(header.tlvs().all(|field| field.unwrap().kind != 2), "it names no host");
        let Addresses::IPv4(addresses) = header.addresses else { panic!("no client: {:?}", header.addresses) };
        assert!(addresses.source_address.is_loopback(), "the instance learns who sent it");
    }

    let unknown = [&[0, 0, 0, 16, 4, 210, 22, 46, 0xff, 0xff, 0xff, 0xff][..], &[1, 2, 3, 4]].concat();
    assert_eq!(house.answer_to(&unknown).await, b"");
    house.settle().await;
}

#[tokio::test]
async fn an_instance_that_cannot_be_reached_is_replaced_by_another_one() {
    let house = House::open(limits()).await;
    let mut broken = house.instance(1, APP).await;
    let _sound = house.instance(2, APP).await;
    broken.stop_listening();
    for _ in 0..6 {
        drop(house.session(APP).await);
    }
    broken.tunnel.stop();
    house.settle().await;
}

#[tokio::test]
async fn no_instance_that_answers_is_an_internal_error() {
    let house = House::open(limits()).await;
    let mut broken = house.instance(1, APP).await;
    broken.stop_listening();
    assert_eq!(house.answer_to(&hello(&app_name(APP))).await, alert(80));
    house.settle().await;
}

#[tokio::test]
async fn instances_without_a_sign_of_life_serve_only_when_no_other_does() {
    let house = House::open(limits()).await;
    let (mut silent, mut alive) = (house.instance(1, APP).await, house.instance(2, APP).await);
    house.edge.members.unlinked(&silent.boot.instance_id, silent.link);
    for _ in 0..4 {
        drop(house.session(APP).await);
        alive.heard().await;
    }
    house.edge.members.unlinked(&alive.boot.instance_id, alive.link);
    house.edge.members.refuse(&alive.boot).unwrap();
    drop(house.session(APP).await);
    silent.heard().await;
    house.settle().await;
}

#[tokio::test]
async fn an_app_has_its_share_and_no_more() {
    let house = House::open(Limits { connections_per_app: 2, ..limits() }).await;
    let _instance = house.instance(1, APP).await;
    let _other_app = house.instance(2, 0xbb).await;
    let (first, _second) = (house.session(APP).await, house.session(APP).await);
    assert_eq!(house.answer_to(&hello(&app_name(APP))).await, alert(80));
    drop(first);
    let freed = async {
        while house.edge.sessions.count() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, freed).await.unwrap();
    drop(house.session(APP).await);
}

#[tokio::test]
async fn a_full_gateway_says_so_in_the_language_of_the_client() {
    let house = House::open(Limits { connections: 1, opening: PATIENCE, ..limits() }).await;
    let mut only = house.connect().await;
    only.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(only.read_u8().await.unwrap(), b'S');
    assert_eq!(house.answer_to(&hello(&app_name(APP))).await, alert(80));
    assert!(error_response(&house.answer_to(&SSL_REQUEST).await).contains("C53300"));
    drop(only);
    house.settle().await;
}

/// Thousands of sessions are idle most of the time, and each of them takes this as long as it lasts.
#[tokio::test]
async fn what_serves_a_session_is_small() {
    let house = House::open(limits()).await;
    let (stream, address) = (house.connect().await, house.clients);
    let connection = Connection { id: ConnectionId::next(), client: address, gateway: address, stream, opening: None };
    let serving = connection::serve(Arc::clone(&house.edge), connection, ());
    assert!(size_of_val(&serving) <= 640, "{} bytes", size_of_val(&serving));
}
