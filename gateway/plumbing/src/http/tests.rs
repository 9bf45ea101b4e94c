use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::{Instant, sleep};

use super::*;
use crate::tasks::Task;

const SECOND: Duration = Duration::from_secs(1);

/// What a misbehaving server does after it has read the head of a request.
#[derive(Clone)]
enum Act {
    Say(Vec<u8>),
    Trickle(&'static [u8]),
    Hang,
}

fn say(text: &str) -> Act {
    Act::Say(text.as_bytes().to_vec())
}

async fn read_head(stream: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn server(acts: Vec<Act>) -> (DuplexStream, Task<String>) {
    let (near, mut far) = duplex(4096);
    let task = Task::spawn("server", async move {
        let head = read_head(&mut far).await;
        for act in acts {
            match act {
                // The client may leave at any time.
                Act::Say(bytes) => drop(far.write_all(&bytes).await),
                Act::Trickle(bytes) => {
                    for byte in bytes {
                        sleep(SECOND).await;
                        drop(far.write_all(&[*byte]).await);
                    }
                }
                Act::Hang => std::future::pending().await,
            }
        }
        head
    });
    (near, task)
}

async fn asked(acts: Vec<Act>) -> Result<Response, HttpError> {
    let (io, _server) = server(acts);
    send(io, Request::get("agent", "/Info"), 100, 5 * SECOND).await
}

#[tokio::test]
async fn a_request_says_what_it_should_and_the_answer_comes_back() {
    let (io, server) = server(vec![say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")]);
    let mut request = Request::post("dstack", "/GetKey?json", r#"{"path":"a"}"#);
    request.headers = &[("X-Role", "reader")];
    let response = send(io, request, 100, SECOND).await.unwrap();
    assert_eq!(response, Response { status: 200, body: Bytes::from_static(b"body") });
    assert!(response.is_success());

    let head = server.join().await.unwrap().to_lowercase();
    assert!(head.starts_with("post /getkey?json http/1.1\r\n"), "{head}");
    for line in ["host: dstack", "content-type: application/json", "content-length: 12", "x-role: reader"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }
}

#[tokio::test]
async fn every_status_is_an_answer() {
    let answer = asked(vec![say("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")]).await.unwrap();
    assert_eq!((answer.status, answer.is_success()), (503, false));
    assert_eq!(asked(vec![say("HTTP/1.1 204 Fine\r\n\r\n")]).await.unwrap().body, "");
}

#[tokio::test]
async fn chunks_and_bodies_that_end_with_the_connection_are_read() {
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(asked(vec![say(chunks)]).await.unwrap().body, "abcde");
    assert_eq!(asked(vec![say("HTTP/1.1 200 OK\r\n\r\nto the end")]).await.unwrap().body, "to the end");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_or_slow_meets_the_deadline() {
    let cases = [
        vec![Act::Hang],
        vec![Act::Trickle(b"HTTP/1.1 200 OK\r\n\r\n")],
        vec![say("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n"), Act::Trickle(&[b'x'; 90])],
        vec![say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), Act::Hang],
        vec![say(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(9)), Act::Hang],
    ];
    for acts in cases {
        let started = Instant::now();
        let error = asked(acts).await.unwrap_err();
        assert!(matches!(error, HttpError::Deadline(deadline) if deadline == 5 * SECOND), "{error}");
        assert_eq!(started.elapsed().as_secs(), 5);
    }
}

#[tokio::test]
async fn an_answer_above_the_cap_is_refused() {
    let chunk = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n{}\r\n", "x".repeat(0x65));
    let cases = [
        // Announced, and not even sent.
        vec![say("HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n"), Act::Hang],
        vec![say("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n"), Act::Hang],
        vec![say(&chunk), Act::Hang],
        vec![say(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(101))), Act::Hang],
    ];
    for acts in cases {
        let error = asked(acts).await.unwrap_err();
        assert!(matches!(error, HttpError::TooLarge(100)), "{error}");
    }
    let exact = format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "x".repeat(100));
    assert_eq!(asked(vec![say(&exact)]).await.unwrap().body.len(), 100);
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let error = asked(vec![say(&head), Act::Hang]).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLarge(_)), "{error}");
}

#[tokio::test]
async fn garbage_is_called_so() {
    let garbage = [
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "\0\0\0\x08\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ];
    for garbage in garbage {
        let error = asked(vec![say(garbage), Act::Hang]).await.unwrap_err();
        assert!(matches!(error, HttpError::Garbage(_)), "{garbage:?}: {error}");
    }
}

#[tokio::test]
async fn an_early_close_is_told_from_an_answer() {
    let cases = [
        vec![],
        vec![say("HTTP/1.1 20")],
        vec![say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")],
        vec![say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf")],
    ];
    for acts in cases {
        let error = asked(acts).await.unwrap_err();
        assert!(matches!(error, HttpError::Closed), "{error:?}");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_written_is_refused_before_anything_is_sent() {
    let (io, mut far) = duplex(64);
    for path in ["/a b", "/\r\nX: y", ""] {
        let (io, _far) = duplex(64);
        let error = send(io, Request::get("agent", path), 100, SECOND).await.unwrap_err();
        assert!(matches!(error, HttpError::Request(_)), "{path:?}: {error}");
    }
    let error = send(io, Request::get("a\r\nb", "/"), 100, SECOND).await.unwrap_err();
    assert!(matches!(error, HttpError::Request(_)), "{error}");
    assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_kept_connection_serves_several_requests_and_says_when_the_far_end_closes() {
    let (near, mut far) = duplex(4096);
    let server = Task::spawn("server", async move {
        for _ in 0..2 {
            read_head(&mut far).await;
            far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        }
        far
    });
    let mut connection = Connection::open(near).await.unwrap();
    for _ in 0..2 {
        let answer = connection.send(Request::get("gateway", "/"), 10, SECOND).await.unwrap();
        assert_eq!(answer.body, "ok");
    }
    let far = server.join().await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(20), connection.closed()).await;
    assert!(early.is_err(), "the far end is still there");
    drop(far);
    tokio::time::timeout(5 * SECOND, connection.closed()).await.unwrap();
    let error = connection.send(Request::get("gateway", "/"), 10, SECOND).await.unwrap_err();
    assert!(matches!(error, HttpError::Closed), "{error}");
}

#[tokio::test]
async fn unasked_bytes_end_a_kept_connection() {
    let (near, mut far) = duplex(4096);
    let mut connection = Connection::open(near).await.unwrap();
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    tokio::time::timeout(5 * SECOND, connection.closed()).await.unwrap();
}

#[tokio::test]
async fn a_dropped_connection_closes_its_stream() {
    let (near, mut far) = duplex(64);
    drop(Connection::open(near).await.unwrap());
    assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
}
