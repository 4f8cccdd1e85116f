//! `status`: prints the broker's state once or, with `--watch`, repeatedly.

mod json;
mod screen;
mod table;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::time::Duration;

use domo_token_client::clock::wall_now;
use domo_token_client::{
    self as client, BrokerStatus, Error, Explanation, ScopeState, ScopeStatus,
};
use domo_token_protocol::{BootTime, ScopeSet};

use crate::args::{Color, Status};
use crate::connect::connect;
use crate::error::CliError;
use crate::exit_code::{CONFIG, TEMPORARY, USAGE};
use crate::retry::pause;
use crate::stderr::report;
use crate::{stderr, stdout};
use screen::Screen;
use table::{TableStyle, has_valid_token};

/// The interval of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Status) -> Result<u8, CliError> {
    let sets: Result<Vec<ScopeSet>, _> = args.scopes.iter().map(|s| ScopeSet::parse(s)).collect();
    let sets = sets.map_err(|error| CliError::new(USAGE, error.to_string()))?;
    let fail = |error| CliError::of(&error, args.scopes.first().map_or("", String::as_str));
    let state = state(args, &sets).map_err(fail)?;
    let scopes = &state.status.scopes;
    for set in &sets {
        if !scopes.iter().any(|there| is(there, set)) {
            let message = format!(
                "no scope set \"{set}\" is visible to you; for those that are, run: domo-token status"
            );
            return Err(CliError::new(CONFIG, message));
        }
    }
    if args.watch {
        return watch(args, &sets, state);
    }
    if !args.quiet {
        stdout::print(text(args, &state).as_bytes())?;
    }
    Ok(exit_code_of(&state.status.scopes, state.status.now()))
}

/// The state that a broker reports.
#[derive(Debug)]
struct State {
    status: client::Status,
    /// The client of callers that name none, if this caller may see it.
    default_client: Option<String>,
    /// Whether callers that name no client are denied.
    needs_a_client: bool,
}

/// Requests the state of these scope sets, or of all.
fn state(args: &Status, sets: &[ScopeSet]) -> Result<State, Error> {
    let broker = connect(args.socket.as_deref())?;
    let mut status = broker.status()?;
    // The default client does not depend on the scope set. Only a warning depends on the answer.
    let explained = (!args.quiet).then(|| broker.explain("data").ok()).flatten();
    let clients: BTreeSet<&str> = status.scopes.iter().map(|set| &*set.client).collect();
    let has_no_default = |explained: &Explanation| explained.client.is_none();
    let needs_a_client = explained.as_ref().is_some_and(has_no_default) && clients.len() > 1;
    let default_client = explained.and_then(|explained| explained.client);
    let default_client = default_client.filter(|name| clients.contains(&**name));
    if !sets.is_empty() {
        let named = |there: &ScopeStatus| sets.iter().any(|set| is(there, set));
        status.scopes.retain(named);
    }
    Ok(State {
        status,
        default_client,
        needs_a_client,
    })
}

fn is(there: &ScopeStatus, set: &ScopeSet) -> bool {
    there.scope == set.as_str()
}

fn text(args: &Status, state: &State) -> String {
    if args.json {
        return json::of(state, state.status.now(), wall_now());
    }
    let terminal = io::stdout().is_terminal();
    let style = TableStyle {
        colour: match args.color {
            Color::Auto => terminal && use_colour(),
            Color::Always => true,
            Color::Never => false,
        },
        notes_below: terminal,
    };
    let broker = table::Broker {
        socket: &state.status.socket,
        status: &state.status.broker,
        needs_a_client: state.needs_a_client,
    };
    table::of(&broker, &state.status.scopes, state.status.now(), style)
}

fn use_colour() -> bool {
    variable("NO_COLOR").is_none() && is_able()
}

/// Returns whether the terminal supports more than plain text.
fn is_able() -> bool {
    variable("TERM").is_some_and(|term| term != "dumb")
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Prints until the process is stopped or standard output is closed.
fn watch(args: &Status, sets: &[ScopeSet], first: State) -> Result<u8, CliError> {
    stdout::exit_when_closed();
    // Without the thread an outage is printed directly.
    let _ = stderr::write_from_background();
    let in_place = !args.json && io::stdout().is_terminal() && is_able();
    let mut screen = in_place.then(Screen::default);
    let mut now = Ok(first);
    let mut last_seen = LastSeen::Nothing;
    loop {
        match (&now, &mut screen) {
            (Ok(state), Some(screen)) => screen.show(&text(args, state))?,
            (Err(error), Some(screen)) => screen.show(&format!("{error}\n"))?,
            (Ok(state), None) => last_seen.state(args, state)?,
            (Err(error), None) => last_seen.outage(error),
        }
        pause(INTERVAL);
        now = state(args, sets);
    }
}

/// The last printed state. An unchanged state is not printed again.
enum LastSeen {
    Nothing,
    State(Box<(BrokerStatus, Vec<ScopeStatus>)>),
    Outage,
}

impl LastSeen {
    fn state(&mut self, args: &Status, state: &State) -> Result<(), CliError> {
        let status = &state.status;
        let new = (without_use(status.broker.clone()), status.scopes.clone());
        if matches!(self, Self::State(old) if **old == new) {
            return Ok(());
        }
        // An empty line separates tables.
        if !args.json && !matches!(self, Self::Nothing) {
            stdout::print_or_exit(b"\n")?;
        }
        *self = Self::State(Box::new(new));
        stdout::print_or_exit(text(args, state).as_bytes())
    }

    fn outage(&mut self, error: &Error) {
        if !matches!(self, Self::Outage) {
            report(&error.to_string());
        }
        *self = Self::Outage;
    }
}

/// Returns the exit code: 78 if a set without a token was rejected, 75 if a set has no token, else 0.
fn exit_code_of(sets: &[ScopeStatus], now: BootTime) -> u8 {
    let without_token = || sets.iter().filter(|set| !has_valid_token(set, now));
    if without_token().any(|set| set.state == ScopeState::Rejected) {
        CONFIG
    } else if without_token().next().is_some() {
        TEMPORARY
    } else {
        0
    }
}

/// Returns the status without what changes with each request of an application.
fn without_use(mut broker: BrokerStatus) -> BrokerStatus {
    for app in &mut broker.apps {
        app.last_used = None;
        app.connections = 0;
    }
    broker
}

#[cfg(test)]
mod tests {
    use domo_token_protocol::messages;

    use super::*;

    #[test]
    fn use_of_an_application_is_no_change_and_an_error_of_it_is_one() {
        let broker = |last_used, connections, error: Option<&str>| {
            let app = messages::AppStatus {
                name: "etl".to_owned(),
                client: "acme".to_owned(),
                last_used,
                connections,
                error: error.map(str::to_owned),
            };
            without_use(BrokerStatus::of_wire(messages::BrokerStatus {
                apps: vec![app],
                ..messages::BrokerStatus::default()
            }))
        };
        let unused = broker(None, 0, None);
        assert_eq!(broker(Some(BootTime::from_millis(7)), 3, None), unused);
        assert_ne!(broker(None, 0, Some("no file")), unused);
    }
}
