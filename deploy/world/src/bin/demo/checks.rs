//! The list that `demo --check` walks.

mod attestation;
mod bad_input;
mod cancel;
mod certificates;
mod isolation;
mod policy;
mod recovery;
mod refusals;
mod registration;
mod revocation;
mod rows;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use postern_world::tap::TcpTap;
use postern_world::{Disguise, Tenant, World};

use crate::client::psql::Psql;
use crate::client::python::Python;
use crate::client::{KeyPair, Login, Tls};
use certificates::Forgeries;
use postern_world::report::{Outcome, Report, words};
use revocation::{Cutter, Revocation};

/// How long one check may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// The role that the checks log in as.
const USER: &str = "teesql_readwrite";

/// Runs every check and says whether all of them passed; gives the world back, to be stopped.
pub(crate) async fn run(world: World, python: PathBuf, out: impl Write) -> Result<(bool, World), String> {
    Ok(Scene::new(world, python).await?.run(out).await)
}

/// What the checks work with.
struct Scene {
    world: World,
    psql: Psql,
    python: Python,
    /// A client certificate per tenant, written by the `sidecar` program inside the tenant's application CVM.
    certificates: Vec<KeyPair>,
    forgeries: Forgeries,
    /// Sits between psql and connect mode, where the rows are still plain.
    plaintext: TcpTap,
}

impl Scene {
    async fn new(world: World, python: PathBuf) -> Result<Self, String> {
        let home = world.state().folder("home").map_err(words)?;
        let mut certificates = Vec::new();
        for tenant in world.tenants() {
            certificates.push(certificates::by_sidecar(&world, tenant).await?);
        }
        let forgeries = Forgeries::write(&world)?;
        let application = world.tenant(0).ok_or("no tenant")?.application();
        let free = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let plaintext = TcpTap::start(free, application.address()).await.map_err(words)?;
        let (psql, python) = (Psql { home: home.clone() }, Python { program: python, home });
        Ok(Self { world, psql, python, certificates, forgeries, plaintext })
    }

    async fn run(mut self, out: impl Write) -> (bool, World) {
        let mut report = Report::new(out);
        self.rows(&mut report).await;
        self.cancels(&mut report).await;
        isolation::run(&self, &mut report).await;
        self.wrong_far_side(&mut report).await;
        self.second_host(&mut report).await;
        self.certificates(&mut report).await;
        self.attestations(&mut report).await;
        self.impostors(&mut report).await;
        self.bad_input(&mut report).await;
        self.revocation(&mut report).await;
        self.policy(&mut report).await;
        self.recovery(&mut report).await;
        (report.finish(), self.world)
    }

    /// A login through the connect mode of a tenant's application.
    fn connected(&self, tenant: usize) -> Option<Login> {
        let tenant = self.world.tenant(tenant)?;
        Some(Login {
            host: tenant.host().to_owned(),
            address: tenant.application().address(),
            user: USER,
            password: tenant.secrets().read_write.clone(),
            direct: false,
            tls: Tls::Off,
            before: None,
        })
    }

    /// A login straight at the gateway, with the name, the secret and the certificate of possibly different tenants.
    fn straight(&self, name: usize, secret: usize, certificate: usize) -> Option<Login> {
        Some(Login {
            host: self.world.tenant(name)?.host().to_owned(),
            address: self.world.address(),
            user: USER,
            password: self.world.tenant(secret)?.secrets().read_write.clone(),
            direct: false,
            tls: Tls::Certificate(self.certificates.get(certificate)?.clone()),
            before: None,
        })
    }

    async fn rows(&self, report: &mut Report<impl Write>) {
        let (Some(connected), Some(straight)) = (self.connected(0), self.straight(0, 0, 0)) else { return };
        let marker = |name| format!("{name}-{}", hex::encode(rand::random::<[u8; 12]>()));

        let plain = marker("connect");
        let tapped = Login { address: self.plaintext.address(), ..connected };
        let check = rows::psql(&self.psql, &tapped, "through_connect", &plain);
        report.check("psql through connect mode", DEADLINE, check).await;
        let check = async { rows::no_plaintext(&self.world, self.plaintext.recording(), &plain) };
        report.check("no plaintext of these rows at the gateway", DEADLINE, check).await;

        let marked = marker("straight");
        let check = rows::psql(&self.psql, &straight, "straight", &marked);
        report.check("psql straight at the gateway, sslmode=require", DEADLINE, check).await;
        let direct = Login { direct: true, ..straight };
        let marked = marker("direct");
        let check = rows::psycopg(&self.python, &direct, "direct", &marked);
        report.check("psycopg straight at the gateway, sslnegotiation=direct", DEADLINE, check).await;
    }

