//! The definition of the command line. Arguments are parsed by it; help, completions and the man page are
//! made from it.

#![expect(clippy::doc_markdown, reason = "help would show the backticks")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use domo_token_protocol::messages::Renew;

use crate::option_values as values;

/// Domo's scopes, for shells to offer. Others are accepted as well: the broker's config decides.
pub(crate) const SCOPES: &[&str] = &[
    "data",
    "user",
    "audit",
    "account",
    "buzz",
    "dashboard",
    "workflow",
];

/// All verbs, in the order of the help.
pub(crate) const VERBS: [&str; 7] = [
    "get",
    "exec",
    "watch",
    "status",
    "completions",
    "version",
    "help",
];

/// Print a Domo access token that domo-tokend keeps fresh
///
/// All SCOPE words together are one scope set: `domo-token data user` is one token for both. Standard
/// output is the token alone. Without a token there is one line on standard error and an exit code.
///
/// A first word that reads as a command, such as `list`, is an error, and so is a later one with `/` or
/// `=`. After `get` every word is a scope: `domo-token get list`.
#[derive(Debug, Parser)]
#[command(
    name = "domo-token",
    version,
    propagate_version = true,
    subcommand_value_name = "COMMAND",
    override_usage = "domo-token [get] [OPTIONS] SCOPE...\n       domo-token COMMAND",
    after_help = AFTER_GET,
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) get: GetArgs,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What the helper does.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Print a token; every word is a scope
    #[command(override_usage = "domo-token get [OPTIONS] SCOPE...", after_help = AFTER_GET)]
    Get(GetArgs),
    /// Run a command with a token, without a process in between
    ///
    /// Without a token the command is not run. The token is not renewed: a command that outlives it
    /// requests another one itself.
    #[command(
        override_usage = "domo-token exec [--env NAME | --fd N] [OPTIONS] SCOPE... -- COMMAND...",
        after_help = AFTER_EXEC,
    )]
    Exec(ExecArgs),
    /// Print each new token, or keep the current one in a file
    ///
    /// The first token is obtained as by domo-token get, and failures are the same. After that watch
    /// continues across restarts of the broker, and reports on standard error while there is no token.
    ///
    /// FILE is absent at first, or a regular file, which is replaced; it is written again within 2 s if
    /// it is deleted. When a new token can't be written, the last one stays until it expires, and
    /// writing is retried. FILE is removed when its token expires and when watch ends, also by SIGTERM,
    /// SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM or SIGXCPU.
    #[command(
        override_usage = "domo-token watch [--to FILE] [--mode MODE] [OPTIONS] SCOPE...",
        after_help = AFTER_WATCH,
    )]
    Watch(WatchArgs),
    /// Show the state of the broker and of each scope set; never a token
    ///
    /// Here each SCOPE is a scope set: quote one of several scopes, as in "data user".
    #[command(
        override_usage = "domo-token status [-q | --metrics] [--json] [--watch] [SCOPE...]",
        after_help = AFTER_STATUS,
    )]
    Status(StatusArgs),
    /// Print the completions of a shell
    #[command(override_usage = "domo-token completions SHELL", after_help = AFTER_COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print the version
    #[command(override_usage = "domo-token version")]
    Version(Common),
}

#[derive(Debug, PartialEq, Args)]
pub(crate) struct Common {
    /// Socket of the broker, a path or unix:///PATH [default: $DOMO_TOKEN_SOCKET, else the user's own,
    /// $XDG_RUNTIME_DIR/domo-token/broker.sock, if that or ~/.config/domo-token/config.toml exists, else
    /// /run/domo-token/broker.sock; on Windows \\.\pipe\domo-token]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    #[arg(value_parser = OsStringValueParser::new().try_map(|path| values::socket(&path)))]
    pub(crate) socket: Option<PathBuf>,
    /// Colours in the table of status; auto: on a terminal, unless $NO_COLOR is set or $TERM is dumb
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// The options of the verbs that get a token.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// API client of the broker's config [default: $DOMO_TOKEN_CLIENT, or the config's default_client]
    #[arg(short, long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) client: Option<String>,
    /// Form of the token [default: token; json if watch prints it]
    #[arg(short = 'o', long)]
    pub(crate) format: Option<Format>,
    /// End the token without a newline, where it is printed, at --fd or in the file of --to
    #[arg(short, long)]
    pub(crate) no_newline: bool,
    /// Fail unless the token is valid for at least this long; watch renews in time for that
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(crate) min_ttl: Option<Duration>,
    /// Fail if there is no token after this long, at most 10m
    #[arg(long, value_name = "TIME", value_parser = values::timeout, default_value = "10s")]
    pub(crate) timeout: Duration,
    /// Until the timeout, wait for a broker that isn't running and for Domo
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(value_name = "SCOPE", hide = true)]
    pub(crate) scopes: Vec<String>,
    #[arg(last = true, value_name = "COMMAND", hide = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) token: TokenArgs,
    /// Replace the token: Domo rejected the current one, or the one of that generation
    #[arg(long, value_name = "GENERATION", value_parser = values::renew)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "current")]
    pub(crate) renew: Option<Renew>,
    /// Print what the broker decides for this process, and by which rule, instead of a token
    #[arg(long, conflicts_with_all = ["format", "no_newline", "min_ttl", "renew"])]
    pub(crate) explain: bool,
    /// With --explain, print one object: broker (its socket), peer (this process as the broker sees it),
    /// client, scope, allowed, rule, and kind if it is denied. Fields are only ever added
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Variable that holds the token [default: DOMO_ACCESS_TOKEN]
    #[arg(long, value_name = "NAME", value_parser = values::variable, conflicts_with = "fd")]
    pub(crate) env: Option<String>,
    /// Descriptor that the command reads the token from, in the form of --format: 0 is standard input,
    /// else from 3 on. The token is then not in the environment, which every child inherits. Not on
    /// Windows
    #[arg(long, value_name = "N", value_parser = values::descriptor)]
    pub(crate) fd: Option<i32>,
    /// Replace the token: Domo rejected the current one, or the one of that generation
    #[arg(long, value_name = "GENERATION", value_parser = values::renew)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "current")]
    pub(crate) renew: Option<Renew>,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Keep the token in FILE: replaced in one piece, on disk before it is seen, and removed when its
    /// token expires without a successor or when watch ends
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) to: Option<PathBuf>,
    /// Mode of that file, from 0600 to 0666 [default: 0600]
    #[arg(long, value_parser = values::mode)]
    pub(crate) mode: Option<u32>,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, PartialEq, Args)]
