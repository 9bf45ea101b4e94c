use super::*;

/// A socket that the runtime has seen to be writable: until then, what is sent has to wait.
async fn here(address: &str) -> Udp {
    let udp = Udp::bind(address.parse().unwrap()).unwrap();
    udp.socket().unwrap().writable().await.unwrap();
    udp
}

async fn receive(udp: &Udp, count: usize) -> Vec<Vec<u8>> {
    let (mut buffer, mut got) = (vec![0; LARGEST], Vec::new());
    while got.len() < count {
        udp.readable().await.unwrap();
        while let Ok(received) = udp.try_receive(&mut buffer) {
            got.extend(buffer[..received.len].chunks(received.stride.max(1)).map(<[u8]>::to_vec));
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
        near.splits.store(splits && system::SPLITS, Ordering::Relaxed);
        let (packets, batch) = mixed();
        near.send(far.local_addr(), &batch, &Meters::new());
        assert_eq!(receive(&far, packets.len()).await, packets, "splits: {splits}");
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_sent_to_is_no_reason_to_give_up_splitting() {
    let (near, far) = (here("127.0.0.1:0").await, here("127.0.0.1:0").await);
    let (packets, batch) = mixed();
    for nowhere in ["[::1]:9", "127.0.0.1:0", "255.255.255.255:9"] {
        near.send(nowhere.parse().unwrap(), &batch, &Meters::new());
    }
    assert_eq!(near.splits.load(Ordering::Relaxed), system::SPLITS);
    near.send(far.local_addr(), &batch, &Meters::new());
    assert_eq!(receive(&far, packets.len()).await, packets);
}

#[tokio::test]
async fn a_closed_socket_gives_its_port_back() {
    let udp = here("127.0.0.1:0").await;
    udp.close();
    let _again = Udp::bind(udp.local_addr()).unwrap();
    assert_eq!(udp.try_receive(&mut [0; 10]).unwrap_err().kind(), io::ErrorKind::NotConnected);
    udp.send(udp.local_addr(), &mixed().1, &Meters::new());
}

#[tokio::test]
async fn a_socket_of_both_families_speaks_to_both_and_names_them_plainly() {
    let (both, old) = (here("[::]:0").await, here("127.0.0.1:0").await);
    let (packets, batch) = mixed();
    let port = both.local_addr().port();
    both.send(old.local_addr(), &batch, &Meters::new());
    assert_eq!(receive(&old, packets.len()).await, packets);
    old.send(SocketAddr::new([127, 0, 0, 1].into(), port), &batch, &Meters::new());
    both.readable().await.unwrap();
    assert_eq!(both.try_receive(&mut [0; LARGEST]).unwrap().from, old.local_addr());
}

#[tokio::test]
async fn what_waits_goes_first_and_the_backlog_empties() {
    let (near, far) = (here("127.0.0.1:0").await, here("127.0.0.1:0").await);
    let meters = Meters::new();
    near.keep(far.local_addr(), &Run { bytes: b"first", stride: 5 }, &meters);
    let mut batch = Batch::default();
    batch.push(b"second");
    near.send(far.local_addr(), &batch, &meters);
    assert!(!near.is_congested(), "a little is no congestion");
    near.drain().await.unwrap();
    assert_eq!(receive(&far, 2).await, [b"first".to_vec(), b"second".to_vec()]);
    batch.clear();
    batch.push(b"third");
    near.send(far.local_addr(), &batch, &meters);
    assert_eq!(receive(&far, 1).await, [b"third".to_vec()]);
}
