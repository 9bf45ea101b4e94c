use bytes::BytesMut;
use postern_pgwire::error_response::ErrorResponse;
use postern_pgwire::sqlstate::SqlState;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{Login, LoginFailed};
use crate::connect::choice::SessionAttrs;

const STARTUP: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";
const ASK: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
const SASL: &[u8] = b"R\0\0\0\x0c\0\0\0\x0aPLUS";
const SASL_MORE: &[u8] = b"R\0\0\0\x08\0\0\0\x0b";
const SASL_END: &[u8] = b"R\0\0\0\x08\0\0\0\x0c";
const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const STANDBY: &[u8] = b"S\0\0\0\x16in_hot_standby\0on\0";
const KEY: &[u8] = b"K\0\0\0\x0c\0\0\0\x05abcd";
const READY: &[u8] = b"Z\0\0\0\x05I";
const PASSWORD: &[u8] = b"p\0\0\0\x0bsecret\0";
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that says all of this at once and reads whatever comes.
async fn server(words: &[&[u8]]) -> (DuplexStream, DuplexStream) {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    far.write_all(&words.concat()).await.unwrap();
    (near, far)
}

async fn heard(mut far: DuplexStream, near: DuplexStream) -> Vec<u8> {
    drop(near);
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).await.unwrap();
    heard
}

#[tokio::test]
async fn the_driver_is_asked_once_and_hears_of_one_server_only() {
    let (mut driver, mut application) = tokio::io::duplex(1 << 16);
    application.write_all(&[PASSWORD, b"ahead"].concat()).await.unwrap();
    let mut ahead = BytesMut::new();
    let mut login = Login::new(&mut driver, &mut ahead);

    let (mut first, far) = server(&[ASK, OK, b"S\0\0\0\x08a\0b\0", READY]).await;
    let greeting = login.with(&mut first, STARTUP, PATIENCE).await.unwrap();
    assert!(greeting.key.is_none() && !SessionAttrs::Standby.accept(greeting.said));
    assert_eq!(heard(far, first).await, [STARTUP, PASSWORD].concat());
    assert!(format!("{login:?}").contains("[redacted]") && !format!("{:?}", login.answer).contains("115"));

    let (mut second, far) = server(&[ASK, OK, STANDBY, KEY, READY, b"N\0\0\0\x04"]).await;
    let greeting = login.with(&mut second, STARTUP, PATIENCE).await.unwrap();
    assert!(SessionAttrs::Standby.accept(greeting.said));
    assert_eq!(greeting.key.as_ref().map(|key| (key.process_id(), key.secret())), Some((5, &b"abcd"[..])));
    login.conclude(&mut second, &greeting).await.unwrap();
    assert_eq!(heard(far, second).await, [STARTUP, PASSWORD, b"ahead"].concat());
    let said = heard(application, driver).await;
    assert_eq!(said, [ASK, OK, STANDBY, KEY, READY, b"N\0\0\0\x04"].concat());
}

#[tokio::test]
async fn an_exchange_of_several_steps_is_carried_to_one_server_and_no_further() {
    let (mut driver, mut application) = tokio::io::duplex(1 << 16);
    application.write_all(&[PASSWORD, PASSWORD].concat()).await.unwrap();
    let mut ahead = BytesMut::new();
    let mut login = Login::new(&mut driver, &mut ahead);
    let (mut first, far) = server(&[SASL, SASL_MORE, SASL_END, OK, READY]).await;
    login.with(&mut first, STARTUP, PATIENCE).await.unwrap();
    assert_eq!(heard(far, first).await, [STARTUP, PASSWORD, PASSWORD].concat());
    for asks in [SASL, ASK] {
        let (mut second, _far) = server(&[asks]).await;
        let failed = login.with(&mut second, STARTUP, PATIENCE).await.unwrap_err();
        assert!(matches!(failed, LoginFailed::Unrepeatable(_)), "{failed}");
    }
    assert_eq!(heard(application, driver).await, [SASL, SASL_MORE].concat());
}

#[tokio::test(start_paused = true)]
async fn each_way_to_fail_is_told_apart() {
    let (mut driver, application) = tokio::io::duplex(1 << 16);
    drop(application);
    let mut ahead = BytesMut::new();
    let mut login = Login::new(&mut driver, &mut ahead);
    let no = ErrorResponse::fatal(SqlState::CANNOT_CONNECT_NOW, "starting").encode();
    let loud = STANDBY.repeat(60_000);
    for (words, failure) in [
        (vec![&no[..]], "starting (57P03)"),
        (vec![&b"x\0\0\0\x01"[..]], "it was gone before it answered"),
        (vec![OK, &b"x\0\0\0\x01"[..]], "impossible"),
        (vec![OK], "it stopped in the middle"),
        (vec![ASK], "driver"),
        (vec![&loud[..]], "more than 1 MiB"),
    ] {
        let (near, mut far) = tokio::io::duplex(2 << 20);
        far.write_all(&words.concat()).await.unwrap();
        let mut near = near;
        let failed = login.with(&mut near, STARTUP, PATIENCE).await.unwrap_err();
        assert!(failed.to_string().contains(failure), "{failed} for {failure}");
    }
    let (mut near, far) = tokio::io::duplex(100);
    drop(far);
    let failed = login.with(&mut near, STARTUP, PATIENCE).await.unwrap_err();
    assert!(matches!(failed, LoginFailed::Gone(_)), "{failed}");
}
