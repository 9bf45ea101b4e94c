//! Connect mode with several servers, servers that come and go, and connections that are ready before their driver.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use postern_attest::Collateral;
use postern_attest_io::{Acceptor, ClientRule};
use postern_identity::AppId;
use postern_plumbing::tasks::{Task, Tasks};
use postern_sidecar::packets;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::connect::{Beside, target};
use crate::driver::{Driver, startup, words};
use crate::postgres::Manner;
use crate::world::{READ_SECRET, SERVER_APP, Sidecar, World, attestor, identity};

/// Two databases of one app.
struct Two {
    worlds: [World; 2],
    sidecars: [Sidecar; 2],
}

impl Two {
    /// A primary and a standby.
    async fn new() -> Self {
        let ((primary, first), (standby, second)) = (World::serving("").await, World::serving("").await);
        primary.postgres.stand_by(false);
        standby.postgres.stand_by(true);
        Self { worlds: [primary, standby], sidecars: [first, second] }
    }

    /// Both, in this order, with further keys of `[connect]`.
    async fn beside(&self, more: &str) -> Beside {
        let sections = self.sections();
        Beside::with(&self.worlds[0], more, &sections).await
    }

    fn sections(&self) -> String {
        self.sidecars.each_ref().map(|sidecar| target("connect.targets", sidecar.address, SERVER_APP)).concat()
    }

    /// How many logins each has seen.
    fn logins(&self) -> [usize; 2] {
        self.worlds.each_ref().map(|world| world.postgres.startups().len())
    }
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_session_goes_to_a_server_of_the_wanted_kind_and_the_next_one_straight_there() {
    let two = Two::new().await;
    for (wanted, [first, second]) in [
        ("any", [[1, 0], [2, 0]]),
        ("read-write", [[1, 0], [2, 0]]),
        ("primary", [[1, 0], [2, 0]]),
        ("standby", [[1, 1], [1, 2]]),
        ("read-only", [[1, 1], [1, 2]]),
        ("prefer-standby", [[1, 1], [1, 2]]),
    ] {
        let beside = two.beside(&format!("target_session_attrs = \"{wanted}\"")).await;
        let before = two.logins();
        for expected in [first, second] {
            let mut driver = Driver::reader(beside.connect().await).await.unwrap();
            assert_eq!(driver.query("select 1").await.unwrap(), b"select 1");
            let since: Vec<_> = two.logins().iter().zip(before).map(|(now, before)| now - before).collect();
            assert_eq!(since, expected, "{wanted}");
        }
    }
}

#[tokio::test]
async fn kinds_may_change_and_none_may_fit() {
    let two = Two::new().await;
    let beside = two.beside("target_session_attrs = \"standby\"\npatience = \"0s\"").await;
    Driver::reader(beside.connect().await).await.unwrap();
    two.worlds[0].postgres.stand_by(true);
    two.worlds[1].postgres.stand_by(false);
    Driver::reader(beside.connect().await).await.unwrap();
    two.worlds[0].postgres.stand_by(false);
    let error = Driver::reader(beside.connect().await).await.unwrap_err();
    assert_eq!(words(&error), ("57P03", "none of the 2 servers is there and a standby"));
    let prefer = two.beside("target_session_attrs = \"prefer-standby\"").await;
    Driver::reader(prefer.connect().await).await.unwrap();
}

#[tokio::test]
async fn the_next_server_is_tried_for_what_another_may_do_better() {
    let two = Two::new().await;
    let [first, second] = two.sidecars.each_ref().map(|sidecar| sidecar.address);
    let good = target("connect.targets", second, SERVER_APP);
    for bad in [target("connect.targets", nobody().await, SERVER_APP), target("connect.targets", first, AppId([1; 20]))]
    {
        let beside = Beside::with(&two.worlds[0], "", &(bad + &good)).await;
        let mut driver = Driver::reader(beside.connect().await).await.unwrap();
        assert_eq!(driver.query("select 1").await.unwrap(), b"select 1");
    }
    two.worlds[0].postgres.set(Manner::Starting);
    Driver::reader(two.beside("").await.connect().await).await.unwrap();
    two.worlds[1].postgres.set(Manner::Starting);
    let error = Driver::reader(two.beside("patience = \"0s\"").await.connect().await).await.unwrap_err();
    assert_eq!(words(&error), ("57P03", "none of the 2 servers will do"));
}

#[tokio::test]
async fn a_wrong_secret_is_not_tried_elsewhere() {
    let two = Two::new().await;
    let beside = two.beside("").await;
    let opening = startup(&[("user", "teesql_read")]);
    let error = Driver::log_in(beside.connect().await, &opening, "wrong").await.unwrap_err();
    assert_eq!(error.sqlstate, "28P01");
    assert_eq!(two.logins(), [0, 0]);
    Driver::log_in(beside.connect().await, &opening, READ_SECRET).await.unwrap();
    assert_eq!(two.logins(), [1, 0]);
}

#[tokio::test]
async fn a_cancel_key_finds_its_server() {
    let two = Two::new().await;
    let more = "target_session_attrs = \"primary\"";
    let listener = "[[connect.listeners]]\nlisten = \"127.0.0.1:0\"\ntarget_session_attrs = \"standby\"\n";
    let beside = Beside::with(&two.worlds[0], more, &(two.sections() + listener)).await;
    let mut drivers = Vec::new();
    for port in [0, 1] {
        let mut driver = Driver::reader(beside.connect_to(port).await).await.unwrap();
        driver.ask("sleep").await;
        while two.worlds[port].postgres.sleepers().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drivers.push(driver);
    }
    for (port, driver) in drivers.iter_mut().enumerate().rev() {
        let key = driver.key.clone().unwrap();
        let mut other = beside.connect_to(1 - port).await;
        packets::write(&mut other, &key.request()).await.unwrap();
        other.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(two.worlds[port].postgres.sleepers().len(), 1, "the other port does not know the key");
        let mut cancel = beside.connect_to(port).await;
        packets::write(&mut cancel, &key.request()).await.unwrap();
        cancel.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(driver.answer().await.unwrap_err().sqlstate, "57014");
    }
}

/// A gateway that takes those who ask for the app to the first instance once, and to the second ever after; and those who
/// ask for an instance to the first, which is the one that has this id.
async fn gateway(instances: [SocketAddr; 2]) -> (SocketAddr, Task<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, ways) = (listener.local_addr().unwrap(), Tasks::new());
    let routing = async move {
        let mut to_app = 0;
        while let Ok((mut near, _)) = listener.accept().await {
            let mut hello = vec![0; 4_096];
            let length = near.read(&mut hello).await.unwrap();
            hello.truncate(length);
            let names_instance = hello.windows(7).any(|part| part == b"-5433s.");
            let way = if names_instance || to_app == 0 { instances[0] } else { instances[1] };
            to_app += usize::from(!names_instance);
            ways.spawn("way", async move {
                let mut far = TcpStream::connect(way).await.unwrap();
                far.write_all(&hello).await.unwrap();
                drop(copy_bidirectional(&mut near, &mut far).await);
            });
        }
    };
    (address, Task::spawn("played gateway", routing))
}

