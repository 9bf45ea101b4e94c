//! The clients: tokio-postgres over mutual RA-TLS, as an application's own driver would be.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use postern_attest::PeerPolicy;
use postern_attest_io::{ConnectRefused, Connector};
use postern_plumbing::Io;
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Task;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

use crate::work::reason;

/// Between two attempts to open a session that has to be opened.
const PAUSE: Duration = Duration::from_millis(500);

/// The way to one tenant's database.
#[derive(Debug)]
pub(crate) struct Door {
    /// The tenant's name.
    pub(crate) tenant: String,
    /// Where to connect.
    pub(crate) address: SocketAddr,
    /// From which address; each tenant's clients have one of their own where the machine is ours.
    pub(crate) source: Option<IpAddr>,
    /// Who is asked for, and who it has to be; `None` for a server that speaks Postgres without TLS.
    pub(crate) attested: Option<Attested>,
    /// The role, its secret and the database.
    pub(crate) login: Login,
}

/// Who is asked for, and who it has to be.
#[derive(Debug)]
pub(crate) struct Attested {
    pub(crate) connector: Connector,
    pub(crate) host: String,
    pub(crate) expected: PeerPolicy,
}

/// A role, its secret and a database.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) secret: String,
    pub(crate) database: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).field("database", &self.database).finish_non_exhaustive()
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSession {
    #[error("no connection: {0}")]
    Connect(#[from] std::io::Error),
    #[error(transparent)]
    Tls(#[from] ConnectRefused),
    #[error("no login: {}", describe(.0))]
    Login(#[from] tokio_postgres::Error),
    #[error("no session within {0:?}")]
    Deadline(Duration),
}

/// The error in full: tokio-postgres' own words are short.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl NoSession {
    /// A short stable name.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Connect(_) => "connect".to_owned(),
            Self::Tls(refused) => refused.label().to_owned(),
            Self::Login(error) => format!("login_{}", reason(error)),
            Self::Deadline(_) => "connect_deadline".to_owned(),
        }
    }
}

impl Door {
    /// Opens a session: the connection, RA-TLS with both sides verified, and the login.
    pub(crate) async fn open(&self, deadline: Duration) -> Result<Session, NoSession> {
        let opening = Box::pin(self.open_in_time(deadline));
        tokio::time::timeout(deadline, opening).await.unwrap_or(Err(NoSession::Deadline(deadline)))
    }

    /// As [`Door::open`]; tries again for as long as `patience` when it is refused.
    pub(crate) async fn open_patiently(&self, deadline: Duration, patience: Duration) -> Result<Session, NoSession> {
        let end = Instant::now() + patience;
        loop {
            match self.open(deadline).await {
                Err(_) if Instant::now() + PAUSE < end => tokio::time::sleep(PAUSE).await,
                opened => return opened,
            }
        }
    }

    async fn open_in_time(&self, deadline: Duration) -> Result<Session, NoSession> {
        let stream = self.connect().await?;
        match &self.attested {
            Some(Attested { connector, host, expected }) => {
                let session = connector.connect(stream, host, expected, deadline).await?;
                Ok(self.log_in(session.stream).await?)
            }
            None => Ok(self.log_in(stream).await?),
        }
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn log_in(&self, stream: impl Io) -> Result<Session, tokio_postgres::Error> {
        let mut config = Config::new();
        config.user(&self.login.user).password(&self.login.secret).dbname(&self.login.database);
        // What encrypts is below already.
        config.ssl_mode(SslMode::Disable).application_name("loadtest");
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        let ended = Shutdown::new();
        let end = ended.clone();
        let connection = Task::spawn("session", async move {
            // Why it ended is told to whoever uses the client.
            drop(connection.await);
            end.trigger();
        });
        Ok(Session { client, ended, connection })
    }
}

/// An open session. Dropping it closes the connection without a word.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    ended: Shutdown,
    connection: Task<()>,
}

impl Session {
    /// Who sends statements.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until the session is over, whoever ended it.
    pub(crate) async fn ended(&self) {
        self.ended.triggered().await;
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.is_triggered() || self.client.is_closed()
    }

    /// Says goodbye, and waits until it is said.
    pub(crate) async fn close(self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        drop(self.client);
        drop(tokio::time::timeout(PATIENCE, self.connection.join()).await);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::echo::Echo;

    const STARTING: &[u8] = b"E\0\0\0\x23SFATAL\0C57P03\0Mit is starting\0\0";

    fn door(address: SocketAddr) -> Door {
        let login = Login { user: "u".into(), secret: "s".into(), database: "d".into() };
        Door { tenant: "t".into(), address, source: None, attested: None, login }
    }

    async fn refuse(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_buf(&mut Vec::with_capacity(1_000)).await.unwrap();
        stream.write_all(STARTING).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn a_login_that_is_refused_is_told_in_the_server_s_words() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let door = door(listener.local_addr().unwrap());
        let (refused, _stream) = tokio::join!(door.open(Duration::from_secs(20)), refuse(&listener));
        let said = refused.err().unwrap().to_string();
        assert!(said.starts_with("no login: ") && said.contains("it is starting"), "{said}");
    }

    #[tokio::test]
    async fn a_session_that_has_to_be_opened_is_asked_for_again() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let door = door(listener.local_addr().unwrap());
        let server = async {
            let _refused = refuse(&listener).await;
            let _again = refuse(&listener).await;
            let echo = Echo::start().await.unwrap();
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(echo.address()).await.unwrap();
            drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
        };
        let asking = async {
            let (deadline, patience) = (Duration::from_secs(20), Duration::from_secs(60));
            let session = door.open_patiently(deadline, patience).await.unwrap();
            session.close().await;
        };
        tokio::join!(asking, server);
    }

    #[tokio::test]
    async fn whoever_is_refused_for_long_is_told_why() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let door = door(listener.local_addr().unwrap());
        let asking = door.open_patiently(Duration::from_secs(20), PAUSE / 2);
        let (refused, _stream) = tokio::join!(asking, refuse(&listener));
        assert!(refused.err().unwrap().to_string().contains("it is starting"));
    }
}
