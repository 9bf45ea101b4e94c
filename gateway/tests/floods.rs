//! Many connections that want nothing, and the few that do.

#[cfg(test)]
mod common;

use std::time::Duration;

use gateway::edge::Limits;
use gateway::listen;
use gateway::shards::{Post, Shared};
use postern_plumbing::accept;
use postern_plumbing::tasks::Task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use common::hello::{SSL_REQUEST, app_name, hello};
use common::{House, PATIENCE, alert, error_response, limits, rest, session_at};

const APP: u8 = 0xaa;

#[cfg(test)]
async fn says_back(stream: &mut TcpStream) {
    stream.write_all(b"still here").await.unwrap();
    let mut echo = [0; 10];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"still here");
}

/// Waits until the gateway has taken, or turned away, what was sent to its door.
#[cfg(test)]
async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never held");
}

#[tokio::test]
async fn a_flood_from_one_network_is_contained_and_the_others_are_served() {
    const MOST: usize = 20;
    let house = House::open(Limits { openings_per_network: MOST, opening: PATIENCE, ..limits() }).await;
    let _instance = house.instance(1, APP).await;
    let mut live = house.connect_from("127.1.0.200").await;
    let hello = hello(&app_name(APP));
    live.write_all(&hello).await.unwrap();
    live.read_exact(&mut vec![0; hello.len()]).await.unwrap();

    let mut flood = Vec::new();
    for number in 0..3 * MOST {
        flood.push(house.connect_from(&format!("127.1.0.{}", number % 100)).await);
    }
    // Of those who keep silent only so many hold a place; the others are let go.
    until(|| house.connections.count() == MOST + 1).await;
    assert_eq!(house.edge.places.available_permits(), house.edge.limits.connections - MOST - 1);

    let mut neighbour = house.connect_from("127.1.0.201").await;
    neighbour.write_all(&hello).await.unwrap();
    assert_eq!(rest(&mut neighbour).await, alert(80));
    let mut neighbour = house.connect_from("127.1.0.202").await;
    neighbour.write_all(&SSL_REQUEST).await.unwrap();
    let refusal = error_response(&rest(&mut neighbour).await);
    assert!(refusal.contains("C53300") && refusal.contains("of this network"), "{refusal}");

    drop(house.session(APP).await);
    says_back(&mut live).await;
    drop(flood);
    until(|| house.connections.count() == 1).await;
    let mut neighbour = house.connect_from("127.1.0.201").await;
    neighbour.write_all(&hello).await.unwrap();
    neighbour.read_exact(&mut vec![0; hello.len()]).await.unwrap();
    drop((live, neighbour));
    house.settle().await;
}

#[tokio::test]
async fn sessions_do_not_count_as_being_opened() {
    let house = House::open(Limits { openings_per_network: 1, ..limits() }).await;
    let _instance = house.instance(1, APP).await;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(house.session(APP).await);
    }
    for session in &mut sessions {
        says_back(session).await;
    }
    drop(sessions);
    house.settle().await;
}

#[tokio::test]
async fn slow_clients_of_many_networks_hold_nobody_up() {
    let house = House::open(Limits { openings_per_network: 10, opening: PATIENCE, ..limits() }).await;
    let _instance = house.instance(1, APP).await;
    let mut live = house.session(APP).await;
    let mut slow = Vec::new();
    for network in 0..40 {
        for last in 0..10 {
            let mut stream = house.connect_from(&format!("127.1.{network}.{last}")).await;
            stream.write_all(&[22, 3, 1]).await.unwrap();
            slow.push(stream);
        }
    }
    until(|| house.connections.count() == slow.len() + 1).await;
    for _ in 0..10 {
        says_back(&mut live).await;
        drop(house.session(APP).await);
    }
    drop((live, slow));
    house.settle().await;
}

/// Two threads' work in one: the first one accepts everything.
#[tokio::test]
async fn a_thread_that_is_given_more_than_its_share_hands_it_on() {
    const CLIENTS: usize = 200;
    // None of them comes to the end of its opening, however long it takes until all have come.
    let house = House::open(Limits { opening: PATIENCE, ..limits() }).await;
    let _instance = house.instance(1, APP).await;
    let (posts, inboxes) = Post::all(2);
    let listener = TcpListener::from_std(accept::listen("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
    let door = listener.local_addr().unwrap();
    let shared =
        Shared { edge: house.edge.clone(), connections: house.connections.clone(), shutdown: house.shutdown.clone() };
    let serving = listen::serve(listener, posts[0].clone(), shared.clone());
    let _door = Task::spawn("clients", async move { serving.await.unwrap() });
    let mut others = Vec::new();
    for (inbox, post) in inboxes.into_iter().zip(&posts) {
        others.push(Task::spawn("handed over", listen::handed_over(inbox, post.clone(), shared.clone())));
    }
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        // Whoever has its answer is counted.
        let mut stream = TcpStream::connect(door).await.unwrap();
        stream.write_all(&SSL_REQUEST).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'S');
        clients.push(stream);
    }
    let loads = posts[0].loads();
    assert_eq!(loads.iter().sum::<usize>(), CLIENTS);
    assert!(loads[1] >= CLIENTS / 3, "{loads:?}");
    drop(session_at(door, &app_name(APP)).await);
    drop(clients);
    house.settle().await;
    assert_eq!(posts[0].loads(), [0, 0]);
}