#[tokio::test]
async fn a_cancel_request_asks_the_gateway_for_the_instance_that_has_the_session() {
    let two = Two::new().await;
    let (address, _gateway) = gateway(two.sidecars.each_ref().map(|sidecar| sidecar.address)).await;
    let host = format!("host = \"{SERVER_APP}s.postern.test\"");
    let section = target("connect.target", address, SERVER_APP).replace("host = \"db.example\"", &host);
    let beside = Beside::with(&two.worlds[0], "", &section).await;
    let mut driver = Driver::reader(beside.connect().await).await.unwrap();
    driver.ask("sleep").await;
    while two.worlds[0].postgres.sleepers().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut cancel = beside.connect().await;
    packets::write(&mut cancel, &driver.key.clone().unwrap().request()).await.unwrap();
    cancel.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(driver.answer().await.unwrap_err().sqlstate, "57014");
}

#[tokio::test]
async fn a_driver_waits_for_a_server_that_comes_back_and_is_told_when_it_does_not() {
    let (world, sidecar) = World::serving("").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let section = target("connect.target", address, SERVER_APP);
    let patient = Beside::with(&world, "patience = \"20s\"\ndeadline = \"20s\"", &section).await;
    let hasty = Beside::with(&world, "patience = \"0s\"", &section).await;
    let waiting = async { Driver::reader(patient.connect().await).await };
    let server = async {
        drop(listener.accept().await.unwrap());
        drop(listener);
        let error = Driver::reader(hasty.connect().await).await.unwrap_err();
        assert!(words(&error).0 == "57P03" && words(&error).1.contains("cannot be reached"), "{error:?}");
        let listener = TcpListener::bind(address).await.unwrap();
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(sidecar.address).await.unwrap();
        Task::spawn("way", async move { drop(copy_bidirectional(&mut near, &mut far).await) })
    };
    let (session, _way) = tokio::join!(waiting, server);
    assert_eq!(session.unwrap().query("select 1").await.unwrap(), b"select 1");
}

