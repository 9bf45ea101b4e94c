//! The command line.

mod compose;

use std::path::PathBuf;

use alloy::primitives::{Address, B256};
use clap::{Args, Parser, Subcommand};
use postern_identity::{AppId, DeviceId, InstanceId, OsImageHash};
use postern_plumbing::secret::Secret;
use postern_watch::Url;

use crate::settings::Delivery;
use crate::timelock::parse_span;

pub(crate) use compose::{Compose, GatewayApp, hash_file, read_file};

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

/// What every command understands.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Options {
    /// The configuration file.
    #[arg(short, long, global = true, value_name = "FILE", env = "POSTERN_REGISTRAR_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Write one JSON document to standard output instead of text, also when it fails.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// The JSON-RPC endpoint (key rpc_url).
    #[arg(long = "rpc", visible_alias = "rpc-url", global = true, value_name = "URL")]
    pub(crate) rpc_url: Option<Url>,

    /// The number that the chain must have (key chain_id).
    #[arg(long, global = true, value_name = "NUMBER")]
    pub(crate) chain_id: Option<u64>,

    /// The KMS contract (key kms_contract).
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) kms: Option<Address>,

    /// The file with the key that signs: a keystore or hex digits (key key_file).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// The file with the keystore's password, which is asked for otherwise (key password_file).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,

    /// The key itself, for test networks: everybody on this machine can read it (key insecure_key).
    #[arg(long, global = true, value_name = "HEX", conflicts_with = "key_file", value_parser = secret)]
    pub(crate) insecure_key: Option<Secret>,

    /// The timelock that owns the contract: changes are proposed to it (key timelock).
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) timelock: Option<Address>,

    /// Show calls with their calldata and gas, and send nothing.
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,

    /// Write calls to a file for Safe's transaction builder, and send nothing. Needs no key.
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["dry_run", "timelock"])]
    pub(crate) safe: Option<PathBuf>,

    /// How many blocks deep a transaction must be, its own included (key confirmations).
    #[arg(long, global = true, value_name = "BLOCKS", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) wait: Option<u64>,

    /// The block from which logs are read (key logs.from_block).
    #[arg(long, global = true, value_name = "NUMBER")]
    pub(crate) from_block: Option<u64>,
}

