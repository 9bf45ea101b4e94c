//! The command line.

mod compose;
mod document;
mod govern;
mod options;

use std::path::PathBuf;

use alloy::primitives::Address;
use clap::{Args, Parser, Subcommand};
use postern_identity::{AppId, DeviceId, InstanceId, OsImageHash};

pub(crate) use compose::{Compose, GatewayApp, hash_file, read_file};
pub(crate) use document::{BuildArguments, HashArguments};
pub(crate) use govern::{AppCommand, CreateArguments, KmsCommand, TimelockCommand, WordsCommand};
pub(crate) use options::Options;

/// Deploy Postern's contracts, register apps, and say what may run.
///
/// An app is a contract: its address is the app id in host names, `<app-id>s.<domain>`. The owner of the app allows compose
/// hashes, each the SHA-256 of the raw bytes of an app-compose.json, and devices; the owner of the KMS contract allows OS
/// images. A CVM whose app, compose, device and image are all allowed is admitted by gateways within seconds of the
/// block, and one that is no longer allowed is cut off within a second.
#[derive(Debug, Parser)]
#[command(
    name = "registrar",
    version,
    after_help = AFTER_HELP,
    max_term_width = 110,
    arg_required_else_help = true,
    subcommand_required = false
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) options: Options,

    /// Print the default configuration with the meaning of every key, and exit.
    #[arg(long, exclusive = true)]
    pub(crate) print_config: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const AFTER_HELP: &str = "\
Examples:
  registrar --print-config > registrar.toml
  registrar --config registrar.toml init
  registrar --config registrar.toml os-image add 6f1e...
  registrar --config registrar.toml app create --compose app-compose.json --allow-any-device
  registrar --config registrar.toml compose-hash add 0x1c5b... app-compose.json
  registrar --config registrar.toml check 0x1c5b... app-compose.json --os-image 6f1e...
  registrar --config registrar.toml compose-hash remove 0x1c5b... 9f0c... --dry-run
  registrar --config registrar.toml watch
  registrar --json app list

Every key of the configuration can be set from the environment:
  POSTERN_REGISTRAR__RPC_URL=http://127.0.0.1:8545

Identifiers are hex, with or without 0x, and always in full length. Transactions are reported with
their block. A change that is in force already sends no transaction. Who is not the owner is told so
before anything is sent.

