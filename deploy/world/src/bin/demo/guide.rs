//! What a human is told when everything runs.

use std::path::Path;

use postern_world::{Tenant, World};

use postern_world::report::words;

/// How to connect, and what to try.
pub(crate) async fn text(world: &World) -> Result<String, String> {
    let mut tenants = Vec::new();
    for tenant in world.tenants() {
        tenants.push(of_tenant(world, tenant).await?);
    }
    let first = world.tenant(0).ok_or("no tenant")?;
    let (registrar, database) = (first.registrar(), &first.database().guest);
    Ok(format!(
        "
Everything runs. {tenants}
Try:
  Take tenant {name}'s database off the chain; its sessions end within a second, and new ones are refused:
    {remove}
  Put it back; nothing needs a restart:
    {add}
  Look at the gateway, which never sees a plaintext:
    curl -s http://{admin}/metrics | grep postern_gateway
  Connect without a certificate, with the other tenant's secret, or with its certificate, and read the reasons.
  Watch the logs in {logs}

Ctrl-C stops everything.",
        tenants = tenants.join(""),
        name = first.name(),
        remove = registrar.command("remove", database),
        add = registrar.command("add", database),
        admin = world.gateway().admin().0,
        logs = world.state().path("logs").display(),
    ))
}

async fn of_tenant(world: &World, tenant: &Tenant) -> Result<String, String> {
    let (certificate, key) = world.client_certificate(tenant).await.map_err(words)?;
    let local = tenant.application().address();
    let public = world.address();
    Ok(format!(
        "
Tenant {name}
  From the application's CVM, by connect mode; any driver, plain Postgres, the sidecar proves both ends:
    export PGPASSWORD=$(cat {secret})
    psql \"host={local_host} port={local_port} user=teesql_readwrite dbname=postgres sslmode=disable\"
  Straight at the gateway, with a certificate that carries a quote:
    cd {folder}
    psql \"host={host} hostaddr={public_host} port={public_port} \\
      user=teesql_readwrite dbname=postgres sslmode=require sslcert={certificate} sslkey={key}\"
",
        name = tenant.name(),
        local_host = local.ip(),
        local_port = local.port(),
        secret = tenant.database().guest.folder().join("secrets/teesql_readwrite").display(),
        folder = tenant.application().guest.folder().display(),
        host = tenant.host(),
        public_host = public.ip(),
        public_port = public.port(),
        certificate = file_name(&certificate),
        key = file_name(&key),
    ))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
