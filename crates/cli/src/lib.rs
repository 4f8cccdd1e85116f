//! The helper `domo-token`: arguments → client crate → standard output → exit code. The program in the package
//! `domo-token` calls [`main`].

mod exit_code;
mod shell_quote;
mod stderr;
#[cfg(unix)]
mod signals;
#[doc(hidden)]
pub mod options;
#[doc(hidden)]
pub mod usage;
mod args;
mod help;
mod completions;
mod connect_advice;
mod error;
mod stdout;
mod output;
mod connect;
mod retry;
mod exec;
mod status;
mod watch;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use domo_token_stdout::help_columns;

use args::{Command, Get};
use error::CliError;
use exit_code::USAGE;
use options::Verb;
use stdout::print;

/// Runs `domo-token` with this process's arguments and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    // With a handler, a write past the limit on file sizes (ulimit -f) fails. exec's command has the default action.
    #[cfg(unix)]
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
    std::panic::set_hook(Box::new(error::exit_on_panic));
    #[cfg(unix)]
    signals::end_first_process();
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_none() {
        // If standard error is closed, the exit code remains.
        let _ = io::stderr().write_all(help::of(Verb::Get, help_columns()).as_bytes());
        return ExitCode::from(USAGE);
    }
    let client = std::env::var_os("DOMO_TOKEN_CLIENT");
    let command = args::parse(arguments, client).map_err(|message| CliError::new(USAGE, message));
    let code = match command.and_then(run) {
        Ok(code) => ExitCode::from(code),
        Err(error) => error.report(),
    };
    stderr::finish();
    code
}

fn run(command: Command) -> Result<u8, CliError> {
    #[cfg(unix)]
    if let Command::Get(_) | Command::Explain { .. } | Command::Exec(_) | Command::Watch(_) =
        command
    {
        protect_memory();
    }
    match command {
        Command::Get(get) => {
            let (_, token) = retry::token(&get)?;
            print(output::token(&token, &get).as_bytes())
        }
        Command::Explain { get, json } => explain(&get, json),
        Command::Exec(args) => {
            let (broker, token) = retry::token(&args.get)?;
            // The command must not inherit its connection.
            drop(broker);
            Err(exec::run(&args, &token))
        }
        Command::Watch(args) => watch::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Metrics(socket) => metrics(socket.as_deref()),
        Command::Completions(shell) => print(completions::of(shell).as_bytes()),
        Command::Help(verb) => print(help::of(verb, help_columns()).as_bytes()),
        Command::Version => {
            print(concat!("domo-token ", env!("CARGO_PKG_VERSION"), "\n").as_bytes())
        }
    }
}

/// Makes the process not dumpable: no core file contains the token, and other processes of the same user
/// cannot read the memory. `execve` makes it dumpable again for `exec`'s command, which would inherit a
/// limit on core files. `--explain` has no token, but with `hidepid` on `/proc` the broker must find the
/// same process attributes as for `get`.
#[cfg(unix)]
fn protect_memory() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // If a sandbox denies it, the caller still gets its token.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn explain(get: &Get, json: bool) -> Result<u8, CliError> {
    let (broker, explanation) = retry::with_retry(get, |broker| broker.explain(&get.scopes))?;
    let text = if json {
        output::explanation_json(&explanation, &broker.socket())
    } else {
        output::explanation(&explanation, &broker.socket())
    };
    print(text.as_bytes())?;
    Ok(explanation.denied.map_or(0, exit_code::of_kind))
}

fn metrics(socket: Option<&Path>) -> Result<u8, CliError> {
    let text = connect::connect(socket).and_then(|broker| broker.metrics());
    print(text.map_err(|error| CliError::of(&error, ""))?.as_bytes())
}
