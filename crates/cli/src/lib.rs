//! The helper `domo-token`: flags → client crate → standard output → exit code. The package `domo-token` has its program,
//! which calls [`main`].

mod advice;
mod args;
mod connect;
mod completions;
mod exec;
mod help;
mod messages;
#[doc(hidden)]
pub mod options;
mod output;
mod error;
mod reader;
#[cfg(unix)]
mod signals;
mod shell;
mod status;
#[doc(hidden)]
pub mod usage;
mod watch;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use domo_token_protocol::messages::RefusalKind;
use domo_token_stdout::help_columns;

use args::{Command, Get};
use error::{CONFIG, CliError, IO_ERROR, NO_PERMISSION, TEMPORARY, USAGE};
use options::Verb;

/// Runs `domo-token` with this process's arguments and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    // A write past the limit on file sizes (ulimit -f) fails then; exec's command has the default again.
    #[cfg(unix)]
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
    std::panic::set_hook(Box::new(error::end_on));
    #[cfg(unix)]
    signals::end_first_process();
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_none() {
        // With standard error closed the exit code still tells.
        let _told = io::stderr().write_all(help::of(Verb::Get, help_columns()).as_bytes());
        return ExitCode::from(USAGE);
    }
    let client = std::env::var_os("DOMO_TOKEN_CLIENT");
    let command = args::parse(arguments, client).map_err(|words| CliError::new(USAGE, words));
    let code = match command.and_then(run) {
        Ok(code) => ExitCode::from(code),
        Err(problem) => problem.tell(),
    };
    messages::finish();
    code
}

fn run(command: Command) -> Result<u8, CliError> {
    #[cfg(unix)]
    if let Command::Get(_) | Command::Explain { .. } | Command::Exec(_) | Command::Watch(_) =
        command
    {
        close_memory();
    }
    match command {
        Command::Get(get) => {
            let (_, token) = connect::token(&get)?;
            print(output::token(&token, &get).as_bytes())
        }
        Command::Explain { get, json } => explain(&get, json),
        Command::Exec(wanted) => {
            let (broker, token) = connect::token(&wanted.get)?;
            // Its connection isn't the command's.
            drop(broker);
            Err(exec::run(&wanted, &token))
        }
        Command::Watch(wanted) => watch::run(&wanted),
        Command::Status(wanted) => status::run(&wanted),
        Command::Metrics(socket) => metrics(socket.as_deref()),
        Command::Completions(shell) => print(completions::of(shell).as_bytes()),
        Command::Help(verb) => print(help::of(verb, help_columns()).as_bytes()),
        Command::Version => {
            print(concat!("domo-token ", env!("CARGO_PKG_VERSION"), "\n").as_bytes())
        }
    }
}

/// Keeps the token out of core files, and the memory from other processes of the same user. `execve`
/// makes the process dumpable again for `exec`'s command, which would inherit a limit on core files.
/// `--explain` has no token, but where `/proc` is mounted with `hidepid` the broker must see the same.
#[cfg(unix)]
fn close_memory() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // A sandbox that denies it must not cost the caller its token.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn explain(get: &Get, json: bool) -> Result<u8, CliError> {
    let (broker, given) = connect::with_retry(get, |broker| broker.explain(&get.scopes))?;
    let text = if json {
        output::explanation_json(&given, &broker.socket())
    } else {
        output::explanation(&given, &broker.socket())
    };
    print(text.as_bytes())?;
    Ok(match given.refused {
        None => 0,
        Some(RefusalKind::NotPermitted) => NO_PERMISSION,
        Some(RefusalKind::Unavailable | RefusalKind::Busy) => TEMPORARY,
        Some(_) => CONFIG,
    })
}

fn metrics(socket: Option<&Path>) -> Result<u8, CliError> {
    let text = connect::connect(socket).and_then(|broker| broker.metrics());
    print(text.map_err(|error| CliError::of(&error, ""))?.as_bytes())
}

/// Prints in one write where the system takes it whole.
fn print(text: &[u8]) -> Result<u8, CliError> {
    let written = domo_token_stdout::write(text);
    written.map(|()| 0).map_err(|error| cannot_print(&error))
}

fn cannot_print(error: &io::Error) -> CliError {
    CliError::new(
        IO_ERROR,
        format!("standard output can't be written: {error}"),
    )
}
