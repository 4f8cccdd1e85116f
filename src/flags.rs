//! What `domo-tokend` can be told on its command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use domo_token_stdout::help_columns;

use crate::config::VARIABLES;

/// Keeps Domo access tokens fresh and hands them to local processes.
///
/// Holds the credentials of Domo API clients, asks for a token for each configured scope set before
/// anyone needs it, renews it before it dies, and serves it on a Unix socket. Ask it with
/// domo-token. Runs in the foreground and logs to standard error.
#[derive(Debug, Parser)]
#[command(name = "domo-tokend", version, after_help = [AFTER_HELP, VARIABLES, REST_OF_HELP].concat())]
pub struct Flags {
    /// Config file; by default the first there is of those named below
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Socket to listen on, a path or unix:///PATH; by default the first place named below
    #[expect(clippy::doc_markdown, reason = "help would show the backticks")]
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
    /// Log level: error, warn, info, debug or trace; by default `RUST_LOG`, the config's, or info
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log: Option<String>,
    /// Form of log lines
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
    /// Leave the memory open to debuggers and core files, for finding bugs
    #[arg(long, global = true)]
    pub debuggable: bool,
    /// What to do; to serve when nothing is said
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

/// Adds the option or command that was meant where a word is none of the daemon's.
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
    // Whose option stands in the usage, too.
    if error.remove(ContextKind::SuggestedArg).is_some() {
        error.remove(ContextKind::Usage);
    }
    let tips = ContextValue::StyledStrs(vec![tip.into()]);
    error.insert(ContextKind::Suggested, tips);
    error
}

/// Whether a word looks like the path of a config.
fn is_file(word: &str) -> bool {
    let is_toml = Path::new(word).extension().is_some_and(|end| end == "toml");
    !word.starts_with('-') && (is_toml || word.contains(std::path::is_separator))
}

const ELSEWHERE: &str = "for tokens and their state: domo-token --help";

/// Words that are no options of the daemon, with what to do.
const OPTION_TIPS: &[(&[&str], &str)] = &[
    (
        &[
            "--client-secret",
            "--client-secret-file",
            "--secret",
            "--secret-file",
        ],
        "the secret is never an argument: domo-tokend init asks for it, or reads it as a line from \
         standard input",
    ),
    (
        &["--scope", "--scopes", "--token"],
        "to name a scope set: domo-tokend init --tokens SCOPES",
    ),
];

/// Words that are no commands of the daemon, with what to run.
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
        "completions exist for domo-token: domo-token completions SHELL",
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

/// What to run for the service.
#[cfg(not(windows))]
mod service {
    pub(super) const START: &str = "to start the service: systemctl start domo-tokend";
    pub(super) const STOP: &str = "to stop the service: systemctl stop domo-tokend";
    pub(super) const RESTART: &str = "to restart the service: systemctl restart domo-tokend";
    pub(super) const RELOAD: &str =
        "a changed config is reloaded automatically; to request it: systemctl reload domo-tokend";
    pub(super) const LOG: &str = "for the log of the service: journalctl -u domo-tokend";
}

/// What to do instead: there is no Windows service.
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

/// What there is besides serving.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Say whether the config and the credentials would do
    ///
    /// Exit: 0 all is right, 74 standard output can't be written, 75 Domo couldn't be reached or a
    /// secret command failed, 78 something is wrong.
    Check {
        /// Ask Domo for each token, once
        #[arg(long, conflicts_with_all = ["syntax", "schema"])]
        online: bool,
        /// Look at the config's text alone, and open no credential file
        #[arg(long, conflicts_with = "schema")]
        syntax: bool,
        /// Print the config's JSON Schema instead, for editors
        #[arg(long)]
        schema: bool,
    },
    /// Write a first config and secret file, once Domo has accepted the credentials
    ///
    /// Asks for the client id and the secret, or reads them as lines from standard input. Never
    /// overwrites. A rejection is confirmed by a second request after 5 s.
    ///
    /// Exit: 0 written, 74 written but standard output can't be, 75 Domo couldn't be reached, 78
    /// anything else.
    Init {
        /// The API client's name in the config
        #[arg(long, value_name = "NAME", default_value = "domo")]
        name: String,
        /// The client id
        #[arg(long, value_name = "ID")]
        client_id: Option<String>,
        /// A scope set to keep a token for, like "data user"; may be given again. Domo's scopes:
        /// account, audit, buzz, dashboard, data, user, workflow
        #[arg(long, value_name = "SCOPES", default_value = "data")]
        tokens: Vec<String>,
        /// Another endpoint than Domo's own
        #[arg(long, value_name = "URL")]
        token_url: Option<String>,
        /// HTTP proxy to go through: scheme, host and port. The proxy variables of the environment are
        /// not used
        #[arg(long, value_name = "URL")]
        proxy: Option<String>,
        /// File with the login for the proxy, one line USER:PASSWORD, mode 0600
        #[arg(long, value_name = "FILE")]
        proxy_auth_file: Option<PathBuf>,
        /// PEM file with CA certificates to trust besides the system's, as where a proxy intercepts TLS
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        /// Write the files without a request to Domo
        #[arg(long)]
        offline: bool,
    },
}

/// The form of log lines.
#[expect(missing_docs, reason = "help would show them at length")]
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

// Each paragraph is one line, which clap wraps.
const AFTER_HELP: &str = "\
Config file: --config, $DOMO_TOKEN_CONFIG, $CONFIGURATION_DIRECTORY/config.toml, \
${XDG_CONFIG_HOME:-~/.config}/domo-token/config.toml, /etc/domo-token/config.toml.
Socket: --socket, $DOMO_TOKEN_SOCKET, [broker] socket, or broker.sock in $RUNTIME_DIRECTORY, \
/run/domo-token (as root) or $XDG_RUNTIME_DIR/domo-token.
On Windows: %ProgramData%\\domo-token\\config.toml, and the pipe \\\\.\\pipe\\domo-token.

Without a config file the environment configures one client named \"default\":
";

const REST_OF_HELP: &str = "
A config file, which domo-tokend init writes:
  [clients.acme]
  client_id = \"441e307a-…\"
  client_secret_file = \"acme.secret\"     # mode 0600
  tokens = [\"data\", \"data user\"]

Signals: SIGTERM and SIGINT end it, and so does the end of its terminal. SIGHUP reads the config \
and the secrets again, keeps what has not changed, and tries immediately what Domo rejected; a \
wrong config changes nothing.
Exit: 0 stopped, 2 usage, 70 a bug, 75 another daemon serves the socket, the socket is lost, the \
host lacks room or nobody reads the audit's pipe, 78 config, path or inherited socket, or no client \
can be loaded; one that can't be loaded leaves the others as they are. check and init say theirs in \
their help";
