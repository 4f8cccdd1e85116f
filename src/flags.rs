//! The command line of `domo-tokend`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use domo_token_stdout::help_columns;

use crate::config::VARIABLES;

/// Lists global options after those of a command.
const GLOBAL: usize = 500;

/// Keep Domo access tokens fresh and serve them to local processes.
///
/// The daemon holds the credentials of Domo API clients, requests a token for each configured scope set
/// before it is needed, renews it before it expires, and serves it on a Unix socket (on Windows, a named
/// pipe). It runs in the foreground and logs to standard error. To get a token, use domo-token.
#[derive(Debug, Parser)]
#[command(name = "domo-tokend", version, after_help = [AFTER_HELP, VARIABLES, REST_OF_HELP].concat())]
pub struct Flags {
    /// Read the config from FILE [default: see FILES]
    #[arg(long, value_name = "FILE", global = true, display_order = GLOBAL)]
    pub config: Option<PathBuf>,
    /// Listen on this socket, a path or unix:///PATH [default: see FILES]
    #[expect(clippy::doc_markdown, reason = "help would show the backticks")]
    #[arg(long, value_name = "PATH", global = true, display_order = GLOBAL)]
    pub socket: Option<PathBuf>,
    /// Log lines of this level and above: error, warn, info, debug or trace [default: $RUST_LOG,
    /// log.level of the config, or info]
    #[expect(clippy::doc_markdown, reason = "help would show the backticks")]
    #[arg(long, value_name = "LEVEL", global = true, display_order = GLOBAL)]
    pub log: Option<String>,
    /// Write log lines in this format
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true, display_order = GLOBAL)]
    pub log_format: LogFormat,
    /// Permit debuggers and core dumps, which can read the secrets in memory
    #[arg(long, global = true, display_order = GLOBAL)]
    pub debuggable: bool,
    /// The command; without one the daemon runs
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

impl Flags {
    /// Reads the command line of this process.
    ///
    /// # Errors
    ///
    /// A wrong command line, or the text of `--help` or `--version`, which is for standard output.
    pub fn read() -> Result<Self, clap::Error> {
        Self::parse_words(std::env::args_os()).map_err(with_tip)
    }

    /// Parses with help in the terminal's columns.
    fn parse_words(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command().term_width(help_columns());
        let matches = command.try_get_matches_from_mut(words)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// Adds a tip to the error about a word that is not an option or a command of the daemon.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let kind = if error.kind() == ErrorKind::InvalidSubcommand {
        ContextKind::InvalidSubcommand
    } else if error.kind() == ErrorKind::UnknownArgument {
        ContextKind::InvalidArg
    } else {
        return error;
    };
    let Some(ContextValue::String(word)) = error.get(kind) else {
        return error;
    };
    let tip = if is_file(word) {
        Some(format!(
            "a config file is an option's value: --config {word}"
        ))
    } else if kind == ContextKind::InvalidArg {
        let mut tips = OPTION_TIPS.iter();
        let known = tips.find(|(words, _)| words.contains(&word.as_str()));
        known.map(|(_, tip)| (*tip).to_owned())
    } else {
        let mut tips = TIPS.iter();
        let known = tips.find(|(words, _)| words.contains(&word.as_str()));
        let is_slip = error.get(ContextKind::SuggestedSubcommand).is_some();
        let tip = known.map(|(_, tip)| *tip);
        tip.or((!is_slip).then_some(ELSEWHERE)).map(str::to_owned)
    };
    let Some(tip) = tip else {
        return error;
    };
    error.remove(ContextKind::SuggestedSubcommand);
    // The usage names the command of that option.
    if error.remove(ContextKind::SuggestedArg).is_some() {
        error.remove(ContextKind::Usage);
    }
    let tips = ContextValue::StyledStrs(vec![tip.into()]);
    error.insert(ContextKind::Suggested, tips);
    error
}

/// Returns whether a word looks like the path of a config.
fn is_file(word: &str) -> bool {
    let is_toml = Path::new(word).extension().is_some_and(|end| end == "toml");
    !word.starts_with('-') && (is_toml || word.contains(std::path::is_separator))
}

const ELSEWHERE: &str = "for tokens and their state: domo-token --help";

/// Tips for words that are not options of the daemon.
const OPTION_TIPS: &[(&[&str], &str)] = &[
    (
        &[
            "--client-secret",
            "--client-secret-file",
            "--secret",
            "--secret-file",
        ],
        "the secret is never an argument; to enter it at a prompt or on standard input: domo-tokend init",
    ),
    (
        &["--scope", "--scopes", "--token"],
        "to name a scope set: domo-tokend init --tokens SCOPES",
    ),
];

