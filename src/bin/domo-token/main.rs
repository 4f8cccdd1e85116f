//! `domo-token`: flags → client crate → standard output → exit code.

mod args;
mod completions;
mod exec;
mod help;
mod print;
mod watch;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use domo_token_client::clock::{BootTime, boot_now};
use domo_token_client::wire::{RefusalKind, ScopeState, ScopeStatus};
use domo_token_client::{Broker, Error, ScopeSet, Token};

use args::{Command, Get, Status, Topic};

// Exit codes of sysexits.
const USAGE: u8 = 2;
const UNAVAILABLE: u8 = 69;
const SOFTWARE: u8 = 70;
const IO_ERROR: u8 = 74;
const TEMPORARY: u8 = 75;
const PROTOCOL: u8 = 76;
const NO_PERMISSION: u8 = 77;
const CONFIG: u8 = 78;

/// How long `--wait` rests between two tries when nobody says when to come again.
const REST: Duration = Duration::from_millis(200);

/// What goes wrong: an exit code and one line.
struct Problem {
    code: u8,
    words: String,
}

fn main() -> ExitCode {
    let client = std::env::var("DOMO_TOKEN_CLIENT")
        .ok()
        .filter(|name| !name.is_empty());
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_none() {
        // With standard error closed the exit code still tells.
        let _told = io::stderr().write_all(help::ALL.as_bytes());
        return ExitCode::from(USAGE);
    }
    let result = args::parse(arguments, client)
        .map_err(|words| Problem { code: USAGE, words })
        .and_then(run);
    match result {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            let line = format!("domo-token: {}\n", problem.words);
            let _told = io::stderr().write_all(line.as_bytes());
            ExitCode::from(problem.code)
        }
    }
}

fn run(command: Command) -> Result<u8, Problem> {
    match command {
        Command::Help(Topic::All) => print(help::ALL.as_bytes()).map(|()| 0),
        Command::Help(Topic::Status) => print(help::STATUS.as_bytes()).map(|()| 0),
        Command::Help(Topic::Exec) => print(help::EXEC.as_bytes()).map(|()| 0),
        Command::Help(Topic::Watch) => print(help::WATCH.as_bytes()).map(|()| 0),
        Command::Version => {
            print(concat!("domo-token ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()).map(|()| 0)
        }
        Command::Get(get) => run_get(&get),
        Command::Explain(get) => explain(&get),
        Command::Status(status) => run_status(&status),
        Command::Exec(wanted) => {
            let token = obtain(&wanted.get)?;
            Err(exec::run(&wanted, &token))
        }
        Command::Watch(wanted) => watch::run(&wanted),
        Command::Completions(shell) => print(completions::of(shell).as_bytes()).map(|()| 0),
    }
}

fn run_get(get: &Get) -> Result<u8, Problem> {
    let token = obtain(get)?;
    print(print::token(&token, get.format).as_bytes()).map(|()| 0)
}

fn obtain(get: &Get) -> Result<Token, Problem> {
    let deadline = boot_now() + get.timeout;
    loop {
        match ask(get, deadline) {
            Ok(token) => return Ok(token),
            Err(error) if get.wait && error.is_temporary() && boot_now() < deadline => {
                rest(&error, deadline);
            }
            Err(error) => return Err(problem(&error, &get.scopes)),
        }
    }
}

fn ask(get: &Get, deadline: BootTime) -> Result<Token, Error> {
    let left = deadline.saturating_since(boot_now());
    let broker = connect(get.socket.as_ref(), get.client.as_deref())?.timeout(left);
    let mut request = broker.request(&get.scopes);
    if let Some(least) = get.min_ttl {
        request = request.min_ttl(least);
    }
    match get.renew {
        Some(domo_token_client::wire::Renew::Current) => request = request.renew(),
        Some(domo_token_client::wire::Renew::Rejected(generation)) => {
            request = request.rejected(generation);
        }
        None => {}
    }
    request.send()
}

/// Until the broker's next attempt, if it names one, but no longer than until the deadline.
#[expect(
    clippy::disallowed_methods,
    reason = "a broker that isn't there can't be waited for"
)]
fn rest(error: &Error, deadline: BootTime) {
    let mut named = REST;
    if let Error::TryLater {
        next_attempt: Some(wait),
        ..
    } = error
    {
        named = *wait;
    }
    let left = deadline.saturating_since(boot_now());
    std::thread::sleep(named.max(REST).min(left));
}

