//! The broker's state: once, or again and again.

mod json;
mod screen;
mod table;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::time::Duration;

use domo_token_client::clock::wall_now;
use domo_token_client::{self as client, BootTime, Error, ScopeSet};
use domo_token_protocol::messages::{BrokerStatus, Explanation, ScopeState, ScopeStatus};

use crate::args::{Color, Status};
use crate::connect::{connect, pause};
use crate::error::{CONFIG, CliError, TEMPORARY, USAGE, say};
use crate::{messages, reader};
use screen::Screen;
use table::{Look, lives};

/// How often it is looked at again.
const EVERY: Duration = Duration::from_secs(1);

pub(crate) fn run(wanted: &Status) -> Result<u8, CliError> {
    let sets: Result<Vec<ScopeSet>, _> = wanted.scopes.iter().map(|s| ScopeSet::parse(s)).collect();
    let sets = sets.map_err(|error| CliError::new(USAGE, error.to_string()))?;
    let fail = |error| CliError::of(&error, wanted.scopes.first().map_or("", String::as_str));
    let state = state(wanted, &sets).map_err(fail)?;
    let scopes = &state.status.scopes;
    for set in &sets {
        if !scopes.iter().any(|there| is(there, set)) {
            let words =
                format!("there is no scope set \"{set}\" that you may see; see domo-token status");
            return Err(CliError::new(CONFIG, words));
        }
    }
    if wanted.watch {
        return watch(wanted, &sets, state);
    }
    if !wanted.quiet {
        crate::print(text(wanted, &state).as_bytes())?;
    }
    Ok(health(&state.status.scopes, state.status.now()))
}

/// What a broker reports.
#[derive(Debug)]
struct State {
    status: client::Status,
    /// The client of callers that name none, if this caller may see it.
    default_client: Option<String>,
    /// Whether callers that name no client are denied.
    needs_a_client: bool,
}

/// The state of these sets, or of all.
fn state(wanted: &Status, sets: &[ScopeSet]) -> Result<State, Error> {
    let broker = connect(wanted.socket.as_deref())?;
    let mut status = broker.status()?;
    // Whatever the scopes: the client that is meant does not depend on them. Its absence is a warning,
    // which the state can do without.
    let explained = (!wanted.quiet)
        .then(|| broker.explain("data").ok())
        .flatten();
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

fn text(wanted: &Status, state: &State) -> String {
    if wanted.json {
        return json::of(state, state.status.now(), wall_now());
    }
    let terminal = io::stdout().is_terminal();
    let look = Look {
        colour: match wanted.color {
            Color::Auto => terminal && wants_colour(),
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
    table::of(&broker, &state.status.scopes, state.status.now(), look)
}

fn wants_colour() -> bool {
    variable("NO_COLOR").is_none() && is_able()
}

/// Whether the terminal can do more than print.
fn is_able() -> bool {
    variable("TERM").is_some_and(|term| term != "dumb")
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Until it is stopped, or nobody reads it any more.
fn watch(wanted: &Status, sets: &[ScopeSet], first: State) -> Result<u8, CliError> {
    reader::end_with_it();
    // Without the thread an outage is printed directly.
    let _ = messages::write_from_background();
    let in_place = !wanted.json && io::stdout().is_terminal() && is_able();
    let mut screen = in_place.then(Screen::default);
    let mut now = Ok(first);
    let mut told = LastSeen::Nothing;
    loop {
        match (&now, &mut screen) {
            (Ok(state), Some(screen)) => screen.show(&text(wanted, state))?,
            (Err(error), Some(screen)) => screen.show(&format!("{error}\n"))?,
            (Ok(state), None) => told.state(wanted, state)?,
            (Err(error), None) => told.outage(error),
        }
        pause(EVERY);
        now = state(wanted, sets);
    }
}

/// What a reader who gets only what is new knows.
enum LastSeen {
    Nothing,
    State(Box<(BrokerStatus, Vec<ScopeStatus>)>),
    Outage,
}

impl LastSeen {
    fn state(&mut self, wanted: &Status, state: &State) -> Result<(), CliError> {
        let status = &state.status;
        let new = (status.broker.clone(), status.scopes.clone());
        if matches!(self, Self::State(old) if **old == new) {
            return Ok(());
        }
        // Tables are told apart by an empty line.
        if !wanted.json && !matches!(self, Self::Nothing) {
            reader::print(b"\n")?;
        }
        *self = Self::State(Box::new(new));
        reader::print(text(wanted, state).as_bytes())
    }

    fn outage(&mut self, error: &Error) {
        if !matches!(self, Self::Outage) {
            say(&error.to_string());
        }
        *self = Self::Outage;
    }
}

/// 78 if a set is refused and has no token, 75 if one has none, else 0.
fn health(sets: &[ScopeStatus], now: BootTime) -> u8 {
    let dead = || sets.iter().filter(|set| !lives(set, now));
    if dead().any(|set| set.state == ScopeState::Denied) {
        CONFIG
    } else if dead().next().is_some() {
        TEMPORARY
    } else {
        0
    }
}
