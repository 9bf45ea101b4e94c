//! Starts another edge and finds out whether it is there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_world::{Fleet, Process, Recipe, State};

use super::edge::{self, Edge, Front, Route};
use crate::Failure;
use crate::client::Door;

/// How long a peer gets to listen.
const READY: Duration = Duration::from_secs(20);

/// Connections beside the sessions that are kept, for those that prepare and read back.
const ROOM: usize = 1_000;

/// Where Debian has them.
const HAPROXY: &str = "/usr/sbin/haproxy";
const NGINX: &str = "/usr/sbin/nginx";
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Where the peers' programs are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Programs {
    /// HAProxy (Debian's package haproxy)
    #[arg(long, value_name = "FILE", default_value = HAPROXY)]
    haproxy: PathBuf,
    /// nginx (Debian's packages nginx and libnginx-mod-stream)
    #[arg(long, value_name = "FILE", default_value = NGINX)]
    nginx: PathBuf,
    /// nginx's module for streams
    #[arg(long, value_name = "FILE", default_value = STREAM)]
    nginx_stream: PathBuf,
    /// A folder of libraries that they may need
    #[arg(long, value_name = "DIR")]
    libraries: Option<PathBuf>,
}

impl Default for Programs {
    fn default() -> Self {
        Self { haproxy: HAPROXY.into(), nginx: NGINX.into(), nginx_stream: STREAM.into(), libraries: None }
    }
}

impl Programs {
    /// Why an edge cannot be had; `None` when it can.
    pub(crate) fn missing(&self, edge: Edge) -> Option<String> {
        let needed: &[(PathBuf, &str)] = &match edge {
            Edge::Gateway | Edge::Direct => return None,
            Edge::Haproxy => vec![(self.haproxy.clone(), "haproxy")],
            Edge::Nginx => {
                vec![(self.nginx.clone(), "nginx"), (self.nginx_stream.clone(), "libnginx-mod-stream")]
            }
        };
        let missing = needed.iter().find(|(file, _)| !file.is_file());
        missing.map(|(file, package)| format!("{} is missing: it is in Debian's package {package}", file.display()))
    }

    /// Has clients connect to an edge in place of the gateway: starts it where it is a program, which ends with the value that
    /// is returned.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn stand_in(
        &self,
        front: Front,
        fleet: &mut Fleet,
        doors: &mut [Door],
        sessions: usize,
    ) -> Result<Option<Process>, Failure> {
        let routes = routes(front, fleet)?;
        match front.edge {
            Edge::Gateway => Ok(None),
            Edge::Direct => {
                doors.iter_mut().zip(&routes).for_each(|(door, route)| door.address = route.sidecar);
                Ok(None)
            }
            Edge::Haproxy | Edge::Nginx => {
                let listen = fleet.free_address()?;
                let process = self.start(front, fleet.state(), listen, &routes, sessions + ROOM).await?;
                doors.iter_mut().for_each(|door| door.address = listen);
                Ok(Some(process))
            }
        }
    }

    /// Starts HAProxy or nginx with these routes, and waits until it listens.
    async fn start(
        &self,
        front: Front,
        state: &State,
        listen: SocketAddr,
        routes: &[Route],
        connections: usize,
    ) -> Result<Process, Failure> {
        let (edge, tunnels) = (front.edge, front.borrows_tunnels());
        let folder = state.folder(Path::new("peers").join(edge.name()))?;
        let mut recipe = match edge {
            Edge::Haproxy => {
                let map = state.write(folder.join("names.map"), edge::haproxy_map(routes))?;
                let config = edge::haproxy(listen, routes, connections, &map, tunnels);
                let config = state.write(folder.join("haproxy.cfg"), config)?;
                Recipe::new("haproxy", &self.haproxy)
                    .arguments(["-db", "-f"].map(str::to_owned))
                    .arguments([text(&config)])
            }
            Edge::Nginx => {
                let config = edge::nginx(listen, routes, connections, (&folder, &self.nginx_stream), tunnels);
                let config = state.write(folder.join("nginx.conf"), config)?;
                let arguments = ["-p".to_owned(), text(&folder), "-c".to_owned(), text(&config)];
                Recipe::new("nginx", &self.nginx).arguments(arguments)
            }
            Edge::Gateway | Edge::Direct => {
                return Err(Failure::Usage(format!("{} is not started as a peer", edge.name())));
            }
        };
        if let Some(libraries) = &self.libraries {
            recipe.environment.push(("LD_LIBRARY_PATH".to_owned(), text(libraries)));
        }
        let mut process = recipe.start(state)?;
        let listens = async || match tokio::net::TcpStream::connect(listen).await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{listen}: {error}")),
        };
        process.ready(READY, listens).await?;
        Ok(process)
    }
}