impl Options {
    pub(crate) fn delivery(&self) -> Delivery {
        match &self.safe {
            Some(path) => Delivery::Safe(path.clone()),
            None if self.dry_run => Delivery::Show,
            None => Delivery::Send,
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap calls it and expects that a value can be refused")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text.to_owned()))
}

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
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum AppCommand {
    /// Create an app and register it. Prints its id.
    #[command(after_help = "Example:\n  registrar app create --compose app-compose.json --allow-any-device")]
    Create(CreateArguments),
    /// List all registered apps.
    List,
    /// Show what an app allows and who governs it.
    Show {
        /// The app.
        app: AppId,
    },
    /// Offer an app to another owner, who has to accept it.
    Transfer {
        /// The app.
        app: AppId,
        /// The heir.
        to: Address,
    },
    /// Accept an app that is offered to the signer, or to the timelock.
    Accept {
        /// The app.
        app: AppId,
    },
    /// Refuse all CVMs of an app until `unpause`. Live sessions are cut.
    Pause {
        /// The app.
        app: AppId,
    },
    /// End a pause. What the rules allow is allowed again.
    Unpause {
        /// The app.
        app: AppId,
    },
    /// Refuse platforms whose TCB status is not UpToDate, or stop doing so.
    #[command(after_help = "Example:\n  registrar app require-tcb 0x1c5b... true")]
    RequireTcb {
        /// The app.
        app: AppId,
        /// Whether the status must be UpToDate.
        #[arg(value_name = "true|false", action = clap::ArgAction::Set)]
        require: bool,
    },
    /// Register an app whose contract is there already. Only the owner of the KMS contract can after `deregister`.
    Register {
        /// The app.
        app: AppId,
    },
    /// Refuse an app whatever its own contract says, and let nobody else register it again. For the owner of the KMS
    /// contract. Live sessions are cut; CVMs that run keep the keys that they were given.
    Deregister {
        /// The app.
        app: AppId,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KmsCommand {
    /// Show who governs the contract, and what it can do.
    Show,
    /// Offer the contract to another owner, who has to accept it.
    Transfer {
        /// The heir.
        to: Address,
    },
    /// Accept the contract, if it is offered to the signer or to the timelock.
    Accept,
    /// Refuse everybody until `unpause`. Live sessions of all apps are cut.
    Pause,
    /// End a pause. What the rules allow is allowed again.
    Unpause,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TimelockCommand {
    /// Deploy a timelock. Then transfer contracts to it, and accept them with --timelock.
    #[command(after_help = "Example:\n  registrar timelock create --delay 2d")]
    Create {
        /// How long a change must be visible, such as 12h or 2d.
        #[arg(long, value_name = "TIME", value_parser = parse_span)]
        delay: u64,
        /// Who may propose, cancel, and tighten at once. The signer, if left out.
        #[arg(long, value_name = "ADDRESS")]
        proposer: Vec<Address>,
        /// Who may execute what has waited long enough. Everybody, if left out.
        #[arg(long, value_name = "ADDRESS")]
        executor: Vec<Address>,
    },
    /// List what waits, and from when on it can be executed. Any change with --timelock proposes.
    List,
    /// Execute a proposal that has waited long enough.
    Execute {
        /// Its id.
        id: B256,
    },
    /// Drop a proposal.
    Cancel {
        /// Its id.
        id: B256,
    },
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The bytes of the file are the truth: CVMs hash what they are given, and every white space
counts. --from writes an app-compose.json as dstack's SDKs do, with sorted keys and without
white space, and prints the hash of exactly these bytes. Other tools may write the same
document in other bytes; then its hash is another.

Examples:
  registrar hash app-compose.json
  registrar hash --from docker-compose.yml --name db --output app-compose.json")]
pub(crate) struct HashArguments {
    /// The app-compose.json, byte for byte as CVMs get it.
    #[arg(value_name = "APP-COMPOSE.JSON", required_unless_present = "from")]
    pub(crate) file: Option<PathBuf>,
    /// Build the app-compose.json from a Docker compose file.
    #[arg(long, value_name = "DOCKER-COMPOSE.YML", conflicts_with = "file", requires_all = ["name", "output"])]
    pub(crate) from: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) build: BuildArguments,
}

/// What goes into a document beside the Docker compose file.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "With --from")]
pub(crate) struct BuildArguments {
    /// Where the document is written. A file with other bytes is not overwritten.
    #[arg(long, value_name = "FILE", requires = "from")]
    pub(crate) output: Option<PathBuf>,
    /// The app's name.
    #[arg(long, requires = "from")]
    pub(crate) name: Option<String>,
    /// The CVM gets keys from the key management service.
    #[arg(long, requires = "from")]
    pub(crate) key_management: bool,
    /// The CVM registers with dstack's gateway by itself. Postern's sidecar needs no such help.
    #[arg(long, requires = "from")]
    pub(crate) gateway: bool,
    /// The containers' logs are public.
    #[arg(long, requires = "from")]
    pub(crate) public_logs: bool,
    /// The machine's load and the like are public.
    #[arg(long, requires = "from")]
    pub(crate) public_sysinfo: bool,
    /// The CVM waits for the time of trusted servers.
    #[arg(long, requires = "from")]
    pub(crate) secure_time: bool,
    /// An environment variable that may be set from outside. May be repeated; the order counts.
    #[arg(long, value_name = "NAME", requires = "from")]
    pub(crate) allow_env: Vec<String>,
    /// A shell script that runs before the containers.
    #[arg(long, value_name = "FILE", requires = "from")]
    pub(crate) pre_launch_script: Option<PathBuf>,
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

#[derive(Debug, Clone, Args)]
pub(crate) struct CreateArguments {
    /// Who may govern the app. The signer, if left out.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) owner: Option<Address>,
    /// A first compose hash to allow: the hash, or an app-compose.json.
    #[arg(long, value_name = "HASH|FILE")]
    pub(crate) compose: Option<Compose>,
    /// A first device to allow.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<DeviceId>,
    /// Allow every device.
    #[arg(long)]
    pub(crate) allow_any_device: bool,
    /// Refuse platforms whose TCB status is not UpToDate.
    #[arg(long)]
    pub(crate) require_tcb_up_to_date: bool,
    /// Make the contract final: nobody can ever replace its code.
    #[arg(long)]
    pub(crate) disable_upgrades: bool,
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
