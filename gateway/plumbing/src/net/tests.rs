use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

#[test]
fn endpoints_are_read_and_written() {
    for text in ["127.0.0.1:5432", "[::1]:5432", "unix:/run/a b.sock", "unix:relative"] {
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
    }
    for text in ["", "unix:", "127.0.0.1", "localhost:5432", ":5432", "/run/a.sock", "127.0.0.1:70000"] {
        assert_eq!(text.parse::<Endpoint>(), Err(NotAnEndpoint), "{text}");
    }
}

async fn exchange(endpoint: &Endpoint) {
    let listener = Listener::bind(endpoint).await.unwrap();
    let endpoint = listener.endpoint().unwrap();
    let (near, far) = tokio::join!(Stream::connect(&endpoint), listener.accept());
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    assert_eq!(far.peer_addr().is_some(), matches!(endpoint, Endpoint::Tcp(_)));
    near.write_all(b"there").await.unwrap();
    near.shutdown().await.unwrap();
    let mut read = String::new();
    far.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "there");
    far.write_all(b"back").await.unwrap();
    drop(far);
    read.clear();
    near.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "back");
}

#[tokio::test]
async fn bytes_and_half_closes_pass_over_tcp() {
    exchange(&"127.0.0.1:0".parse().unwrap()).await;
}

#[tokio::test]
async fn bytes_and_half_closes_pass_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    exchange(&Endpoint::Unix(folder.path().join("socket"))).await;
    assert!(!folder.path().join("socket").exists(), "the file goes with the listener");
}

#[tokio::test]
async fn only_a_socket_that_nobody_serves_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let endpoint = Endpoint::Unix(path.clone());

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves the file behind");
    let listener = Listener::bind(&endpoint).await.unwrap();
    assert_eq!(Listener::bind(&endpoint).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(listener);

    std::fs::write(&path, "precious").unwrap();
    assert_eq!(Listener::bind(&endpoint).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_file_that_another_process_put_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = Listener::bind(&Endpoint::Unix(path.clone())).await.unwrap();
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    std::fs::write(&path, "theirs").unwrap();
    drop(listener);
    assert!(path.exists());
}
