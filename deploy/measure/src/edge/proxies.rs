//! Proxies that choose by the server name and decrypt nothing, as the gateway does, and say to the server who the client is.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::Programs;

/// How many connections each may have: each has two ends, and HAProxy wants pipes for a quarter of them.
pub(super) const CONNECTIONS: usize = 7_000;

/// Where a proxy listens, which name leads where.
pub(super) struct Road<'a> {
    pub(super) listen: SocketAddr,
    pub(super) name: &'a str,
    pub(super) to: SocketAddr,
}

/// Writes HAProxy's settings into a folder and gives what starts it.
pub(super) fn haproxy(programs: &Programs, road: &Road<'_>, folder: &Path) -> anyhow::Result<Option<Command>> {
    let Some(program) = &programs.haproxy else { return Ok(None) };
    let Road { listen, name, to } = road;
    let threads = std::thread::available_parallelism()?;
    // Without "auto": splicing by its own judgement never spliced in any measurement.
    let text = format!(
        "global\n  maxconn {CONNECTIONS}\n  nbthread {threads}\n\
         defaults\n  mode tcp\n  maxconn {CONNECTIONS}\n  option splice-request\n  option splice-response\n  \
         timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n\
         frontend edge\n  bind {listen}\n  tcp-request inspect-delay 5s\n  \
         tcp-request content accept if {{ req.ssl_hello_type 1 }}\n  use_backend cvm if {{ req.ssl_sni -i {name} }}\n\
         backend cvm\n  server cvm {to} send-proxy-v2\n"
    );
    let file = folder.join(format!("haproxy-{}.cfg", listen.port()));
    std::fs::write(&file, text)?;
    let mut command = with_libraries(Command::new(program), programs);
    command.arg("-db").arg("-f").arg(file);
    Ok(Some(command))
}

/// Writes nginx' settings into a folder and gives what starts it.
pub(super) fn nginx(programs: &Programs, road: &Road<'_>, folder: &Path) -> anyhow::Result<Option<Command>> {
    let (Some(program), Some(stream)) = (&programs.nginx, &programs.nginx_stream) else { return Ok(None) };
    let Road { listen, name, to } = road;
    let (workers, connections) = (std::thread::available_parallelism()?, 2 * CONNECTIONS);
    let folder = folder.join(format!("nginx-{}", listen.port()));
    std::fs::create_dir_all(&folder)?;
    // Without proxy_half_close it ends a connection when the client has said all.
    let text = format!(
        "load_module {};\nuser root;\ndaemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n\
         worker_processes {workers};\nworker_rlimit_nofile {connections};\n\
         events {{ worker_connections {connections}; }}\n\
         stream {{\n  map_hash_bucket_size 128;\n  map $ssl_preread_server_name $way {{ {name} {to}; }}\n  server {{\n    \
         listen {listen} backlog=4096 reuseport;\n    ssl_preread on;\n    proxy_pass $way;\n    proxy_protocol on;\n    \
         proxy_half_close on;\n    proxy_timeout 10m;\n    tcp_nodelay on;\n  }}\n}}\n",
        stream.display(),
        folder = folder.display(),
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text)?;
    let mut command = with_libraries(Command::new(program), programs);
    let mut errors = OsString::from(&folder);
    errors.push("/error.log");
    command.arg("-c").arg(file).arg("-p").arg(&folder).arg("-e").arg(errors);
    Ok(Some(command))
}

/// The gateway's relay without its tunnel: this program, told to be that.
pub(super) fn passthrough(road: &Road<'_>) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["passthrough", "--listen", &road.listen.to_string(), "--name", road.name]);
    command.args(["--to", &road.to.to_string()]);
    Ok(command)
}

/// Programs that were unpacked rather than installed may lack libraries.
pub(super) fn with_libraries(mut command: Command, programs: &Programs) -> Command {
    if let Some(libraries) = &programs.libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command
}
