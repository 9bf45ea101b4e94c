//! Clients that come through a load balancer, which has to introduce them.

#[cfg(test)]
mod common;

use std::net::SocketAddr;

use gateway::edge::Limits;
use ppp::v2::{Addresses, Builder, Command, Header, Protocol, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use common::hello::{SSL_REQUEST, app_name, hello};
use common::{House, PATIENCE, alert, error_response, limits, rest};

const APP: u8 = 0xaa;
/// In the network that the house takes introductions from.
const BALANCER: &str = "127.7.0.1";

#[cfg(test)]
fn text(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 198.51.100.1 4711 5432\r\n").into_bytes()
}

#[cfg(test)]
fn binary(command: Command, client: &str) -> Vec<u8> {
    let client: SocketAddr = SocketAddr::new(client.parse().unwrap(), 4711);
    let server: SocketAddr = "198.51.100.1:5432".parse().unwrap();
    let builder = Builder::with_addresses(Version::Two | command, Protocol::Stream, (client, server));
    builder.write_tlv(0xea, b"vpce-1234").unwrap().build().unwrap()
}

/// Sends a hello and waits until the instance has said it back.
#[cfg(test)]
async fn served(stream: &mut TcpStream) {
    let hello = hello(&app_name(APP));
    stream.write_all(&hello).await.unwrap();
    let mut echo = vec![0; hello.len()];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(echo, hello, "nothing of the introduction reaches the instance as the client's");
}

#[tokio::test]
async fn the_instance_is_told_of_the_client_and_not_of_the_load_balancer() {
    let house = House::open(limits()).await;
    let mut instance = house.instance(1, APP).await;
    for header in [text("192.0.2.7"), binary(Command::Proxy, "192.0.2.7")] {
        for size in [1, header.len()] {
            let mut stream = house.connect_from(BALANCER).await;
            stream.set_nodelay(true).unwrap();
            for piece in header.chunks(size) {
                stream.write_all(piece).await.unwrap();
            }
            served(&mut stream).await;
            let heard = instance.heard().await;
            let Addresses::IPv4(told) = Header::try_from(heard.header.as_slice()).unwrap().addresses else {
                panic!("the client has an IPv4 address")
            };
            assert_eq!((told.source_address, told.source_port), ([192, 0, 2, 7].into(), 4711));
            assert_eq!((told.destination_address, told.destination_port), ([198, 51, 100, 1].into(), 5432));
        }
    }
    house.settle().await;
}

#[tokio::test]
async fn what_comes_in_one_segment_with_the_introduction_is_heard() {
    let house = House::open(limits()).await;
    let _instance = house.instance(1, APP).await;
    let mut stream = house.connect_from(BALANCER).await;
    stream.write_all(&[&text("192.0.2.7")[..], &SSL_REQUEST].concat()).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    served(&mut stream).await;
    drop(stream);
    house.settle().await;
}

#[tokio::test]
async fn a_load_balancer_that_speaks_for_itself_is_served_as_itself() {
    let house = House::open(limits()).await;
    let mut instance = house.instance(1, APP).await;
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), binary(Command::Local, "192.0.2.7")] {
        let mut stream = house.connect_from(BALANCER).await;
        stream.write_all(&header).await.unwrap();
        served(&mut stream).await;
        let heard = instance.heard().await;
        let Addresses::IPv4(told) = Header::try_from(heard.header.as_slice()).unwrap().addresses else { panic!() };
        assert_eq!(told.source_address.octets(), [127, 7, 0, 1]);
    }
    house.settle().await;
}

#[tokio::test]
async fn a_load_balancer_that_introduces_nobody_is_refused_in_the_language_of_its_client() {
    let house = House::open(limits()).await;
    let _instance = house.instance(1, APP).await;
    let mut tls = house.connect_from(BALANCER).await;
    tls.write_all(&hello(&app_name(APP))).await.unwrap();
    assert_eq!(rest(&mut tls).await, alert(50));
    let mut postgres = house.connect_from(BALANCER).await;
    postgres.write_all(&SSL_REQUEST).await.unwrap();
    let refusal = error_response(&rest(&mut postgres).await);
    assert!(refusal.contains("C08P01") && refusal.contains("PROXY protocol header is expected"), "{refusal}");
    house.settle().await;
}

#[tokio::test]
async fn nobody_else_can_say_who_it_is() {
    let house = House::open(limits()).await;
    let mut instance = house.instance(1, APP).await;
    for header in [text("192.0.2.7"), binary(Command::Proxy, "192.0.2.7")] {
        let refusal = error_response(&house.answer_to(&[&header[..], &hello(&app_name(APP))].concat()).await);
        assert!(refusal.contains("speaks TLS and the PostgreSQL protocol only"), "{refusal}");
        // Nor can a client behind the load balancer, after the balancer has.
        let mut stream = house.connect_from(BALANCER).await;
        stream.write_all(&[&text("192.0.2.9")[..], &header].concat()).await.unwrap();
        let refusal = error_response(&rest(&mut stream).await);
        assert!(refusal.contains("speaks TLS and the PostgreSQL protocol only"), "{refusal}");
    }
    drop(house.session(APP).await);
    let heard = instance.heard().await;
    let Addresses::IPv4(told) = Header::try_from(heard.header.as_slice()).unwrap().addresses else { panic!() };
    assert_eq!(told.source_address.octets(), [127, 0, 0, 1], "the first to reach the instance is an honest one");
    house.settle().await;
}

#[tokio::test]
async fn an_introduction_has_no_deadline_of_its_own() {
    let house = House::open(limits()).await;
    let header = text("192.0.2.7");
    for sent in [0, 1, header.len() - 1, header.len()] {
        let mut stream = house.connect_from(BALANCER).await;
        stream.write_all(&header[..sent]).await.unwrap();
        let told = rest(&mut stream).await;
        assert_eq!(
            told.is_empty(),
            sent == 0 || sent == header.len(),
            "{sent} bytes: whoever has not spoken hears nothing"
        );
    }
    house.settle().await;
}

#[tokio::test]
async fn clients_behind_a_load_balancer_are_counted_by_their_own_networks() {
    let house = House::open(Limits { openings_per_network: 2, opening: PATIENCE, ..limits() }).await;
    let _instance = house.instance(1, APP).await;
    let mut flood = Vec::new();
    for last in 0..2 {
        let mut stream = house.connect_from(BALANCER).await;
        stream.write_all(&[&text(&format!("192.0.2.{last}"))[..], &SSL_REQUEST].concat()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'S');
        flood.push(stream);
    }
    let mut refused = house.connect_from(BALANCER).await;
    refused.write_all(&text("192.0.2.99")).await.unwrap();
    assert_eq!(rest(&mut refused).await, b"");
    let mut other = house.connect_from(BALANCER).await;
    other.write_all(&text("192.0.3.1")).await.unwrap();
    served(&mut other).await;
    drop((flood, other));
    house.settle().await;
}
