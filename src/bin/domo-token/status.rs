//! The broker's state: once, or again and again.

mod json;
mod screen;
mod table;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::time::Duration;

use domo_token_client::clock::{boot_now, wall_now};
use domo_token_client::wire::{BrokerStatus, ScopeState, ScopeStatus};
use domo_token_client::{self as client, Error, ScopeSet};

use crate::args::Status;
use crate::ask::{connect, pause};
use crate::problem::{CONFIG, Problem, TEMPORARY, USAGE, say};
use screen::Screen;
use table::{Look, lives};

/// How often it is looked at again.
const EVERY: Duration = Duration::from_secs(1);

pub(crate) fn run(wanted: &Status) -> Result<u8, Problem> {
    let sets: Result<Vec<ScopeSet>, _> = wanted.scopes.iter().map(|s| ScopeSet::parse(s)).collect();
    let sets = sets.map_err(|error| Problem::new(USAGE, error.to_string()))?;
    let fail = |error| Problem::of(&error, wanted.scopes.first().map_or("", String::as_str));
    let status = state(wanted, &sets).map_err(fail)?;
    for set in &sets {
        if !status.scopes.iter().any(|there| is(there, set)) {
            let words =
                format!("there is no scope set \"{set}\" that you may see; see domo-token status");
            return Err(Problem::new(CONFIG, words));
        }
    }
    if wanted.watch {
        return watch(wanted, &sets, status);
    }
    if !wanted.quiet {
        crate::print(text(wanted, &status).as_bytes())?;
    }
    Ok(health(&status.scopes))
}

/// The state of these sets, or of all.
fn state(wanted: &Status, sets: &[ScopeSet]) -> Result<client::Status, Error> {
    let mut status = connect(wanted.socket.as_deref())?.status()?;
    if !sets.is_empty() {
        let named = |there: &ScopeStatus| sets.iter().any(|set| is(there, set));
        status.scopes.retain(named);
    }
    Ok(status)
}

fn is(there: &ScopeStatus, set: &ScopeSet) -> bool {
    there.scope == set.as_str()
}

fn text(wanted: &Status, status: &client::Status) -> String {
    if wanted.json {
        return json::of(status, boot_now(), wall_now());
    }
    let terminal = io::stdout().is_terminal();
    let look = Look {
        colour: terminal && wants_colour(),
        notes_below: terminal,
    };
    let broker = (&*status.socket, &status.broker);
    table::of(broker, &status.scopes, boot_now(), look)
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
fn watch(wanted: &Status, sets: &[ScopeSet], first: client::Status) -> Result<u8, Problem> {
    let in_place = !wanted.json && io::stdout().is_terminal() && is_able();
    let mut screen = in_place.then(Screen::default);
    let mut now = Ok(first);
    let mut told = Told::Nothing;
    loop {
        match (&now, &mut screen) {
            (Ok(status), Some(screen)) => screen.show(&text(wanted, status))?,
            (Err(error), Some(screen)) => screen.show(&format!("{error}\n"))?,
            (Ok(status), None) => told.state(wanted, status)?,
            (Err(error), None) => told.outage(error),
        }
        pause(EVERY);
        now = state(wanted, sets);
    }
}

/// What a reader who gets only what is new knows.
enum Told {
    Nothing,
    State(Box<(BrokerStatus, Vec<ScopeStatus>)>),
    Outage,
}

impl Told {
    fn state(&mut self, wanted: &Status, status: &client::Status) -> Result<(), Problem> {
        let new = (status.broker.clone(), status.scopes.clone());
        if matches!(self, Self::State(old) if **old == new) {
            return Ok(());
        }
        // Tables are told apart by an empty line.
        if !wanted.json && !matches!(self, Self::Nothing) {
            crate::print(b"\n")?;
        }
        *self = Self::State(Box::new(new));
        crate::print(text(wanted, status).as_bytes()).map(|_| ())
    }

    fn outage(&mut self, error: &Error) {
        if !matches!(self, Self::Outage) {
            say(&error.to_string());
        }
        *self = Self::Outage;
    }
}

/// 78 if a set is refused and has no token, 75 if one has none, else 0.
fn health(sets: &[ScopeStatus]) -> u8 {
    let now = boot_now();
    let dead = || sets.iter().filter(|set| !lives(set, now));
    if dead().any(|set| set.state == ScopeState::Denied) {
        CONFIG
    } else if dead().next().is_some() {
        TEMPORARY
    } else {
        0
    }
}
