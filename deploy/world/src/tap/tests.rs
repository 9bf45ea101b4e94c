use std::net::Ipv4Addr;

use tokio::net::UdpSocket;

use super::*;

fn any() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A server that answers each connection's bytes with the same bytes, and closes when the client does.
async fn echo() -> (SocketAddr, Task<()>) {
    let listener = TcpListener::bind(any()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = Task::spawn("echo", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
        }
    });
    (address, task)
}

#[tokio::test]
async fn a_text_is_found_even_when_it_was_cut_in_two() {
    let (server, _task) = echo().await;
    let tap = TcpTap::start(any(), server).await.unwrap();
    let mut client = TcpStream::connect(tap.address()).await.unwrap();
    for part in [b"a mar".as_slice(), b"ker in two"] {
        client.write_all(part).await.unwrap();
        let mut echoed = vec![0; part.len()];
        client.read_exact(&mut echoed).await.unwrap();
    }
    assert_eq!(tap.recording().occurrences(b"marker"), 2, "once in each direction");
    assert_eq!(tap.recording().occurrences(b"other"), 0);
    assert_eq!(tap.recording().bytes(), 2 * b"a marker in two".len());

    tap.recording().clear();
    client.write_all(b"new").await.unwrap();
    client.shutdown().await.unwrap();
    client.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!((tap.recording().bytes(), tap.recording().occurrences(b"marker")), (6, 0));
}

#[tokio::test]
async fn datagrams_of_each_client_come_back_to_it() {
    let server = UdpSocket::bind(any()).await.unwrap();
    let tap = UdpTap::start(any(), server.local_addr().unwrap()).await.unwrap();
    let (one, two) = (UdpSocket::bind(any()).await.unwrap(), UdpSocket::bind(any()).await.unwrap());
    let mut buffer = [0; 64];
    for (client, text) in [(&one, b"one"), (&two, b"two"), (&one, b"six")] {
        client.send_to(text, tap.address()).await.unwrap();
        let (count, from) = server.recv_from(&mut buffer).await.unwrap();
        server.send_to(&buffer[..count], from).await.unwrap();
        let (count, _) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], text);
    }
    assert_eq!(tap.recording().occurrences(b"one"), 2);
    assert_eq!(tap.recording().bytes(), 18);
}

#[tokio::test]
async fn no_datagram_is_lost_to_the_news_that_the_server_was_away() {
    let server = UdpSocket::bind(any()).await.unwrap();
    let address = server.local_addr().unwrap();
    let tap = UdpTap::start(any(), address).await.unwrap();
    let client = UdpSocket::bind(any()).await.unwrap();
    let mut buffer = [0; 64];
    client.send_to(b"hello", tap.address()).await.unwrap();
    server.recv_from(&mut buffer).await.unwrap();
    drop(server);
    for _ in 0..20 {
        client.send_to(b"lost", tap.address()).await.unwrap();
    }
    while tap.recording().occurrences(b"lost") < 20 {
        tokio::task::yield_now().await;
    }
    let server = UdpSocket::bind(address).await.unwrap();
    client.send_to(b"found", tap.address()).await.unwrap();
    let (count, _) = server.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..count], b"found");
}
