use std::collections::VecDeque;

use tokio::time::Instant;

use super::*;

#[test]
fn errors_of_accept_are_told_apart() {
    let table = [
        (libc::ECONNABORTED, Class::Connection),
        (libc::ECONNRESET, Class::Connection),
        (libc::EINTR, Class::Connection),
        (libc::EPROTO, Class::Connection),
        (libc::EPERM, Class::Connection),
        (libc::ENETDOWN, Class::Connection),
        (libc::EHOSTUNREACH, Class::Connection),
        (libc::ETIMEDOUT, Class::Connection),
        (libc::EMFILE, Class::Resource),
        (libc::ENFILE, Class::Resource),
        (libc::ENOBUFS, Class::Resource),
        (libc::ENOMEM, Class::Resource),
        (libc::EXDEV, Class::Resource),
        (libc::EBADF, Class::Fatal),
        (libc::EINVAL, Class::Fatal),
        (libc::ENOTSOCK, Class::Fatal),
        (libc::EOPNOTSUPP, Class::Connection),
    ];
    for (code, class) in table {
        let error = io::Error::from_raw_os_error(code);
        assert_eq!(classify(&error), class, "{error}");
    }
    assert_eq!(classify(&io::ErrorKind::ConnectionReset.into()), Class::Connection);
    assert_eq!(classify(&io::Error::other("made up")), Class::Resource);
}

/// Accepts what a script says, and how long it took.
async fn scripted(script: &[i32]) -> (Result<u8, Fatal>, Duration) {
    let mut script = script.iter().copied().collect::<VecDeque<_>>();
    let started = Instant::now();
    let accepted = patiently(|| {
        let code = script.pop_front();
        async move { code.map_or(Ok(7), |code| Err(io::Error::from_raw_os_error(code))) }
    })
    .await;
    (accepted, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_costs_no_time() {
    let (accepted, took) = scripted(&[libc::ECONNABORTED, libc::EPROTO]).await;
    assert_eq!(accepted.unwrap(), 7);
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_shortage_is_waited_out_with_growing_pauses() {
    let (accepted, took) = scripted(&[libc::EMFILE; 8]).await;
    assert_eq!(accepted.unwrap(), 7);
    // Limits of 25, 50, 100, 200, 400, 800, 1000 and 1000 ms, and never less than half of each.
    let limits = Duration::from_millis(3575);
    assert!(took >= limits / 2 && took <= limits + Duration::from_millis(8), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_broken_listener_is_given_up() {
    let (accepted, _) = scripted(&[libc::EINTR, libc::EBADF, libc::EINTR]).await;
    assert_eq!(accepted.unwrap_err().0.raw_os_error(), Some(libc::EBADF));
}

#[test]
fn warnings_are_rare() {
    let last = AtomicU64::new(0);
    assert!(due_for_warning(&last, 1000));
    assert!(!due_for_warning(&last, 1000));
    assert!(!due_for_warning(&last, 1009));
    assert!(due_for_warning(&last, 1010));
    assert!(due_for_warning(&last, 500), "the clock was set back");
}

fn is_tuned(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
    let probes = (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval(), socket.tcp_keepalive_retries());
    assert_eq!((probes.0.unwrap(), probes.1.unwrap(), probes.2.unwrap()), KEEPALIVE);
}

#[tokio::test]
async fn accepted_connections_are_tuned() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = accept(&listener).await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    is_tuned(&stream);
}

#[tokio::test]
async fn connections_of_a_tuned_listener_are_tuned_without_being_asked() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::from_std(listen(address.parse().unwrap()).unwrap()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = next(&listener).await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        is_tuned(&stream);
    }
}

#[test]
fn a_port_is_shared_by_those_who_agree_and_a_probe_finds_them() {
    let address = probe("127.0.0.1:0".parse().unwrap()).unwrap();
    let (_first, _second) = (listen(address).unwrap(), listen(address).unwrap());
    assert_eq!(probe(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}