#[tokio::test]
async fn connections_that_are_ready_serve_drivers_and_are_made_anew_when_the_rules_change() {
    let (world, sidecar) = World::serving("").await;
    let section = target("connect.target", sidecar.address, SERVER_APP);
    let beside = Beside::with(&world, "patience = \"0s\"\n[connect.pool]\nsize = 2\n", &section).await;
    let ready = async |count| {
        while sidecar.ground.sessions.count() != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    ready(2).await;
    let mut driver = Driver::reader(beside.connect().await).await.unwrap();
    ready(3).await;
    assert_eq!(driver.query("select 1").await.unwrap(), b"select 1");
    // Nothing that was judged by other rules is handed out: without collateral, nobody is believed.
    beside.attestor.replace_collateral(Collateral::default());
    let error = Driver::reader(beside.connect().await).await.unwrap_err();
    assert!(words(&error).0 == "28000" && words(&error).1.contains("collateral"), "{error:?}");
    ready(0).await;
}

/// A server that gives up so many connections as soon as it is spoken to, with these words, and serves all others. It says how
/// many there were.
async fn forgetful(world: &World, words: &'static [u8], times: usize) -> (SocketAddr, Arc<AtomicUsize>, Task<()>) {
    let acceptor =
        Acceptor::new(identity(&world.server_agent).await, attestor(), &["postgresql"], ClientRule::Required);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, spoken_to) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (counted, sessions) = (Arc::clone(&spoken_to), Tasks::new());
    let serving = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
            sessions.spawn("played session", async move {
                let Ok(accepted) = acceptor.accept(stream, Duration::from_secs(20)).await else { return };
                let mut stream = accepted.stream;
                while let Ok(1..) = stream.read(&mut [0; 1_000]).await {
                    let said = if counted.fetch_add(1, Ordering::SeqCst) < times { words } else { GREETING };
                    packets::write(&mut stream, said).await.unwrap();
                    if said != GREETING {
                        return packets::close(&mut stream).await;
                    }
                }
            });
        }
    };
    (address, spoken_to, Task::spawn("played server", serving))
}

/// AuthenticationOk, in_hot_standby and ReadyForQuery.
const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x17in_hot_standby\0off\0Z\0\0\0\x05I";

#[tokio::test]
async fn a_ready_connection_that_was_given_up_costs_no_driver_its_session() {
    let world = World::new().await;
    for more in ["", "target_session_attrs = \"primary\"\n"] {
        for words in [&b""[..], b"E\0\0\0\x13SFATAL\0C57014\0\0"] {
            let (address, spoken_to, _server) = forgetful(&world, words, 1).await;
            let section = target("connect.target", address, SERVER_APP);
            let beside = Beside::with(&world, &format!("{more}[connect.pool]\nsize = 1\n"), &section).await;
            while beside.targets[0].ready() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Driver::reader(beside.connect().await).await.unwrap();
            assert_eq!(spoken_to.load(Ordering::SeqCst), 2, "the ready one was tried, and then another");
        }
    }
}

#[tokio::test]
async fn a_server_that_serves_nobody_now_is_asked_again_and_any_other_refusal_is_passed_on() {
    let world = World::new().await;
    for more in ["", "target_session_attrs = \"primary\"\n"] {
        for (words, sqlstate, asked) in [
            (&b"E\0\0\0\x13SFATAL\0C57P01\0\0"[..], "57P01", 2),
            (b"E\0\0\0\x13SFATAL\0C57P03\0\0", "57P03", 2),
            (b"E\0\0\0\x13SFATAL\0C53300\0\0", "53300", 1),
        ] {
            for (patience, asked) in [("20s", asked), ("0s", 1)] {
                let (address, spoken_to, _server) = forgetful(&world, words, 1).await;
                let section = target("connect.target", address, SERVER_APP);
                let beside = Beside::with(&world, &format!("{more}patience = \"{patience}\"\n"), &section).await;
                let session = Driver::reader(beside.connect().await).await;
                let refused = session.err().map(|error| error.sqlstate);
                assert_eq!(refused.as_deref(), (asked == 1).then_some(sqlstate), "in its own words");
                assert_eq!(spoken_to.load(Ordering::SeqCst), asked, "{sqlstate}, {patience}");
            }
        }
    }
}

#[tokio::test]
async fn many_drivers_that_wait_for_a_server_about_to_end_ask_it_a_few_times_each() {
    const DRIVERS: usize = 16;
    let world = World::new().await;
    for more in ["", "target_session_attrs = \"primary\"\n"] {
        let (address, spoken_to, _server) = forgetful(&world, b"E\0\0\0\x13SFATAL\0C57P01\0\0", usize::MAX).await;
        let section = target("connect.target", address, SERVER_APP);
        let beside = Beside::with(&world, &format!("{more}patience = \"1s\"\n"), &section).await;
        let drivers =
            (0..DRIVERS).map(|_| async { Driver::reader(beside.connect().await).await.unwrap_err().sqlstate });
        let told = join_all(drivers).await;
        assert!(told.iter().all(|sqlstate| sqlstate == "57P01"), "{told:?}");
        // At once, and where the machine is quick again after pauses of at least 50, 100, 200 and 400 ms.
        let asked = spoken_to.load(Ordering::SeqCst);
        assert!((DRIVERS..=5 * DRIVERS).contains(&asked), "asked {asked} times, {more:?}");
    }
}
