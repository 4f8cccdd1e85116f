//! The state for people.

use std::fmt::Write;

use domo_token_client::Status;
use domo_token_client::clock::BootTime;
use domo_token_client::duration::show;
use domo_token_client::wire::{BrokerStatus, ScopeState, ScopeStatus};

/// How it is to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colour: bool,
    /// What there is to say of a set stands in lines below it, not at the end of its own.
    pub(super) notes_below: bool,
}

const HEADS: [&str; COLUMNS] = ["CLIENT", "SCOPES", "STATE", "OBTAINED", "EXPIRES", "NEXT"];
const COLUMNS: usize = 6;

/// The column that has the colour.
const STATE: usize = 2;

const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// The whole, in lines.
pub(super) fn of(status: &Status, now: BootTime, look: Look) -> String {
    let mut text = broker(&status.broker, now, look);
    if status.scopes.is_empty() {
        text.push_str("no scope set that you may see\n");
        return text;
    }
    let rows: Vec<[String; COLUMNS]> = status.scopes.iter().map(|set| cells(set, now)).collect();
    let mut widths = HEADS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    text.push('\n');
    let heads = HEADS.map(str::to_owned);
    text.push_str(&line(&heads, &widths, |_| look.colour.then_some(BOLD)));
    text.push('\n');
    for (set, row) in status.scopes.iter().zip(&rows) {
        let colour = look.colour.then(|| colour(set, now));
        text.push_str(&line(row, &widths, |at| colour.filter(|_| at == STATE)));
        let part = if look.notes_below { "\n    " } else { "  " };
        for note in notes(set, now) {
            text.push_str(part);
            text.push_str(&note);
        }
        text.push('\n');
    }
    text
}

// Writing to a string can't fail.
fn broker(broker: &BrokerStatus, now: BootTime, look: Look) -> String {
    let since = |at: BootTime| show(now.saturating_since(at));
    let mut text = format!(
        "domo-tokend {}, pid {}, protocol {}, up {}\n",
        plain(&broker.version),
        broker.pid,
        broker.protocol,
        since(broker.started)
    );
    let config = broker.config_path.as_deref().unwrap_or("the environment");
    let loaded = since(broker.config_loaded);
    let _ = writeln!(text, "config: {}, loaded {loaded} ago", plain(config));
    if let Some(error) = &broker.config_error {
        let words = format!("config error: {}", plain(error));
        let _ = writeln!(text, "{}", painted(&words, look.colour.then_some(RED)));
    }
    text
}

fn line(
    cells: &[String; COLUMNS],
    widths: &[usize; COLUMNS],
    colour: impl Fn(usize) -> Option<&'static str>,
) -> String {
    let mut text = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        // Padded before it is painted: what paints has no width.
        let padded = if at + 1 == COLUMNS {
            cell.clone()
        } else {
            format!("{cell:width$}  ")
        };
        text.push_str(&painted(&padded, colour(at)));
    }
    text
}

fn cells(set: &ScopeStatus, now: BootTime) -> [String; COLUMNS] {
    let ahead = |at: BootTime| show(at.saturating_since(now));
    let obtained = set.obtained.filter(|_| lives(set, now));
    let obtained = obtained.map(|at| format!("{} ago", show(now.saturating_since(at))));
    let expires = set.expires.filter(|_| lives(set, now));
    let expires = expires.map(|at| format!("in {}", ahead(at)));
    let next = set.next_attempt.map(|at| {
        let verb = if set.state == ScopeState::Fresh {
            "renews"
        } else {
            "tries again"
        };
        format!("{verb} in {}", ahead(at))
    });
    let none = || "-".to_owned();
    [
        plain(&set.client),
        plain(&set.scope),
        state(set, now).to_owned(),
        obtained.unwrap_or_else(none),
        expires.unwrap_or_else(|| "no token".to_owned()),
        next.unwrap_or_else(none),
    ]
}

/// Whether it has a token that can be used.
pub(super) fn lives(set: &ScopeStatus, now: BootTime) -> bool {
    set.expires.is_some_and(|expires| expires > now)
}

fn state(set: &ScopeStatus, now: BootTime) -> &'static str {
    match set.state {
        ScopeState::Idle => "waiting its turn",
        ScopeState::Fetching if lives(set, now) => "renewing",
        ScopeState::Fetching => "asking Domo",
        ScopeState::Fresh => "fresh",
        ScopeState::Waiting => "failing",
        ScopeState::Denied => "refused by Domo",
    }
}

/// Red where callers get no token, yellow where they soon won't.
fn colour(set: &ScopeStatus, now: BootTime) -> &'static str {
    match set.state {
        ScopeState::Fresh => GREEN,
        ScopeState::Fetching if lives(set, now) => GREEN,
        ScopeState::Idle | ScopeState::Fetching => YELLOW,
        ScopeState::Waiting | ScopeState::Denied if lives(set, now) => YELLOW,
        ScopeState::Waiting | ScopeState::Denied => RED,
    }
}

/// What else there is to say.
fn notes(set: &ScopeStatus, now: BootTime) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(error) = &set.credentials_error {
        let id = plain(&set.client_id);
        notes.push(format!("the new credentials ({id}) fail: {}", plain(error)));
    } else if let Some(error) = &set.last_error {
        let ago = set.last_error_at.map_or(String::new(), |at| {
            format!(", {} ago", show(now.saturating_since(at)))
        });
        let times = times(set.attempts.into(), "failed attempt");
        notes.push(format!("{times}{ago}: {}", plain(error)));
    }
    if set.rejected > 0 {
        let times = times(set.rejected, "token");
        let by = set.last_rejected_by.as_deref().map(plain);
        let by = by.map_or(String::new(), |by| format!(", says {by}"));
        notes.push(format!("Domo refused {times} in use{by}"));
    }
    notes
}

fn times(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn painted(words: &str, colour: Option<&str>) -> String {
    match colour {
        Some(colour) => format!("\x1b[{colour}m{words}\x1b[0m"),
        None => words.to_owned(),
    }
}

/// What others wrote moves no cursor.
fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}
