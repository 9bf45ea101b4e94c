//! The arguments of `registrar hash`.

use std::path::PathBuf;

use clap::Args;

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
