//! The arguments of `domo-sandbox run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use domo_token_protocol::scope::ScopeSet;

use super::flags::SandboxFlags;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Run(RunFlags),
    #[command(hide = true)]
    KeepBroker(KeepBrokerFlags),
}

/// Run a command with a sandbox and a broker of its own
#[derive(Debug, Args)]
#[command(max_term_width = 100, after_help = AFTER_RUN_HELP)]
pub(super) struct RunFlags {
    /// Hold tokens for these scope sets, separated by semicolons [default: each scope alone, and common combinations]
    #[arg(long, value_name = "SCOPES;SCOPES", value_delimiter = ';', value_parser = scope_set)]
    pub(super) tokens: Vec<ScopeSet>,
    #[command(flatten)]
    pub(super) sandbox: SandboxFlags,
    /// Serve HTTPS; a variable of the command names the file with the CA's certificate
    #[arg(long)]
    pub(super) https: bool,
    /// Use this daemon [default: domo-tokend beside domo-sandbox, else in $PATH]
    #[arg(long, value_name = "FILE")]
    pub(super) tokend: Option<PathBuf>,
    /// Print the log of the broker and of the sandbox on standard error
    #[arg(long, conflicts_with = "log")]
    pub(super) verbose: bool,
    /// Append the log of the broker and of the sandbox to FILE
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// The command to run, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

/// Start a broker, and stop it when standard input ends
#[derive(Debug, Args)]
pub(super) struct KeepBrokerFlags {
    pub(super) directory: PathBuf,
    pub(super) tokend: PathBuf,
}

const AFTER_RUN_HELP: &str = "\
The command starts when the broker has a token, or a first error, for each scope
set. It inherits the environment, without DOMO_TOKEN_CLIENT and
DOMO_TOKEN_CONFIG, and with these variables:
  DOMO_TOKEN_SOCKET     The broker's socket; domo-token and the client libraries use it
  DOMO_SANDBOX_URL      The base URL of the API, such as http://127.0.0.1:40123
  DOMO_SANDBOX_CA_FILE  With --https, the CA's certificate

SIGHUP, SIGINT, SIGQUIT and SIGTERM are forwarded to the command. When it ends, the
sandbox and the broker stop, and their files are removed.

Examples:
  domo-sandbox run -- pytest
  domo-sandbox run -- bash -c 'domo-token data | wc -c'
  domo-sandbox run --tokens 'data;data user' --lifetime 20s -- domo-token status
  domo-sandbox run --fail 503 -- domo-token --timeout 2s data

Exit codes:
  2    Usage error
  71   The sandbox or the broker cannot start
  126  The command cannot be run
  127  The command is not found
  Otherwise that of the command, or 128 plus the signal that ended it";

fn scope_set(text: &str) -> Result<ScopeSet, String> {
    ScopeSet::parse(text).map_err(|error| error.to_string())
}
