//! Other edges in the gateway's place: what they are, how they are told where everybody lives, and what they cannot do.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::Datapath;

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
}

/// An edge, and how it reaches the sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Front {
    pub(crate) edge: Edge,
    /// Of the gateway's tunnels. Through interfaces the kernel carries a peer's connections, too.
    pub(crate) datapath: Datapath,
}

impl Default for Front {
    fn default() -> Self {
        Self { edge: Edge::Gateway, datapath: Datapath::default() }
    }
}

impl Front {
    /// Whether a peer goes through the gateway's tunnels.
    pub(crate) fn borrows_tunnels(self) -> bool {
        matches!(self.edge, Edge::Haproxy | Edge::Nginx) && self.datapath == Datapath::Tun
    }

    /// Whether sidecars have to be reached on ports of their own.
    pub(crate) fn is_past_the_tunnels(self) -> bool {
        self.edge != Edge::Gateway && !self.borrows_tunnels()
    }

    /// Whether a process belongs to the edge. Whoever goes through tunnels costs what they cost.
    pub(crate) fn has(self, process: &str) -> bool {
        process == self.edge.name() || (self.borrows_tunnels() && process == Edge::Gateway.name())
    }

    /// What it does not do that the gateway does.
    pub(crate) fn lacks(self) -> Vec<&'static str> {
        let tunnel = if self.borrows_tunnels() {
            "tunnels: it goes through the gateway's, whose work is counted with its own"
        } else {
            "tunnels: it connects to the sidecars in clear TCP, and is spared WireGuard's work on both ends"
        };
        let mut lacks = match self.edge {
            Edge::Gateway => return Vec::new(),
            Edge::Haproxy | Edge::Nginx => vec![
                "Postgres' own preamble: drivers that ask for TLS with an SSLRequest get no answer, only those with \
                 sslnegotiation=direct connect",
                "cancel requests in clear, which carry no name: Ctrl-C in psql, timeouts of JDBC, pgx and node-postgres",
                "admission: whoever is in its list is let through, whatever the chain and the evidence say, and nothing is \
                 cut when the chain revokes",
                "registration: its list was written by the load test",
                tunnel,
            ],
            Edge::Direct => vec![
                "one address for all: clients have to know where each sidecar is, and to reach it",
                "admission, and cancel requests in clear by a name",
                tunnel,
            ],
        };
        if self.edge == Edge::Nginx && self.borrows_tunnels() {
            lacks.push("version 2 of the PROXY protocol: the sidecar learns the client's address, and no name of the connection");
        }
        lacks
    }
}

/// HAProxy's configuration: it waits for the ClientHello, takes the name, looks it up in the file `map`, and passes the bytes
/// on without reading them. `splice-auto` leaves them to be copied; asked for both ways, it splices. In tunnels it introduces
/// clients to the sidecars, which expect that there.
pub(crate) fn haproxy(listen: SocketAddr, routes: &[Route], connections: usize, map: &Path, tunnels: bool) -> String {
    let (map, introduce) = (map.display(), if tunnels { " send-proxy-v2" } else { "" });
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
        write!(text, "\nbackend b{number}\n    server sidecar {}{introduce}\n", route.sidecar).unwrap_or_default();
    }
    text
}

/// The file in which HAProxy looks names up.
pub(crate) fn haproxy_map(routes: &[Route]) -> String {
    routes.iter().enumerate().map(|(number, route)| format!("{} b{number}\n", route.host)).collect()
}

/// nginx's configuration; `folder` is where it keeps its pid and its log, `stream` its module for streams.
pub(crate) fn nginx(
    listen: SocketAddr,
    routes: &[Route],
    connections: usize,
    (folder, stream): (&Path, &Path),
    tunnels: bool,
) -> String {
    let (folder, stream) = (folder.display(), stream.display());
    let introduce = if tunnels { "proxy_protocol on;\n        " } else { "" };
    let mut map = String::new();
    for route in routes {
        writeln!(map, "        {} {};", route.host, route.sidecar).unwrap_or_default();
    }
    format!(
        "load_module {stream};\n\
         daemon off;\nuser root;\nworker_processes auto;\nworker_rlimit_nofile {limit};\npid {folder}/nginx.pid;\nerror_log stderr warn;\n\
         events {{\n    worker_connections {workers};\n}}\n\
         stream {{\n    map_hash_bucket_size 256;\n    map_hash_max_size 8192;\n    map $ssl_preread_server_name $sidecar {{\n{map}    }}\n    \
         server {{\n        listen {listen};\n        ssl_preread on;\n        proxy_pass $sidecar;\n        \
         {introduce}tcp_nodelay on;\n        proxy_half_close on;\n        proxy_connect_timeout 5s;\n        proxy_timeout 1h;\n    }}\n}}\n",
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
        assert!(Front::default().lacks().is_empty());
        for (edge, datapath) in [(Edge::Haproxy, Datapath::Netstack), (Edge::Nginx, Datapath::Tun)] {
            let lacks = Front { edge, datapath }.lacks().join(" ");
            assert!(["preamble", "cancel", "admission", "tunnel"].iter().all(|word| lacks.contains(word)), "{lacks}");
            assert_eq!(lacks.contains("clear TCP"), datapath == Datapath::Netstack, "{lacks}");
        }
    }

    #[test]
    fn who_goes_through_the_gateway_s_tunnels_costs_what_they_cost() {
        let front = |edge, datapath| Front { edge, datapath };
        let haproxy = front(Edge::Haproxy, Datapath::Tun);
        assert!(haproxy.has("haproxy") && haproxy.has("gateway") && !haproxy.has("nginx"));
        assert!(!haproxy.is_past_the_tunnels() && !front(Edge::Gateway, Datapath::Tun).is_past_the_tunnels());
        for past in [front(Edge::Haproxy, Datapath::Netstack), front(Edge::Direct, Datapath::Tun)] {
            assert!(past.is_past_the_tunnels() && !past.has("gateway"));
        }
    }

    #[test]
    fn each_name_leads_to_its_sidecar() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 15_432));
        let folders = (Path::new("/x"), Path::new("/m/stream.so"));
        for tunnels in [false, true] {
            let haproxy = haproxy(listen, &routes(), 4_000, Path::new("/x/names.map"), tunnels);
            assert!(haproxy.contains("map(/x/names.map)"));
            let introduced = if tunnels { " send-proxy-v2" } else { "" };
            assert!(haproxy.contains(&format!("backend b7\n    server sidecar 127.0.0.1:20007{introduced}\n")));
            let nginx = nginx(listen, &routes(), 4_000, folders, tunnels);
            assert!(nginx.contains(&format!("{:040x}s.postern.test 127.0.0.1:20007;\n", 7)));
            assert_eq!(nginx.contains("proxy_protocol on;"), tunnels);
        }
        assert!(haproxy_map(&routes()).contains(&format!("{:040x}s.postern.test b7\n", 7)));
    }
}