Exit codes:
  0   done
  1   no: `check` refused, `diff` found a difference, or the contract refuses the call
  2   could not tell: a transaction was sent, but it is not known what became of it
  64  wrong usage
  69  the endpoint does not answer
  78  wrong configuration, key or password";

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Deploy both contracts: KmsAuth behind a proxy, and the AppAuth that its factory uses.
    Init {
        /// Who may govern the deployment. The signer, if left out.
        #[arg(long, value_name = "ADDRESS")]
        owner: Option<Address>,
    },
    /// Create apps, look at them, and govern them.
    #[command(subcommand)]
    App(AppCommand),
    /// Look at the KMS contract and govern it.
    #[command(subcommand)]
    Kms(KmsCommand),
    /// What an app may run.
    #[command(subcommand)]
    ComposeHash(ComposeHashCommand),
    /// Which OS images any app may run on.
    #[command(subcommand)]
    OsImage(OsImageCommand),
    /// Which machines may run an app.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Which app is the trusted gateway, for guests of dstack.
    #[command(subcommand)]
    GatewayApp(GatewayAppCommand),
    /// Let changes wait where everybody can see them.
    #[command(subcommand)]
    Timelock(TimelockCommand),
    /// Print the compose hash of a file: the SHA-256 of its raw bytes. Needs no configuration and no chain.
    Hash(HashArguments),
    /// Ask the chain whether a CVM may boot, and if not, why. Exits with 1 when it may not.
    Check(CheckArguments),
    /// Tell every change of policy as it happens, with its block, until it is stopped.
    Watch(WatchArguments),
    /// Print the code of the KMS contract, of new apps and of the apps named here, as the keys `pinned_...` of gateways and
    /// sidecars take it. Look at what you pin: they will read its storage.
    Pins {
        /// Apps whose code may be another than that of new ones.
        apps: Vec<AppId>,
    },
    /// Write manual pages, one for each command.
    Man {
        /// The folder; it has to be there.
        folder: PathBuf,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
With --json, each event is one line. When blocks are replaced by others, that is told, and the
new ones follow. With --compose, each change of the verdict on such a CVM is told as well.

Examples:
  registrar watch
  registrar watch 0x1c5b... --from-block 19000000
  registrar watch 0x1c5b... --compose app-compose.json --os-image 6f1e...")]
pub(crate) struct WatchArguments {
    /// The apps. All registered ones, and those that will be, if left out.
    pub(crate) apps: Vec<AppId>,
    /// Also tell whether a CVM with this compose may boot: the hash, or an app-compose.json.
    #[arg(long, value_name = "HASH|FILE", requires = "apps")]
    pub(crate) compose: Option<Compose>,
    #[command(flatten)]
    pub(crate) guest: GuestArguments,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ComposeHashCommand {
    /// Allow compose hashes.
    #[command(after_help = "Example:\n  registrar compose-hash add 0x1c5b... app-compose.json")]
    Add(ComposeHashes),
    /// Stop allowing compose hashes. Live sessions of CVMs that run them are cut.
    Remove(ComposeHashes),
    /// List the compose hashes that an app allows.
    List {
        /// The app.
        app: AppId,
    },
    /// Compare what an app allows with what it should allow. Exits with 1 if there is a difference.
    #[command(after_help = "Example:\n  registrar compose-hash diff 0x1c5b... releases/*.json")]
    Diff(ComposeHashes),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ComposeHashes {
    /// The app.
    pub(crate) app: AppId,
    /// Hashes, or app-compose.json files.
    #[arg(required = true, value_name = "HASH|FILE")]
    pub(crate) compose: Vec<Compose>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum OsImageCommand {
    /// Allow OS images, for all apps.
    Add {
        /// Their hashes.
        #[arg(required = true, value_name = "HASH")]
        images: Vec<OsImageHash>,
    },
    /// Stop allowing OS images, for all apps.
    Remove {
        /// Their hashes.
        #[arg(required = true, value_name = "HASH")]
        images: Vec<OsImageHash>,
    },
    /// List the OS images that are allowed.
    List,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Allow devices.
    Add(Devices),
    /// Stop allowing devices. It has no effect while every device is allowed.
    Remove(Devices),
    /// List the devices that an app allows.
    List {
        /// The app.
        app: AppId,
    },
    /// Allow every device, or only those that were added.
    #[command(after_help = "Example:\n  registrar device allow-any 0x1c5b... true")]
    AllowAny {
        /// The app.
        app: AppId,
        /// Whether every device is allowed.
        #[arg(value_name = "true|false", action = clap::ArgAction::Set)]
        allow: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Devices {
    /// The app.
    pub(crate) app: AppId,
    /// The devices.
    #[arg(required = true, value_name = "DEVICE")]
    pub(crate) devices: Vec<DeviceId>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum GatewayAppCommand {
    /// Name the gateway that guests of dstack trust.
    Set {
        /// Its app id, or `any` to turn the guests' check off.
        gateway: GatewayApp,
    },
    /// Show it.
    Show,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  registrar check 0x1c5b... app-compose.json --os-image 6f1e... --device 09ab...")]
pub(crate) struct CheckArguments {
    /// The app.
    pub(crate) app: AppId,
    /// The hash, or an app-compose.json.
    #[arg(value_name = "HASH|FILE")]
    pub(crate) compose: Compose,
    #[command(flatten)]
    pub(crate) guest: GuestArguments,
}

/// What a CVM's evidence says beside its app and its compose file.
#[derive(Debug, Clone, Args)]
pub(crate) struct GuestArguments {
    /// The OS image. Zero, if left out, which the KMS contract does not allow unless told to.
    #[arg(long, value_name = "HASH")]
    pub(crate) os_image: Option<OsImageHash>,
    /// The device. Zero, if left out.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<DeviceId>,
    /// The CVM. Zero, if left out; Postern's contracts do not look at it.
    #[arg(long, value_name = "INSTANCE")]
    pub(crate) instance: Option<InstanceId>,
    /// The platform's TCB status.
    #[arg(long, value_name = "STATUS", default_value = "UpToDate")]
    pub(crate) tcb_status: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    const APP: &str = "1c5b000000000000000000000000000000000001";

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_short_or_padded_identifier_is_refused() {
        let short = &APP[2..];
        let padded = format!("{APP}00");
        for app in [short, padded.as_str(), "0x", "app"] {
            assert!(Arguments::try_parse_from(["registrar", "app", "show", app]).is_err(), "{app}");
        }
        assert!(Arguments::try_parse_from(["registrar", "app", "show", &format!("0x{APP}")]).is_ok());
    }

    #[test]
    fn options_may_stand_behind_the_command() {
        let arguments = Arguments::try_parse_from(["registrar", "app", "list", "--json", "--wait", "2"]).unwrap();
        assert!(arguments.options.json && arguments.options.wait == Some(2));
        assert!(Arguments::try_parse_from(["registrar", "app", "list", "--wait", "0"]).is_err());
    }
}