/// Tips for words that are not commands of the daemon.
const TIPS: &[(&[&str], &str)] = &[
    (
        &["run", "serve", "daemon", "foreground"],
        "without a command the daemon runs in the foreground: domo-tokend",
    ),
    (&["start", "service", "enable"], service::START),
    (&["stop"], service::STOP),
    (&["restart"], service::RESTART),
    (&["reload", "refresh"], service::RELOAD),
    (
        &["status", "list", "ls", "show", "ping", "health", "tokens"],
        "for the state of the daemon and its tokens: domo-token status",
    ),
    (&["metrics"], "for the metrics: domo-token status --metrics"),
    (&["version"], "for the version: domo-tokend --version"),
    (
        &["completions", "completion"],
        "only domo-token has completions: domo-token completions SHELL",
    ),
    (
        &["watch"],
        "to print each new token: domo-token watch SCOPE...",
    ),
    (
        &["get", "token", "data", "user"],
        "to print a token: domo-token SCOPE...",
    ),
    (
        &["exec"],
        "to run a command with a token: domo-token exec SCOPE... -- COMMAND...",
    ),
    (
        &["renew"],
        "to replace a token: domo-token get --renew SCOPE...",
    ),
    (
        &["config", "validate", "verify", "test", "doctor"],
        "to validate the config and the credentials: domo-tokend check",
    ),
    (
        &["login", "setup", "configure", "add"],
        "to write a first config: domo-tokend init",
    ),
    (&["log", "logs"], service::LOG),
];

/// Commands for the service.
#[cfg(not(windows))]
mod service {
    pub(super) const START: &str = "to start the service: systemctl start domo-tokend";
    pub(super) const STOP: &str = "to stop the service: systemctl stop domo-tokend";
    pub(super) const RESTART: &str = "to restart the service: systemctl restart domo-tokend";
    pub(super) const RELOAD: &str =
        "a changed config is reloaded automatically; to request it: systemctl reload domo-tokend";
    pub(super) const LOG: &str = "for the log of the service: journalctl -u domo-tokend";
}

/// Alternatives to a service: there is none for Windows.
#[cfg(windows)]
mod service {
    pub(super) const START: &str =
        "there is no Windows service; to run the daemon in the foreground: domo-tokend";
    pub(super) const STOP: &str = "to stop the daemon: press Ctrl-C in its console";
    pub(super) const RESTART: &str =
        "to restart the daemon: press Ctrl-C in its console, then run: domo-tokend";
    pub(super) const RELOAD: &str = "a changed config is reloaded automatically";
    pub(super) const LOG: &str = "the daemon logs to standard error, in its console";
}

/// The commands besides running the daemon.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Validate the configuration and the credentials
    ///
    /// Exit status: 0 valid, 74 standard output cannot be written, 75 Domo or the store of the
    /// fleet cannot be used now or a secret command failed, 78 not valid.
    Check {
        /// Request each token from Domo once, and test the store of the fleet
        #[arg(long, conflicts_with_all = ["syntax", "schema"])]
        online: bool,
        /// Validate only the text of the config, without opening credential files
        #[arg(long, conflicts_with = "schema")]
        syntax: bool,
        /// Print the JSON Schema of the config, for editors, and check nothing
        #[arg(long)]
        schema: bool,
    },
    /// Write a first config and secret file after testing the credentials
    ///
    /// Prompts for the client id and the secret, or reads them as lines from standard input. Never
    /// overwrites a file. A rejection by Domo is confirmed by a second request after 5 s.
    ///
    /// Exit status: 0 written, 74 written but standard output cannot be written, 75 Domo cannot be
    /// reached, 78 any other error.
    Init {
        /// Set the API client's name in the config
        #[arg(long, value_name = "NAME", default_value = "domo")]
        name: String,
        /// Set the client id [default: read from the terminal or standard input]
        #[arg(long, value_name = "ID")]
        client_id: Option<String>,
        /// Keep a token for this scope set, like "data user"; may be repeated. Domo's scopes: account,
        /// audit, buzz, dashboard, data, user, workflow
        #[arg(long, value_name = "SCOPES", default_value = "data")]
        tokens: Vec<String>,
        /// Request tokens from this URL [default: https://api.domo.com/oauth/token]
        #[expect(
            clippy::doc_markdown,
            rustdoc::bare_urls,
            reason = "help would show the brackets"
        )]
        #[arg(long, value_name = "URL")]
        token_url: Option<String>,
        /// Connect through this HTTP proxy: scheme, host and port. The proxy variables of the
        /// environment are not used
        #[arg(long, value_name = "URL")]
        proxy: Option<String>,
        /// Read the proxy's login from FILE: one line USER:PASSWORD, mode 0600
        #[arg(long, value_name = "FILE")]
        proxy_auth_file: Option<PathBuf>,
        /// Trust the CA certificates in the PEM file FILE in addition to the system's, for example
        /// where a proxy intercepts TLS
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        /// Write the files without a request to Domo
        #[arg(long)]
        offline: bool,
    },
    /// Add, list, rotate or remove the applications of the gateway
    App {
        /// What to do with them
        #[command(subcommand)]
        verb: AppVerb,
    },
}

