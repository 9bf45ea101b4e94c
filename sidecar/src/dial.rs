//! TCP connections to a named place.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use postern_plumbing::accept::tune;
use tokio::net::{TcpStream, lookup_host};

/// A host and port, and where they are to be found if not where DNS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A DNS name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The address to connect to instead of what DNS says about the host.
    pub address: Option<SocketAddr>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Place {
    /// Connects to the first of the place's addresses that answers.
    ///
    /// # Errors
    /// What the last attempt failed with.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.addresses().await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    tune(&stream);
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match self.address {
            Some(address) => Ok(vec![address]),
            None => Ok(lookup_host((self.host.as_str(), self.port)).await?.collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::Place;

    #[tokio::test]
    async fn an_address_stands_in_for_the_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Some(listener.local_addr().unwrap());
        let place = Place { host: "name.invalid".to_owned(), port: 1, address };
        assert_eq!(place.connect().await.unwrap().peer_addr().ok(), address);
        assert_eq!(place.to_string(), "name.invalid:1");
    }

    #[tokio::test]
    async fn a_place_where_nobody_listens_is_an_error() {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let place = Place { host: "127.0.0.1".to_owned(), port: address.port(), address: None };
        assert!(place.connect().await.is_err());
    }
}