pub(crate) struct StatusArgs {
    /// Print nothing; the exit code is the state
    #[arg(short, long, conflicts_with_all = ["json", "watch"])]
    pub(crate) quiet: bool,
    /// Print JSON; times are seconds since 1970, and fields are only ever added
    #[arg(long)]
    pub(crate) json: bool,
    /// Continue: a terminal shows the state in place, each second; a pipe or file gets it when something
    /// has changed, with --json as a line
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print the metrics of the broker instead, as Prometheus text
    #[arg(long, conflicts_with_all = ["quiet", "json", "watch", "scopes"])]
    pub(crate) metrics: bool,
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(value_name = "SCOPE", hide = true)]
    pub(crate) scopes: Vec<String>,
    #[arg(last = true, value_name = "COMMAND", hide = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Option<Shell>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// The form in which a token is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The bare token
    Token,
    /// Authorization: Bearer TOKEN, for curl -H @FILE
    Header,
    /// header = "Authorization: Bearer TOKEN", for curl -K -
    Curl,
    /// One object: access_token, token_type, expires_at (seconds since 1970), expires_in (seconds), scope
    /// (as granted), client, generation, broker (its socket). Fields are only ever added
    Json,
    /// DOMO_ACCESS_TOKEN=TOKEN, for files of variables
    Env,
    /// A line for eval in sh, bash and zsh (export DOMO_ACCESS_TOKEN='TOKEN')
    Export,
    /// A line for Invoke-Expression ($env:DOMO_ACCESS_TOKEN = 'TOKEN')
    #[value(name = "powershell")]
    PowerShell,
    /// A line for source in fish (set -gx DOMO_ACCESS_TOKEN 'TOKEN')
    Fish,
}

/// When the table has colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// A shell that completions are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

const AFTER_GET: &str = "\
Examples:
  domo-token exec --fd 3 --format header data -- \\
    curl -fsS -H @/dev/fd/3 https://api.domo.com/v1/datasets
  domo-token --format curl data |
    curl -fsS -K - https://api.domo.com/v1/datasets
  token=$(domo-token data) || exit

The first two keep the token out of argv, which every user of the machine can read. Without a token the \
first runs nothing; the second sends a request that Domo rejects, and curl ends with 22.

Exit:
  0   a token
  2   usage
  69  no broker
  70  a bug
  74  standard output can't be written
  75  not now: Domo can't be reached, the broker is busy, or the time is up
  76  no common protocol version
  77  not permitted
  78  unknown client or scope set, or Domo rejects the credentials or the scopes";

const AFTER_EXEC: &str = "\
Examples:
  domo-token exec data -- python3 report.py
  domo-token exec --fd 3 --format header data -- \\
    curl -fsS -H @/dev/fd/3 https://api.domo.com/v1/datasets

Exit: the command's own; without a token that of domo-token get.
  126  the command can't be run
  127  there is no such command";

const AFTER_WATCH: &str = "\
Examples:
  domo-token watch --to /run/report/token --format header data &
  domo-token watch data | while read -r line; do …; done

Exit: before the first token that of domo-token get.
  74  standard output or FILE can't be written, or, without a message, standard output has no reader any more
  77  no longer permitted
  78  the scope set was removed; while Domo rejects it watch continues, without a token";

const AFTER_STATUS: &str = "\
Example:
  domo-token status -q data || echo 'no token for data' >&2

Exit: that of domo-token get if the broker can't be asked.
  0   every set that you may see has a valid token
  74  standard output can't be written, or, without a message, --watch has no reader any more
  75  one has none
  78  one has none and Domo rejects it, or there is no such set";

const AFTER_COMPLETIONS: &str = "\
Examples:
  source <(domo-token completions bash)  # in ~/.bashrc, or ~/.zshrc with zsh
  domo-token completions fish | source   # in config.fish";
