//! Other edges in the gateway's place: what they are, how they are told where everybody lives, and what they cannot do.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// What stands between clients and databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Edge {
    /// Postern's gateway
    Gateway,
    /// HAProxy in TCP mode, by the name in the ClientHello
    Haproxy,
    /// nginx's stream module with ssl_preread
    Nginx,
    /// Nothing: clients connect to the sidecars themselves
    Direct,
}

/// Who can be reached behind an edge: the name, and where its sidecar listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) host: String,
    pub(crate) sidecar: SocketAddr,
}

impl Edge {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Gateway, Self::Haproxy, Self::Nginx, Self::Direct];

    /// Its name in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Direct => "direct",
        }
    }

    /// What it does not do that the gateway does.
    pub(crate) const fn lacks(self) -> &'static [&'static str] {
        match self {
            Self::Gateway => &[],
            Self::Haproxy | Self::Nginx => &[
                "Postgres' own preamble: drivers that ask for TLS with an SSLRequest get no answer, only those with \
                 sslnegotiation=direct connect",
                "cancel requests in clear, which carry no name: Ctrl-C in psql, timeouts of JDBC, pgx and node-postgres",
                "admission: whoever is in its list is let through, whatever the chain and the evidence say, and nothing is \
                 cut when the chain revokes",
                "registration: its list was written by the load test",
                "a tunnel: it connects to the sidecars in clear TCP, and is spared WireGuard's work on both ends",
            ],
            Self::Direct => &[
                "one address for all: clients have to know where each sidecar is, and to reach it",
                "admission, and cancel requests in clear by a name",
                "a tunnel",
            ],
        }
    }
}

/// HAProxy's configuration: it waits for the ClientHello, takes the name, looks it up in the file `map`, and passes the bytes
/// on without reading them. `splice-auto` leaves them to be copied; asked for both ways, it splices.
pub(crate) fn haproxy(listen: SocketAddr, routes: &[Route], connections: usize, map: &Path) -> String {
    let map = map.display();
    let mut text = format!(
        "global\n    maxconn {connections}\n    log stderr format raw local0 warning\n\n\
         defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n    \
         option splice-request\n    option splice-response\n\n\
         frontend edge\n    bind {listen}\n    tcp-request inspect-delay 5s\n    \
         tcp-request content accept if {{ req.ssl_hello_type 1 }}\n    tcp-request content reject\n    \
         use_backend %[req.ssl_sni,lower,map({map})]\n"
    );
    // Writing to a string does not fail.
    for (number, route) in routes.iter().enumerate() {
        write!(text, "\nbackend b{number}\n    server sidecar {}\n", route.sidecar).unwrap_or_default();
    }
    text
}

/// The file in which HAProxy looks names up.
pub(crate) fn haproxy_map(routes: &[Route]) -> String {
    routes.iter().enumerate().map(|(number, route)| format!("{} b{number}\n", route.host)).collect()
}

/// nginx's configuration; `folder` is where it keeps its pid and its log, `modules` where its modules are.
pub(crate) fn nginx(listen: SocketAddr, routes: &[Route], connections: usize, folder: &Path, modules: &Path) -> String {
    let (folder, modules) = (folder.display(), modules.display());
    let mut map = String::new();
    for route in routes {
        writeln!(map, "        {} {};", route.host, route.sidecar).unwrap_or_default();
    }
    format!(
        "load_module {modules}/ngx_stream_module.so;\n\
         daemon off;\nuser root;\nworker_processes auto;\nworker_rlimit_nofile {limit};\npid {folder}/nginx.pid;\nerror_log stderr warn;\n\
         events {{\n    worker_connections {workers};\n}}\n\
         stream {{\n    map_hash_bucket_size 256;\n    map_hash_max_size 8192;\n    map $ssl_preread_server_name $sidecar {{\n{map}    }}\n    \
         server {{\n        listen {listen};\n        ssl_preread on;\n        proxy_pass $sidecar;\n        \
         proxy_connect_timeout 5s;\n        proxy_timeout 1h;\n    }}\n}}\n",
        limit = connections * 2 + 1_024,
        workers = connections * 2 + 64,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Vec<Route> {
        let route = |number: u16| Route {
            host: format!("{number:040x}s.postern.test"),
            sidecar: SocketAddr::from(([127, 0, 0, 1], 20_000 + number)),
        };
        (0..200).map(route).collect()
    }

    #[test]
    fn every_peer_names_what_it_cannot_do() {
        assert!(Edge::Gateway.lacks().is_empty());
        for edge in [Edge::Haproxy, Edge::Nginx] {
            let lacks = edge.lacks().join(" ");
            assert!(["preamble", "cancel", "admission", "tunnel"].iter().all(|word| lacks.contains(word)), "{lacks}");
        }
    }

    #[test]
    fn each_name_leads_to_its_sidecar() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 15_432));
        let haproxy = haproxy(listen, &routes(), 4_000, Path::new("/x/names.map"));
        assert!(haproxy.contains("map(/x/names.map)"));
        assert!(haproxy.contains("backend b7\n    server sidecar 127.0.0.1:20007\n"));
        assert!(haproxy_map(&routes()).contains(&format!("{:040x}s.postern.test b7\n", 7)));
        let nginx = nginx(listen, &routes(), 4_000, Path::new("/x"), Path::new("/m"));
        assert!(nginx.contains(&format!("{:040x}s.postern.test 127.0.0.1:20007;\n", 7)));
    }
}
