//! The clients that checks use: stock psql, stock psycopg, and bare bytes.

pub(crate) mod hello;
pub(crate) mod psql;
pub(crate) mod python;
pub(crate) mod raw;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// How a libpq client logs in.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    /// The name in SNI; the address is dialled whatever the name says.
    pub(crate) host: String,
    pub(crate) address: SocketAddr,
    pub(crate) user: &'static str,
    pub(crate) password: String,
    /// TLS from the first byte, without SSLRequest (libpq 17 and newer).
    pub(crate) direct: bool,
    pub(crate) tls: Tls,
    /// Another address for libpq to try first; then it insists on a session that may write.
    pub(crate) before: Option<SocketAddr>,
}

/// What a libpq client does about TLS.
#[derive(Debug, Clone)]
pub(crate) enum Tls {
    /// Plain Postgres, as on the local port of connect mode.
    Off,
    /// `sslmode=require` without a client certificate.
    Anonymous,
    /// `sslmode=require` with a client certificate.
    Certificate(KeyPair),
}

/// A certificate and its key, in files.
#[derive(Debug, Clone)]
pub(crate) struct KeyPair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Login {
    /// The connection string. The password stays out of it: it travels by the environment, not on the command line.
    pub(crate) fn conninfo(&self) -> String {
        let addresses: Vec<_> = self.before.into_iter().chain([self.address]).collect();
        let list = |word: &dyn Fn(&SocketAddr) -> String| addresses.iter().map(word).collect::<Vec<_>>().join(",");
        let mut words = vec![
            format!("host={}", list(&|_| self.host.clone())),
            format!("hostaddr={}", list(&|address| address.ip().to_string())),
            format!("port={}", list(&|address| address.port().to_string())),
            format!("user={}", self.user),
            "dbname=postgres".to_owned(),
            "connect_timeout=10".to_owned(),
            "gssencmode=disable".to_owned(),
        ];
        match &self.tls {
            Tls::Off => words.push("sslmode=disable".to_owned()),
            Tls::Anonymous => words.push("sslmode=require".to_owned()),
            Tls::Certificate(pair) => {
                let path = |path: &Path| path.display().to_string();
                words.push(format!("sslmode=require sslcert={} sslkey={}", path(&pair.certificate), path(&pair.key)));
            }
        }
        if self.before.is_some() {
            words.push("target_session_attrs=read-write".to_owned());
        }
        if self.direct {
            words.push("sslnegotiation=direct".to_owned());
        }
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_in_the_connection_string() {
        let pair = KeyPair { certificate: "/c.pem".into(), key: "/k.pem".into() };
        let login = Login {
            host: "a.postern.test".into(),
            address: SocketAddr::from(([127, 0, 0, 1], 5432)),
            user: "teesql_read",
            password: "hidden".into(),
            direct: true,
            tls: Tls::Certificate(pair),
            before: None,
        };
        assert_eq!(
            login.conninfo(),
            "host=a.postern.test hostaddr=127.0.0.1 port=5432 user=teesql_read dbname=postgres connect_timeout=10 \
             gssencmode=disable sslmode=require sslcert=/c.pem sslkey=/k.pem sslnegotiation=direct"
        );
    }
}
