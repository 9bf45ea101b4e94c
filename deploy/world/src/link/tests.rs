use std::net::Ipv4Addr;

use tokio::time::timeout;

use super::*;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const SOON: Duration = Duration::from_secs(20);

/// A link before a gateway, and a tunnel's socket that is connected to it.
async fn scene() -> (Link, UdpSocket, UdpSocket) {
    let gateway = UdpSocket::bind(ANY).await.unwrap();
    let link = Link::start(ANY, gateway.local_addr().unwrap()).await.unwrap();
    let tunnel = UdpSocket::bind(ANY).await.unwrap();
    tunnel.connect(link.address()).await.unwrap();
    (link, gateway, tunnel)
}

async fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 64];
    let (count, from) = timeout(SOON, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    (String::from_utf8_lossy(&buffer[..count]).into_owned(), from)
}

#[tokio::test]
async fn in_good_weather_datagrams_pass_both_ways() {
    let (_link, gateway, tunnel) = scene().await;
    tunnel.send(b"there").await.unwrap();
    let (text, from) = receive(&gateway).await;
    assert_eq!(text, "there");
    gateway.send_to(b"back", from).await.unwrap();
    assert_eq!(receive(&tunnel).await.0, "back");
}

#[tokio::test]
async fn nothing_passes_a_partition_until_it_is_over() {
    let (_link, gateway, tunnel) = scene().await;
    let (weather, seen) = watch::channel(Weather { blocked: true, ..Weather::default() });
    let lane = Lane::new(Arc::new(tunnel), None, seen);
    lane.pass(b"lost").await;
    weather.send_replace(Weather::default());
    lane.pass(b"kept").await;
    assert_eq!(receive(&gateway).await.0, "kept");
}

#[tokio::test]
async fn all_is_lost_where_everything_is_and_late_where_it_is_delayed() {
    let (_link, gateway, tunnel) = scene().await;
    let (weather, seen) = watch::channel(Weather { loss: 1.0, ..Weather::default() });
    let lane = Lane::new(Arc::new(tunnel), None, seen);
    lane.pass(b"lost").await;
    weather.send_replace(Weather { delay: Duration::from_millis(50), ..Weather::default() });
    let sent = Instant::now();
    lane.pass(b"late").await;
    assert_eq!(receive(&gateway).await.0, "late");
    assert!(sent.elapsed() >= Duration::from_millis(50));
}