/// Where an edge finds each sidecar: inside the tunnels, or on a port of its own.
fn routes(front: Front, fleet: &Fleet) -> Result<Vec<Route>, Failure> {
    let mut routes = Vec::new();
    for member in fleet.members() {
        let inside = if front.borrows_tunnels() { Some(member.inner(fleet.state())?) } else { member.direct() };
        routes.extend(inside.map(|sidecar| Route { host: member.host().to_owned(), sidecar }));
    }
    Ok(routes)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package() {
        let programs = Programs {
            haproxy: "/nowhere/haproxy".into(),
            nginx: "/bin/sh".into(),
            nginx_stream: "/nowhere/ngx_stream_module.so".into(),
            libraries: None,
        };
        let missing = |edge| programs.missing(edge).unwrap_or_default();
        assert_eq!(missing(Edge::Haproxy), "/nowhere/haproxy is missing: it is in Debian's package haproxy");
        assert!(missing(Edge::Nginx).contains("ngx_stream_module.so is missing"), "{}", missing(Edge::Nginx));
        assert_eq!([Edge::Gateway, Edge::Direct].map(|edge| programs.missing(edge)), [None, None]);
    }

    /// A ClientHello (RFC 8446, 4.1.2) that asks for a host, as far as somebody reads it who does not answer it.
    fn hello(host: &str) -> Vec<u8> {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
        let name = [[0].as_slice(), &length(host.as_bytes()), host.as_bytes()].concat();
        let names = [length(&name).as_slice(), &name].concat();
        let extension = [[0, 0].as_slice(), &length(&names), &names].concat();
        let suites = [0, 2, 0x13, 0x01];
        let body = [[3, 3].as_slice(), &[7; 32], &[0], &suites, &[1, 0], &length(&extension), &extension].concat();
        let handshake = [[1, 0].as_slice(), &length(&body), &body].concat();
        [[0x16, 3, 1].as_slice(), &length(&handshake), &handshake].concat()
    }

    /// A server that takes connections one after the other, and answers what it reads with its number.
    async fn server(number: u8) -> (SocketAddr, postern_plumbing::tasks::Task<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let read = stream.read(&mut [0; 1024]).await.unwrap_or_default();
                if read > 0 {
                    stream.write_all(&[number]).await.unwrap();
                }
            }
        };
        (address, postern_plumbing::tasks::Task::spawn("server", serving))
    }

    #[tokio::test]
    async fn each_name_leads_through_each_peer_to_its_own_server() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(Some(folder.path())).unwrap();
        let (one, _one) = server(1).await;
        let (two, _two) = server(2).await;
        let routes = [("one.postern.test", one), ("two.postern.test", two)];
        let routes = routes.map(|(host, sidecar)| Route { host: host.to_owned(), sidecar });
        for edge in [Edge::Haproxy, Edge::Nginx] {
            let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
            let front = Front { edge, ..Front::default() };
            let mut process = Programs::default().start(front, &state, listen, &routes, 100).await.unwrap();
            for (host, answer) in [("one.postern.test", 1), ("TWO.postern.test", 2)] {
                let mut stream = TcpStream::connect(listen).await.unwrap();
                stream.write_all(&hello(host)).await.unwrap();
                assert_eq!(stream.read_u8().await.unwrap(), answer, "{host} through {}", edge.name());
            }
            let mut stream = TcpStream::connect(listen).await.unwrap();
            stream.write_all(&hello("nobody.postern.test")).await.unwrap();
            assert!(stream.read_u8().await.is_err(), "{} leads nobody anywhere", edge.name());
            process.stop().await;
        }
    }
}