    async fn cancels(&self, report: &mut Report<impl Write>) {
        let (Some(connected), Some(straight)) = (self.connected(0), self.straight(0, 0, 0)) else { return };
        let direct = Login { direct: true, ..straight.clone() };
        report.check("psql cancels through connect mode", DEADLINE, cancel::psql(&self.psql, &connected)).await;
        report.check("psql cancels straight at the gateway", DEADLINE, cancel::psql(&self.psql, &straight)).await;
        let check = cancel::psycopg(&self.python, &direct);
        report.check("psycopg cancels straight at the gateway, encrypted", DEADLINE, check).await;
    }

    /// The application of tenant B expects its own database and is led to that of A: its sidecar has to notice, before a
    /// byte of the driver has left.
    async fn wrong_far_side(&mut self, report: &mut Report<impl Write>) {
        let (Some(a), Some(b), Some(own)) = (self.world.tenant(0), self.world.tenant(1), self.connected(1)) else {
            return;
        };
        let (host, expected) = (a.host().to_owned(), b.database().guest.cvm().app_id());
        let check = async {
            let (mut sidecar, address) = self.world.connect_mode(1, &host, expected).await.map_err(words)?;
            let login = Login { address, ..own };
            let outcome = refusals::refused(&self.psql, &login, &["another application"]).await;
            sidecar.process().stop().await;
            outcome
        };
        report.check("B's connect mode led to A's name", DEADLINE, check).await;
    }

    /// libpq has a list of two local ports. The server behind the first is away, which is said so that libpq goes on.
    async fn second_host(&mut self, report: &mut Report<impl Write>) {
        let (Some(tenant), Some(own)) = (self.world.tenant(0), self.connected(0)) else { return };
        let domain = tenant.host().split_once('.').map(|(_, domain)| domain).unwrap_or_default();
        let (nowhere, expected) = (format!("{}s.{domain}", "0".repeat(40)), tenant.database().guest.cvm().app_id());
        let check = async {
            let (mut sidecar, address) = self.world.connect_mode(0, &nowhere, expected).await.map_err(words)?;
            let login = Login { before: Some(address), ..own.clone() };
            let answer = self.psql.run(&login, "show in_hot_standby;\n").await;
            let alone = refusals::refused(&self.psql, &Login { address, ..own }, &["knows no app by this name"]).await;
            sidecar.process().stop().await;
            alone.and(answer.map(|standby| format!("the second one serves, in_hot_standby is {standby}")))
        };
        report.check("psql with two local ports, of which the first leads nowhere", DEADLINE, check).await;
    }

    async fn certificates(&self, report: &mut Report<impl Write>) {
        let Some(good) = self.straight(0, 0, 0) else { return };
        for forgery in self.forgeries.all() {
            let login = Login { tls: forgery.tls.clone(), ..good.clone() };
            let check = refusals::refused(&self.psql, &login, forgery.reasons);
            report.check(&format!("client with {}", forgery.name), DEADLINE, check).await;
        }
    }

    async fn impostors(&mut self, report: &mut Report<impl Write>) {
        for (name, disguise, reason) in [
            ("a compose hash that is not on chain", Disguise::OtherCompose, "compose hash"),
            ("the quote of a debug TD", Disguise::DebugTd, "debug mode"),
        ] {
            let check = registration::refused(&mut self.world, disguise, reason);
            report.check(&format!("database CVM with {name} registers"), DEADLINE, check).await;
        }
    }