/// What to do with the applications of the gateway.
#[derive(Debug, Subcommand)]
pub enum AppVerb {
    /// Create an application's secret and print it once
    ///
    /// Writes the secret's SHA-256 hash to a file beside the config, prints the secret to standard output, and
    /// the table for the config to standard error. Creates this host's key if it is missing. Never edits the
    /// config, and refuses an application that has a secret. Root gives the files to the group of the service.
    ///
    /// Exit status: 0 written, 74 not written because standard output cannot be written, 78 any other error.
    Add {
        /// The application's name: letters, digits, '.', '_' and '-'
        #[arg(value_name = "NAME")]
        name: String,
        /// Write the secret to FILE, mode 0600, instead of standard output. FILE must not exist
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
    /// List the applications, with their clients and the number of their secrets
    ///
    /// Also lists applications that have a hash file beside the config and no table in it. Needs no running
    /// daemon.
    ///
    /// Exit status: 0 listed, 74 standard output cannot be written, 78 any other error.
    List,
    /// Create another secret for an application; the previous one stays valid
    ///
    /// Prints the new secret like add. An application has at most two secrets: of two, the older one becomes
    /// invalid. To make all secrets invalid immediately, run remove, then add.
    ///
    /// Exit status: 0 written, 74 not written because standard output cannot be written, 78 any other error.
    Rotate {
        /// The application's name
        #[arg(value_name = "NAME")]
        name: String,
        /// Write the secret to FILE, mode 0600, instead of standard output. FILE must not exist
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// End a rotation: remove the older of two secrets, and create none
        #[arg(long, conflicts_with = "secret_file")]
        finish: bool,
    },
    /// Make all secrets of an application invalid
    ///
    /// Empties the hash file. Local tokens that were issued for the secrets become invalid as well.
    ///
    /// Exit status: 0 removed, 78 any error.
    Remove {
        /// The application's name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// The format of log lines.
#[expect(missing_docs, reason = "help would show them at length")]
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

// Each paragraph is one line, which clap wraps.
const AFTER_HELP: &str = "\
FILES
Config file, in order of precedence: --config, $DOMO_TOKEN_CONFIG, \
$CONFIGURATION_DIRECTORY/config.toml, ${XDG_CONFIG_HOME:-~/.config}/domo-token/config.toml, \
/etc/domo-token/config.toml.
Socket, in order of precedence: --socket, $DOMO_TOKEN_SOCKET, [broker] socket, or broker.sock in \
$RUNTIME_DIRECTORY, /run/domo-token (as root) or $XDG_RUNTIME_DIR/domo-token.
On Windows: %ProgramData%\\domo-token\\config.toml, and the pipe \\\\.\\pipe\\domo-token.

ENVIRONMENT
Without a config file, these variables configure one client named \"default\":
";

const REST_OF_HELP: &str = "
EXAMPLE
A config file as domo-tokend init writes it:
  [clients.acme]
  client_id = \"441e307a-…\"
  client_secret_file = \"acme.secret\"     # mode 0600
  tokens = [\"data\", \"data user\"]

SIGNALS
SIGTERM and SIGINT stop the daemon, as does the end of its terminal. SIGHUP reloads the config and \
the secrets: unchanged clients keep their tokens, and what Domo rejected is retried immediately. If \
the config is invalid, the previous one stays in use.

EXIT STATUS
0 stopped; 2 usage error; 70 bug; 75 another daemon serves the socket, the socket was lost, the host \
is out of resources, or the audit pipe has no reader; 78 invalid config, path or inherited socket, or \
no client could be loaded. A client that cannot be loaded does not affect the others. For check, \
init and app, see their --help.";
