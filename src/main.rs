//! `domo-tokend`: flags → config → logging → [`daemon::run`] → exit code.

use std::env::var_os;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use domo_token::daemon::{self, DaemonError, Options};
use domo_token::logging::{self, Format};
use domo_token::signals;

/// Wrong usage, as clap has it too.
const USAGE: u8 = 2;

/// What should not happen.
const BUG: u8 = 70;

/// Keeps Domo access tokens fresh and hands them to local processes.
///
/// Holds the credentials of Domo API clients, asks for a token for each configured scope set before
/// anyone needs it, renews it before it dies, and serves it on a Unix socket. Ask it with
/// domo-token. Runs in the foreground and logs to standard error.
#[derive(Debug, Parser)]
#[command(name = "domo-tokend", version, after_help = AFTER_HELP)]
struct Flags {
    /// Config file; by default the first there is of those named below
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Socket to listen on; by default the first place named below
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Log level: error, warn, info, debug or trace; by default `RUST_LOG`, the config's, or info
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Form of log lines
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

const AFTER_HELP: &str = "\
Config file: --config, $DOMO_TOKEN_CONFIG, $CONFIGURATION_DIRECTORY/config.toml,
${XDG_CONFIG_HOME:-~/.config}/domo-token/config.toml, /etc/domo-token/config.toml.
Socket: --socket, $DOMO_TOKEN_SOCKET, [broker] socket, or broker.sock in $RUNTIME_DIRECTORY,
/run/domo-token (as root) or $XDG_RUNTIME_DIR/domo-token.

Without a config file the environment configures one client named \"default\":
  DOMO_CLIENT_ID, DOMO_CLIENT_SECRET or DOMO_CLIENT_SECRET_FILE,
  DOMO_SCOPE (sets parted by ';', default \"data\"), DOMO_TOKEN_URL, DOMO_CA_FILE, DOMO_PROXY

A config file:
  [clients.acme]
  client_id = \"441e307a-…\"
  client_secret_file = \"acme.secret\"     # mode 0600
  tokens = [\"data\", \"data user\"]

Signals: SIGTERM and SIGINT end it. SIGHUP reads the config and the secrets again, keeps what
has not changed, and tries at once what Domo refused; a wrong config leaves all as it was.
Exit: 0 stopped, 2 usage, 70 a bug, 75 another daemon serves the socket, 78 config,
credentials or path";

fn main() -> ExitCode {
    let flags = Flags::parse();
    let options = Options {
        config: flags.config,
        socket: flags.socket,
    };
    let format = match flags.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let config = match daemon::load_config(&options, &|name| var_os(name)) {
        Ok(config) => config,
        Err(error) => return fail(&error, error.exit_code()),
    };
    let rust_log = std::env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.is_empty());
    let level = config.log_level.as_deref();
    match logging::filter(flags.log.as_deref(), rust_log.as_deref(), level) {
        Ok(filter) => logging::start(filter, format, var_os("JOURNAL_STREAM").is_some()),
        Err(error) => return fail(&error, USAGE),
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, BUG),
    };
    let ended: Result<(), Ended> = runtime.block_on(async {
        let signals = signals::listen().map_err(Ended::Signals)?;
        let env = |name: &str| var_os(name);
        daemon::run(config, &options, &env, signals, |_| {})
            .await
            .map_err(Ended::Start)
    });
    // A lookup of a host name that hangs on must not hold the exit up.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::Start(error)) => fail(&error, error.exit_code()),
        Err(Ended::Signals(error)) => fail(&error, BUG),
    }
}

enum Ended {
    Signals(std::io::Error),
    Start(DaemonError),
}

fn fail(error: &impl std::fmt::Display, code: u8) -> ExitCode {
    // With standard error closed the exit code still tells.
    let _told = writeln!(std::io::stderr(), "domo-tokend: {error}");
    ExitCode::from(code)
}