    async fn bad_input(&self, report: &mut Report<impl Write>) {
        let Some(tenant) = self.world.tenant(0) else { return };
        let (gateway, host, admin) = (self.world.address(), tenant.host(), self.world.gateway().admin());
        let before = bad_input::open(admin).await.unwrap_or_default();
        for case in bad_input::cases(host) {
            report.check(&format!("gateway meets {}", case.name), DEADLINE, case.run(gateway)).await;
        }
        report.check("gateway meets silence", DEADLINE, bad_input::silence(gateway)).await;
        report.check("gateway meets SNI in upper case", DEADLINE, bad_input::upper_case(gateway, host)).await;
        report.check("gateway meets one byte at a time", DEADLINE, bad_input::byte_by_byte(gateway, host)).await;
        let check = bad_input::stops_after_any_byte(gateway, host);
        report.check("gateway meets clients that stop after any byte", DEADLINE, check).await;
        let check = bad_input::nothing_left_behind(admin, before);
        report.check("gateway keeps nothing of them", DEADLINE, check).await;
    }

    async fn revocation(&self, report: &mut Report<impl Write>) {
        let (Some(connected), Some(straight), Some(tenant)) =
            (self.connected(0), self.straight(0, 0, 0), self.world.tenant(0))
        else {
            return;
        };
        // The gateway watches the databases it leads to, and a database's sidecar watches its clients.
        let admin = self.world.gateway().admin();
        let gateway = Cutter { admin, counter: "postern_gateway_sessions_cut_total", words: "" };
        let sidecar = cutter(tenant, "terminating connection: the chain no longer allows this client");
        for (whose, guest, cutter, reason) in [
            ("database", &tenant.database().guest, gateway, "access denied"),
            ("application", &tenant.application().guest, sidecar, "the compose hash is not allowed on chain"),
        ] {
            let revocation = Revocation { world: &self.world, registrar: tenant.registrar(), guest, cutter };
            let check = revocation.cuts_the_live_session(&self.python, &connected);
            report.check(&format!("{whose} removed from chain: the live session is cut"), DEADLINE, check).await;
            let reasons = [reason];
            let check = refusals::refused(&self.psql, &straight, &reasons);
            report.check(&format!("{whose} removed from chain: a new connection"), DEADLINE, check).await;
            let check = revocation.undone(&self.psql, &straight);
            report.check(&format!("{whose} added again: connections work"), DEADLINE, check).await;
        }
    }

    async fn policy(&self, report: &mut Report<impl Write>) {
        let (Some(connected), Some(straight), Some(tenant)) =
            (self.connected(0), self.straight(0, 0, 0), self.world.tenant(0))
        else {
            return;
        };
        let (world, signed) = (&self.world, &tenant.database().policy);
        let reason = "terminating connection: the client's evidence is no longer good enough: ";
        let cutter = cutter(tenant, reason);
        let check = policy::cuts(world, signed, cutter, &self.python, &connected);
        report.check("newer policy forbids the application: the live session is cut", DEADLINE, check).await;
        let check = policy::refuses_newcomers(&self.psql, &straight);
        report.check("newer policy forbids the application: a new connection", DEADLINE, check).await;
        let check = policy::welcomes(signed, &self.psql, &connected);
        report.check("newer policy allows it again: connections work", DEADLINE, check).await;
        let check = policy::refuses_the_older(world, signed, &self.psql, &connected);
        report.check("older policy put back", DEADLINE, check).await;
    }

    async fn recovery(&mut self, report: &mut Report<impl Write>) {
        let Some(login) = self.connected(0) else { return };
        for part in [Part::Postgres, Part::Gateway, Part::Sidecar] {
            let check = self.crash_and_return(part, &login);
            report.check(&format!("{part} killed and restarted"), DEADLINE, check).await;
        }
    }

    async fn crash_and_return(&mut self, part: Part, login: &Login) -> Outcome {
        let killed = Instant::now();
        let database = self.world.tenant_mut(0).ok_or("no tenant")?.database_mut();
        match part {
            Part::Postgres => database.postgres.crash().await,
            Part::Sidecar => database.sidecar.crash().await,
            Part::Gateway => self.world.gateway_mut().crash().await,
        }
        .map_err(words)?;
        recovery::works_again(&self.psql, login, killed).await
    }
}

/// A database's sidecar, which tells the clients that it cuts why.
fn cutter(tenant: &Tenant, words: &'static str) -> Cutter {
    Cutter { admin: tenant.database().sidecar.admin(), counter: "postern_sidecar_sessions_cut_total", words }
}

/// What is killed.
#[derive(Clone, Copy)]
enum Part {
    Postgres,
    Gateway,
    Sidecar,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Postgres => "Postgres",
            Self::Gateway => "the gateway",
            Self::Sidecar => "the database's sidecar",
        })
    }
}