fn explain(get: &Get) -> Result<u8, Problem> {
    let fail = |error| problem(&error, &get.scopes);
    let broker = connect(get.socket.as_ref(), get.client.as_deref()).map_err(fail)?;
    let given = broker
        .timeout(get.timeout)
        .explain(&get.scopes)
        .map_err(fail)?;
    print(print::explanation(&given).as_bytes())?;
    Ok(match given.refused {
        None => 0,
        Some(RefusalKind::NotPermitted) => NO_PERMISSION,
        Some(_) => CONFIG,
    })
}

fn run_status(wanted: &Status) -> Result<u8, Problem> {
    let fail = |error| problem(&error, "");
    let mut status = connect(wanted.socket.as_ref(), None)
        .and_then(|b| b.status())
        .map_err(fail)?;
    let sets: Result<Vec<ScopeSet>, _> = wanted.scopes.iter().map(|s| ScopeSet::parse(s)).collect();
    let sets = sets.map_err(|error| Problem {
        code: USAGE,
        words: error.to_string(),
    })?;
    for set in &sets {
        if !status
            .scopes
            .iter()
            .any(|there| there.scope == set.as_str())
        {
            let words = format!("the broker has no scope set \"{set}\"; see domo-token status");
            return Err(Problem {
                code: CONFIG,
                words,
            });
        }
    }
    if !sets.is_empty() {
        status
            .scopes
            .retain(|there| sets.iter().any(|set| set.as_str() == there.scope));
    }
    if wanted.json {
        print(print::status_json(&status).as_bytes())?;
    } else if !wanted.quiet {
        print(print::status(&status).as_bytes())?;
    }
    Ok(health(&status.scopes))
}

/// 78 if a set is refused and has no token, 75 if one has none, else 0.
fn health(sets: &[ScopeStatus]) -> u8 {
    let dead = || sets.iter().filter(|set| set.expires.is_none());
    if dead().any(|set| set.state == ScopeState::Denied) {
        CONFIG
    } else if dead().next().is_some() {
        TEMPORARY
    } else {
        0
    }
}

fn connect(socket: Option<&PathBuf>, client: Option<&str>) -> Result<Broker, Error> {
    let broker = match socket {
        Some(path) => Broker::connect_to(path)?,
        None => Broker::connect()?,
    }
    .without_waiting();
    Ok(client.map_or_else(|| broker.clone(), |name| broker.client(name)))
}

fn problem(error: &Error, scopes: &str) -> Problem {
    let code = match error {
        Error::NotRunning { .. } => UNAVAILABLE,
        Error::NotPermitted { .. } | Error::Untrusted { .. } => NO_PERMISSION,
        Error::Unknown { .. }
        | Error::MinTtlTooLong { .. }
        | Error::Denied { .. }
        | Error::Gone { .. } => CONFIG,
        Error::TryLater { .. } => TEMPORARY,
        Error::Protocol { .. } => PROTOCOL,
        Error::InvalidScope(_) => USAGE,
        Error::Io { .. } => IO_ERROR,
        Error::Broken { .. } | _ => SOFTWARE,
    };
    let mut words = error.to_string();
    if let (Error::Unknown { .. }, Some(verb)) = (error, args::nearest_verb(scopes)) {
        words = format!("{words}; or did you mean the command \"{verb}\"?");
    }
    Problem { code, words }
}

/// Prints in one write where the system takes it whole.
fn print(bytes: &[u8]) -> Result<(), Problem> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(bytes).and_then(|()| stdout.flush());
    printed.map_err(|error| Problem {
        code: IO_ERROR,
        words: format!("standard output can't be written: {error}"),
    })
}
