//! The program `domo-sandbox`: the sandbox alone, or with a broker around one command.
//!
//! - `line_queue`: lines for an output that may not be read.
//! - `flags`: its arguments; on Unix, `run_flags`: those of `run`.
//! - `config`: configs for the broker.
//! - `default_scope_sets`: the scope sets that this broker has by default.
//! - `signals`: signals and children that ended.
//! - `keep_broker`: the process that starts the broker and stops it, whatever ends the program.
//! - `scope_sets_requested`: which scope sets the command requested in vain.
//! - `run_command`: a sandbox and a broker around one command.

mod line_queue;
#[cfg(unix)]
mod run_flags;
mod flags;
mod config;
#[cfg(unix)]
mod default_scope_sets;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod keep_broker;
#[cfg(unix)]
mod scope_sets_requested;
#[cfg(unix)]
mod run_command;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use self::line_queue::LineQueue;
#[cfg(unix)]
use self::run_flags::Command;
use crate::record::Recorded;

pub use self::flags::Flags;

/// The id of the default client.
pub const DEMO_ID: &str = "5a4db0c5-0000-4000-8000-000000000001";

/// The secret of the default client.
pub const DEMO_SECRET: &str = "domo-sandbox-secret";

/// `EX_OSERR` of sysexits.
const OS_ERROR: u8 = 71;

/// Where a line is printed for each token request.
static LOG: OnceLock<LineQueue> = OnceLock::new();

/// Runs until SIGINT or SIGTERM, or until the command of `run` has ended.
#[must_use]
pub fn run(flags: &Flags) -> ExitCode {
    #[cfg(unix)]
    let ended = match &flags.command {
        None => serve(flags).map(|()| 0),
        Some(Command::Run(flags)) => run_command::run(flags),
        Some(Command::KeepBroker(flags)) => keep_broker::keep(flags),
    };
    #[cfg(not(unix))]
    let ended = serve(flags).map(|()| 0);
    ExitCode::from(ended.unwrap_or_else(|error| {
        report(&error);
        OS_ERROR
    }))
}

/// Prints an error. If standard error is closed, the exit code remains.
fn report(error: &str) {
    let _ = writeln!(io::stderr(), "domo-sandbox: {error}");
}

fn serve(flags: &Flags) -> Result<(), String> {
    let builder = flags.sandbox.builder().port(flags.port);
    let sandbox = builder.https(flags.https).log(log).start();
    let sandbox = sandbox.map_err(|error| {
        let port = flags.port;
        format!("cannot listen on 127.0.0.1:{port}: {error}; choose another port with --port")
    })?;
    let mut trust = config::HTTP.to_owned();
    if let (Some(path), Some(pem)) = (&flags.ca_file, sandbox.ca_pem()) {
        let written = OpenOptions::new().write(true).create_new(true).open(path);
        let written = written.and_then(|mut file| file.write_all(pem.as_bytes()));
        written.map_err(|error| format!("cannot write the CA file {}: {error}", path.display()))?;
        trust = format!("ca_file = {:?}", path.display().to_string());
    }
    let url = sandbox.token_url();
    let clients = flags.sandbox.clients();
    let tables = config::client_tables(&clients, &url, &trust, config::one_scope);
    let text = format!("# Token endpoint: {url}\n# Config for domo-tokend, mode 0600:\n{tables}");
    let output = LineQueue::start(domo_token_stdout::write)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    // Printed after the handlers are installed: a reader may send a signal immediately.
    let ready = || {
        output.push(text);
        // Requests that arrived before are not logged: the config is the first output.
        LOG.set(output.clone()).ok();
    };
    let waited = wait_for_signal(ready);
    output.flush();
    waited.map_err(|error| format!("cannot install signal handlers: {error}"))
}

/// Prints one line for a token request, without its secret or token.
fn log(request: &Recorded) {
    let Some(output) = LOG.get() else {
        return;
    };
    output.push(format!(
        "# {:8.3} s  {} client {:?} scope {:?}: {}\n",
        request.at.as_secs_f64(),
        request.method,
        request.client_id.as_deref().unwrap_or("none"),
        request.scope.as_deref().unwrap_or("all"),
        request.status.unwrap_or_default(),
    ));
}

/// Calls `ready` once the handlers are installed, and waits for a signal.
#[cfg(unix)]
fn wait_for_signal(ready: impl FnOnce()) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        ready();
        tokio::select! {
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

#[cfg(not(unix))]
fn wait_for_signal(ready: impl FnOnce()) -> io::Result<()> {
    ready();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(tokio::signal::ctrl_c())
}
