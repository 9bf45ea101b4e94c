use super::*;

async fn here(address: &str) -> Udp {
    let udp = Udp::bind(address.parse().unwrap()).unwrap();
    udp.writable().await;
    udp
}

async fn receive(udp: &Udp, count: usize) -> Vec<Vec<u8>> {
    let (mut arrivals, mut got) = (Arrivals::new(), Vec::new());
    while got.len() < count {
        udp.readable().await.unwrap();
        while udp.try_receive(&mut arrivals).is_ok() {
            got.extend(arrivals.datagrams().map(|(_, datagram)| datagram.to_vec()));
        }
    }
    got
}

fn mixed() -> (Vec<Vec<u8>>, Batch) {
    let sizes = [1452, 1452, 1452, 700, 32, 1452, 1452, 92, 148, 148, 1];
    let packets: Vec<_> = sizes.iter().zip(1..).map(|(size, tag)| vec![tag; *size]).collect();
    let mut batch = Batch::default();
    packets.iter().for_each(|packet| batch.push(packet));
    (packets, batch)
}

#[tokio::test]
async fn datagrams_arrive_as_they_were_whether_the_system_splits_them_or_not() {
    for splits in [true, false] {
        let (near, far) = (here("127.0.0.1:0").await, here("127.0.0.1:0").await);
        near.splits.store(splits && near.splits(), Ordering::Relaxed);
        let (packets, batch) = mixed();
        near.send(far.local_addr(), &batch, Mark::NotCapable, &Meters::new());
        assert_eq!(receive(&far, packets.len()).await, packets, "splits: {splits}");
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_sent_to_is_no_reason_to_give_up_splitting() {
    let (near, far) = (here("127.0.0.1:0").await, here("127.0.0.1:0").await);
    let (packets, batch) = mixed();
    for nowhere in ["[::1]:9", "127.0.0.1:0", "255.255.255.255:9"] {
        near.send(nowhere.parse().unwrap(), &batch, Mark::NotCapable, &Meters::new());
    }
    assert_eq!(near.splits(), cfg!(target_os = "linux"));
    near.send(far.local_addr(), &batch, Mark::NotCapable, &Meters::new());
    assert_eq!(receive(&far, packets.len()).await, packets);
}

#[tokio::test]
async fn a_closed_socket_gives_its_port_back() {
    let udp = here("127.0.0.1:0").await;
    udp.close();
    let _again = Udp::bind(udp.local_addr()).unwrap();
    assert_eq!(udp.try_receive(&mut Arrivals::new()).unwrap_err().kind(), io::ErrorKind::NotConnected);
    udp.send(udp.local_addr(), &mixed().1, Mark::NotCapable, &Meters::new());
}

#[tokio::test]
async fn a_socket_of_both_families_speaks_to_both_and_names_them_plainly() {
    let (both, old) = (here("[::]:0").await, here("127.0.0.1:0").await);
    let (packets, batch) = mixed();
    let port = both.local_addr().port();
    both.send(old.local_addr(), &batch, Mark::NotCapable, &Meters::new());
    assert_eq!(receive(&old, packets.len()).await, packets);
    old.send(SocketAddr::new([127, 0, 0, 1].into(), port), &batch, Mark::NotCapable, &Meters::new());
    both.readable().await.unwrap();
    let mut arrivals = Arrivals::new();
    both.try_receive(&mut arrivals).unwrap();
    assert_eq!(arrivals.messages().next().unwrap().0.from, old.local_addr());
}

#[tokio::test]
async fn what_waits_goes_first_and_the_backlog_empties() {
    let (near, far) = (here("127.0.0.1:0").await, here("127.0.0.1:0").await);
    let meters = Meters::new();
    near.keep(Towards { to: far.local_addr(), mark: Mark::NotCapable }, &Run { bytes: b"first", stride: 5 }, &meters);
    let mut batch = Batch::default();
    batch.push(b"second");
    near.send(far.local_addr(), &batch, Mark::NotCapable, &meters);
    assert!(!near.is_congested(), "a little is no congestion");
    near.drain().await.unwrap();
    assert_eq!(receive(&far, 2).await, [b"first".to_vec(), b"second".to_vec()]);
    batch.clear();
    batch.push(b"third");
    near.send(far.local_addr(), &batch, Mark::NotCapable, &meters);
    assert_eq!(receive(&far, 1).await, [b"third".to_vec()]);
}

#[tokio::test]
async fn what_is_said_of_congestion_travels_with_the_datagrams() {
    for (one, other) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0"), ("[::]:0", "127.0.0.1:0")] {
        let (near, far) = (here(one).await, here(other).await);
        for mark in [Mark::NotCapable, Mark::Zero, Mark::One, Mark::Congested] {
            let (packets, batch) = mixed();
            near.send(far.local_addr(), &batch, mark, &Meters::new());
            let (mut arrivals, mut got) = (Arrivals::new(), 0);
            while got < packets.len() {
                far.readable().await.unwrap();
                while far.try_receive(&mut arrivals).is_ok() {
                    let expected = if cfg!(target_os = "linux") { mark } else { Mark::NotCapable };
                    assert!(arrivals.messages().all(|(message, _)| message.mark == expected));
                    got += arrivals.datagrams().count();
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn sockets_of_one_port_share_out_who_sends_to_it_and_nobody_else_gets_in() {
    let sockets = bind_all("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let address = sockets[0].local_addr().unwrap();
    assert_eq!(sockets[1].local_addr().unwrap(), address);
    assert_eq!(bind_all(address, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let senders: Vec<_> = (0..64).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for _ in 0..2 {
        senders.iter().for_each(|sender| assert_eq!(sender.send_to(b"x", address).unwrap(), 1));
    }
    let from = |socket: &std::net::UdpSocket| {
        socket.set_nonblocking(true).unwrap();
        let mut from = Vec::new();
        while let Ok((_, sender)) = socket.recv_from(&mut [0; 1]) {
            from.push(sender.port());
        }
        from
    };
    let (one, other) = (from(&sockets[0]), from(&sockets[1]));
    assert_eq!(one.len() + other.len(), 128);
    assert!(!one.is_empty() && !other.is_empty(), "{} and {}", one.len(), other.len());
    assert!(one.iter().all(|port| !other.contains(port)), "what one sends stays in its order");
}

/// Sends a datagram that nothing is joined to, from a socket of its own.
fn send_alone(to: &Udp, datagram: &[u8]) -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(datagram, to.local_addr()).unwrap();
    socket.local_addr().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn datagrams_of_many_come_by_one_call_each_with_its_sender_and_joined_ones_by_one_each() {
    let (near, far) = (here("127.0.0.1:0").await, here("127.0.0.1:0").await);
    let mut arrivals = Arrivals::new();
    let sent: Vec<_> =
        (1..=40_u8).map(|tag| (send_alone(&far, &[tag; 100][..tag.into()]), vec![tag; tag.into()])).collect();
    let mut got = Vec::new();
    for (count, more) in [(32, true), (8, false)] {
        far.readable().await.unwrap();
        assert_eq!(far.try_receive(&mut arrivals).unwrap(), more);
        assert_eq!(arrivals.messages().count(), count);
        got.extend(arrivals.datagrams().map(|(message, datagram)| (message.from, datagram.to_vec())));
    }
    assert_eq!(got, sent);

    // Once the kernel joins them, a call takes one message, and many again when it does not.
    let mut joined = Batch::default();
    (0..3).for_each(|_| joined.push(&[7; 1452]));
    (0..3).for_each(|_| near.send(far.local_addr(), &joined, Mark::NotCapable, &Meters::new()));
    assert!(!far.try_receive(&mut arrivals).unwrap());
    assert_eq!((arrivals.messages().count(), arrivals.datagrams().count()), (3, 9));
    near.send(far.local_addr(), &joined, Mark::NotCapable, &Meters::new());
    let alone = send_alone(&far, b"x");
    for (from, count) in [(near.local_addr(), 3), (alone, 1)] {
        assert!(far.try_receive(&mut arrivals).unwrap());
        assert_eq!(arrivals.messages().map(|(message, _)| message.from).collect::<Vec<_>>(), [from]);
        assert_eq!(arrivals.datagrams().count(), count);
    }
    for _ in 0..2 {
        send_alone(&far, b"y");
    }
    assert!(!far.try_receive(&mut arrivals).unwrap());
    assert_eq!(arrivals.messages().count(), 2);
}
