//! Every stock driver, on every way that it can take.

mod matrix;
mod outcome;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use postern_world::report::words;
use postern_world::{Keys, Stage, Tenant, World};
use serde_json::json;
use tokio::process::Command;

use crate::program;
use matrix::{Driver, Runtime, Way};
use outcome::Outcome;
use table::Table;

/// How long one driver may take on one way.
const DEADLINE: Duration = Duration::from_secs(90);
/// How many drivers are at work at a time. Most of the time they wait for the moment to cancel.
const AT_A_TIME: usize = 4;

/// What the drivers need.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only drivers whose name begins with one of these
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,

    /// Have secrets proven by SCRAM-SHA-256 instead of sent, and libpq insist on channel_binding=require
    #[arg(long)]
    channel_binding: bool,

    /// A Python with the packages of deploy/clients/requirements.txt
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,

    /// The folders and archives with Jdbc.class and pgjdbc, separated by colons
    #[arg(long, value_name = "PATH", default_value = "")]
    class_path: String,

    /// nss_wrapper, which has all drivers find the names of this world at the loopback address
    #[arg(long, value_name = "FILE")]
    nss_wrapper: PathBuf,
}

impl Arguments {
    /// What the tenant's sidecars are told for it.
    pub(crate) fn keys(&self) -> Keys {
        let clients = if self.channel_binding { "authentication = \"scram-sha-256\"" } else { "" };
        Keys { clients, ..Keys::default() }
    }
}

/// Whether no driver failed.
pub(crate) async fn run(stage: Stage, arguments: &Arguments, world: &World) -> Result<bool, String> {
    let drivers = matrix::drivers()?;
    let chosen = |driver: &&Driver| {
        arguments.only.is_empty() || arguments.only.iter().any(|name| driver.name.starts_with(name.as_str()))
    };
    let drivers: Vec<&Driver> = drivers.iter().filter(chosen).collect();
    let ground = Ground::new(arguments, world).await?;
    stage.tell(&format!("{} drivers on {} ways", drivers.len(), Way::ALL.len()));
    let trials = drivers.iter().flat_map(|driver| Way::ALL.map(|way| (*driver, way)));
    let outcomes = stream::iter(trials.map(|(driver, way)| ground.trial(driver, way)));
    let outcomes: Vec<Outcome> = outcomes.buffered(AT_A_TIME).collect().await;
    let table = Table::new(&drivers, &outcomes);
    print(&table.to_string());
    Ok(table.passed())
}

/// Where the drivers work.
struct Ground<'a> {
    arguments: &'a Arguments,
    world: &'a World,
    tenant: &'a Tenant,
    /// The folder of the application, with client.crt, client.key and client.pk8.
    folder: PathBuf,
    /// Takes the place of the home folder, whose certificates and settings would change what is shown.
    home: PathBuf,
    /// The file by which the tenant's name leads to the loopback address.
    hosts: PathBuf,
}

impl<'a> Ground<'a> {
    async fn new(arguments: &'a Arguments, world: &'a World) -> Result<Self, String> {
        let tenant = world.tenant(0).ok_or("no tenant")?;
        world.client_certificate(tenant).await.map_err(words)?;
        let folder = tenant.application().guest.folder().to_owned();
        key_for_java(&folder).await?;
        let home = world.state().folder("home").map_err(words)?;
        let hosts = world.state().write("hosts", format!("127.0.0.1 {}\n", tenant.host())).map_err(words)?;
        Ok(Self { arguments, world, tenant, folder, home, hosts })
    }

    async fn trial(&self, driver: &Driver, way: Way) -> Outcome {
        let template = match driver.connection(way) {
            Ok(template) => template,
            Err(reason) => return Outcome::NotApplicable(reason.to_owned()),
        };
        let secret = &self.tenant.secrets().read_write;
        let template = if self.arguments.channel_binding { matrix::bound(template) } else { template.to_owned() };
        let connection = matrix::fill(&template, way.port(self.world, self.tenant), self.tenant.host(), secret);
        let request = json!({"connection": connection, "secret": secret});
        match program::run(self.command(driver), &format!("{request}\n"), DEADLINE).await {
            Ok(output) => Outcome::of(driver, &output),
            Err(error) => Outcome::Failed(error),
        }
    }

    fn command(&self, driver: &Driver) -> Command {
        let clients = self.world.programs().repository.join("deploy/clients");
        let (runtime, name) = &driver.program;
        let mut command = match runtime {
            Runtime::Python => Command::new(&self.arguments.python),
            Runtime::Node => Command::new("node"),
            Runtime::Java => Command::new("java"),
            Runtime::Rust => Command::new(self.world.programs().gateway.with_file_name(name)),
        };
        match runtime {
            Runtime::Python | Runtime::Node => command.arg(clients.join(name)),
            Runtime::Java => command.args(["-cp", &self.arguments.class_path, name]),
            Runtime::Rust => &mut command,
        };
        program::cut_off(&mut command, &self.home);
        command.env("LD_PRELOAD", &self.arguments.nss_wrapper).env("NSS_WRAPPER_HOSTS", &self.hosts);
        command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(&self.folder);
        command
    }
}

/// pgjdbc reads keys in another form than all others.
async fn key_for_java(folder: &Path) -> Result<(), String> {
    let mut command = Command::new("openssl");
    command.args(["pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in", "client.key", "-out", "client.pk8"]);
    command.current_dir(folder);
    let output = program::run(command, "", DEADLINE).await?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
fn print(table: &str) {
    println!("{table}");
}
