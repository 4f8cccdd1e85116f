//! The table of `status`.

mod apps;

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use domo_token_client::{
    BrokerInstant, BrokerStatus, FleetStatus, ScopeState, ScopeStatus, TokenOrigin,
};
use domo_token_protocol::BootTime;
use domo_token_protocol::duration::show;

/// The style of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableStyle {
    pub(super) colour: bool,
    /// Whether notes on a set are in lines below it, not at the end of its line.
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

/// The broker's part of the table.
pub(super) struct Broker<'a> {
    pub(super) socket: &'a Path,
    pub(super) status: &'a BrokerStatus,
    /// Whether callers that name no client are denied.
    pub(super) needs_a_client: bool,
}

/// Returns the whole table.
pub(super) fn of(
    daemon: &Broker,
    sets: &[ScopeStatus],
    now: BootTime,
    style: TableStyle,
) -> String {
    let mut text = broker(daemon, now, style);
    if sets.is_empty() {
        text.push_str("no scope set is visible to you\n");
    } else {
        text.push_str(&scope_sets(sets, now, style));
    }
    text.push_str(&apps::of(daemon.status, now, style));
    text
}

fn scope_sets(sets: &[ScopeStatus], now: BootTime, style: TableStyle) -> String {
    let rows: Vec<[String; COLUMNS]> = sets.iter().map(|set| cells(set, now)).collect();
    let mut widths = HEADS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = "\n".to_owned();
    let heads = HEADS.map(str::to_owned);
    text.push_str(&line(&heads, &widths, |_| style.colour.then_some(BOLD)));
    text.push('\n');
    for (set, row) in sets.iter().zip(&rows) {
        let colour = style.colour.then(|| colour(set, now));
        text.push_str(&line(row, &widths, |at| colour.filter(|_| at == STATE)));
        let part = if style.notes_below { "\n    " } else { "  " };
        for note in notes(set, now) {
            text.push_str(part);
            text.push_str(&note);
        }
        text.push('\n');
    }
    text
}

// Writing to a string can't fail.
fn broker(daemon: &Broker, now: BootTime, style: TableStyle) -> String {
    let Broker {
        socket,
        status: broker,
        ..
    } = daemon;
    let since = |at: BrokerInstant| show(now.saturating_since(at.boot_time()));
    let mut text = format!(
        "domo-tokend {}, pid {}, protocol {}, up {}\n",
        plain(&broker.version),
        broker.pid,
        broker.protocol,
        since(broker.started)
    );
    let _ = writeln!(text, "socket: {}", plain(&socket.to_string_lossy()));
    let config = broker.config_path.as_deref().unwrap_or("the environment");
    let loaded = since(broker.config_loaded);
    let _ = writeln!(text, "config: {}, loaded {loaded} ago", plain(config));
    if let Some(error) = &broker.config_error {
        let error = format!("config error: {}", plain(error));
        let _ = writeln!(text, "{}", painted(&error, style.colour.then_some(RED)));
    }
    if let Some(fleet) = &broker.fleet {
        let colour = (!fleet.up).then_some(YELLOW).filter(|_| style.colour);
        let _ = writeln!(text, "{}", painted(&fleet_line(fleet, now), colour));
    }
    if daemon.needs_a_client {
        let warning =
            "warning: broker.default_client is not set; callers that name no client are denied";
        let _ = writeln!(text, "{}", painted(warning, style.colour.then_some(YELLOW)));
    }
    text
}

/// A difference of the clocks that shortens the lifetime of tokens from the fleet.
const CLOCK_DIFFERENCE_MS: u64 = 10_000;

/// Returns the line about the store of the fleet.
fn fleet_line(fleet: &FleetStatus, now: BootTime) -> String {
    let since = fleet.since.map(|at| now.saturating_since(at.boot_time()));
    // Without an error of the store it is the config's that turns the fleet off.
    let unavailable = if fleet.last_error.is_some() {
        "down"
    } else {
        "off"
    };
    let since = match (since, fleet.up) {
        (Some(since), true) => format!("up {}", show(since)),
        (Some(since), false) => format!("{unavailable} for {}", show(since)),
        (None, true) => "not used yet".to_owned(),
        (None, false) => unavailable.to_owned(),
    };
    let mut line = format!("fleet: {}, {since}", plain(&fleet.place));
    let difference = fleet.clock_difference_ms.map_or(0, i64::unsigned_abs);
    if difference > CLOCK_DIFFERENCE_MS {
        let difference = show(Duration::from_millis(difference));
        let _ = write!(line, ", clocks differ by {difference}");
    }
    if let Some(error) = &fleet.last_error {
        let _ = write!(line, ": {}", plain(error));
    }
    line
}

fn line(
    cells: &[String; COLUMNS],
    widths: &[usize; COLUMNS],
    colour: impl Fn(usize) -> Option<&'static str>,
) -> String {
    let mut text = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        // Padded before it is coloured: escape sequences have no width.
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
    let ahead = |at: BrokerInstant| show(at.boot_time().saturating_since(now));
    let obtained = set.obtained.filter(|_| has_valid_token(set, now));
    let from = match set.from {
        Some(TokenOrigin::Fleet) => ", from fleet",
        Some(_) | None => "",
    };
    let obtained = obtained.map(|at| {
        let ago = show(now.saturating_since(at.boot_time()));
        format!("{ago} ago{from}")
    });
    let expires = set.expires.filter(|_| has_valid_token(set, now));
    let expires = expires.map(|at| format!("in {}", ahead(at)));
    let next = set.next_attempt.map(|at| {
        let verb = if set.state == ScopeState::Fresh {
            "renews"
        } else {
            "retries"
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

/// Returns whether its client is loaded: only then its id is known.
fn is_loaded(set: &ScopeStatus) -> bool {
    !set.client_id.is_empty()
}

/// Returns whether it has a token that has not expired.
pub(super) fn has_valid_token(set: &ScopeStatus, now: BootTime) -> bool {
    set.expires.is_some_and(|expires| expires.boot_time() > now)
}

fn state(set: &ScopeStatus, now: BootTime) -> &'static str {
    match set.state {
        ScopeState::Idle if !is_loaded(set) => "loading",
        ScopeState::Waiting | ScopeState::Rejected if !is_loaded(set) => "not loaded",
        ScopeState::Idle => "queued",
        ScopeState::Fetching if has_valid_token(set, now) => "renewing",
        ScopeState::Fetching => "requesting",
        ScopeState::Fresh => "fresh",
        ScopeState::Waiting => "failing",
        // By Domo, or by the proxy.
        ScopeState::Rejected | _ => "rejected",
    }
}

/// Returns red if callers get no token, yellow if they will soon get none.
fn colour(set: &ScopeStatus, now: BootTime) -> &'static str {
    match set.state {
        ScopeState::Fresh => GREEN,
        ScopeState::Fetching if has_valid_token(set, now) => GREEN,
        ScopeState::Idle | ScopeState::Fetching => YELLOW,
        ScopeState::Waiting | ScopeState::Rejected if has_valid_token(set, now) => YELLOW,
        ScopeState::Waiting | ScopeState::Rejected | _ => RED,
    }
}

/// Returns notes on errors and rejections.
fn notes(set: &ScopeStatus, now: BootTime) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(error) = &set.credentials_error {
        let id = plain(&set.client_id);
        notes.push(format!(
            "no new token since the last change or restart ({id}): {}",
            plain(error)
        ));
    } else if let Some(error) = set.last_error.as_ref().filter(|_| !is_loaded(set)) {
        notes.push(plain(error));
    } else if let Some(error) = &set.last_error {
        let ago = set.last_error_at.map_or(String::new(), |at| {
            format!(", {} ago", show(now.saturating_since(at.boot_time())))
        });
        let times = times(set.failed_attempts.into(), "failed attempt");
        notes.push(format!("{times}{ago}: {}", plain(error)));
    }
    if set.rejected > 0 {
        let times = times(set.rejected, "token");
        let by = set.last_rejected_by.as_deref().map(plain);
        let by = by.map_or(String::new(), |by| format!(", reported by {by}"));
        notes.push(format!("Domo rejected {times} in use{by}"));
    }
    notes
}

fn times(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn painted(text: &str, colour: Option<&str>) -> String {
    match colour {
        Some(colour) => format!("\x1b[{colour}m{text}\x1b[0m"),
        None => text.to_owned(),
    }
}

/// Replaces control characters, so that a foreign text moves no cursor.
fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domo_token_protocol::messages::{self, ScopeState as WireState};

    const NOW: BootTime = BootTime::from_millis(3_600_000);

    /// Returns the time that many minutes from now.
    fn at(minutes: i64) -> BootTime {
        let now = i64::try_from(NOW.as_millis()).unwrap();
        BootTime::from_millis(u64::try_from(now + minutes * 60_000).unwrap())
    }

    fn set(scope: &str, state: WireState, expires: Option<BootTime>) -> messages::ScopeStatus {
        messages::ScopeStatus {
            client: "acme".to_owned(),
            client_id: "441e307a…".to_owned(),
            scope: scope.to_owned(),
            state,
            obtained: Some(at(-12)),
            expires,
            generation: Some(7),
            next_attempt: Some(at(41)),
            requests: 1,
            attempts: 0,
            last_error: None,
            last_error_at: None,
            rejected: 0,
            last_rejected_by: None,
            credentials_error: None,
            from: Some(messages::TokenOrigin::Domo),
        }
    }

    fn failing() -> messages::ScopeStatus {
        messages::ScopeStatus {
            attempts: 3,
            last_error: Some("Domo answered 503\x1b[2J".to_owned()),
            last_error_at: Some(at(-2)),
            rejected: 1,
            last_rejected_by: Some("uid 1004".to_owned()),
            ..set("data user", WireState::Waiting, Some(at(5)))
        }
    }

    fn daemon(fleet: Option<messages::FleetStatus>) -> BrokerStatus {
        BrokerStatus::of_wire(messages::BrokerStatus {
            version: "0.1.0".to_owned(),
            protocol: 1,
            pid: 4711,
            started: NOW,
            config_path: Some("/etc/c.toml".to_owned()),
            config_loaded: NOW,
            config_error: Some("line 3: no".to_owned()),
            fleet,
            ..messages::BrokerStatus::default()
        })
    }

    fn shown(sets: &[messages::ScopeStatus], colour: bool, notes_below: bool) -> String {
        let style = TableStyle {
            colour,
            notes_below,
        };
        let broker = Broker {
            socket: Path::new("/run/b.sock"),
            status: &daemon(None),
            needs_a_client: true,
        };
        let sets: Vec<ScopeStatus> = sets.iter().cloned().map(ScopeStatus::of_wire).collect();
        of(&broker, &sets, NOW, style)
    }

    #[test]
    fn pipe_receives_one_line_for_each_scope_set() {
        let fresh = set("data", WireState::Fresh, Some(at(48)));
        let denied = set("audit", WireState::Denied, None);
        assert_eq!(
            shown(&[fresh, failing(), denied], false, false),
            "domo-tokend 0.1.0, pid 4711, protocol 1, up 0 s\n\
             socket: /run/b.sock\n\
             config: /etc/c.toml, loaded 0 s ago\n\
             config error: line 3: no\n\
             warning: broker.default_client is not set; callers that name no client are denied\n\
             \n\
             CLIENT  SCOPES     STATE     OBTAINED    EXPIRES    NEXT\n\
             acme    data       fresh     12 min ago  in 48 min  renews in 41 min\n\
             acme    data user  failing   12 min ago  in 5 min   retries in 41 min  \
             3 failed attempts, 2 min ago: Domo answered 503 [2J  \
             Domo rejected 1 token in use, reported by uid 1004\n\
             acme    audit      rejected  -           no token   retries in 41 min\n"
        );
        assert!(shown(&[], false, false).ends_with("no scope set is visible to you\n"));
    }

    /// Returns the line about the fleet.
    fn shown_fleet(fleet: messages::FleetStatus) -> String {
        let style = TableStyle {
            colour: true,
            notes_below: true,
        };
        let broker = Broker {
            socket: Path::new("/run/b.sock"),
            status: &daemon(Some(fleet)),
            needs_a_client: false,
        };
        let text = of(&broker, &[], NOW, style);
        let mut lines = text.lines().filter(|line| line.contains("fleet: "));
        let line = lines.next().unwrap().to_owned();
        assert_eq!(lines.next(), None);
        line
    }

    #[test]
    fn fleet_is_shown_with_its_state_and_error() {
        let fleet = messages::FleetStatus {
            place: "rediss://cache.example:6379".to_owned(),
            up: true,
            since: None,
            last_error: None,
            clock_difference_ms: None,
        };
        let place = "fleet: rediss://cache.example:6379";
        assert_eq!(shown_fleet(fleet.clone()), format!("{place}, not used yet"));
        let up = messages::FleetStatus {
            since: Some(at(-12)),
            clock_difference_ms: Some(-10_000),
            ..fleet
        };
        assert_eq!(shown_fleet(up.clone()), format!("{place}, up 12 min"));
        let apart = messages::FleetStatus {
            clock_difference_ms: Some(-12_000),
            ..up.clone()
        };
        assert_eq!(
            shown_fleet(apart),
            format!("{place}, up 12 min, clocks differ by 12 s")
        );
        let off = messages::FleetStatus {
            up: false,
            clock_difference_ms: None,
            ..up.clone()
        };
        assert_eq!(
            shown_fleet(off),
            format!("\x1b[33m{place}, off for 12 min\x1b[0m")
        );
        let down = messages::FleetStatus {
            up: false,
            last_error: Some("refused\x1b[2J".to_owned()),
            ..up
        };
        assert_eq!(
            shown_fleet(down),
            format!("\x1b[33m{place}, down for 12 min: refused [2J\x1b[0m")
        );
    }

    #[test]
    fn token_of_another_host_is_marked() {
        let shared = messages::ScopeStatus {
            from: Some(messages::TokenOrigin::Fleet),
            ..set("data", WireState::Fresh, Some(at(48)))
        };
        let expired = messages::ScopeStatus {
            expires: Some(at(0)),
            ..shared.clone()
        };
        let text = shown(&[shared], false, false);
        assert!(text.contains("12 min ago, from fleet  in 48 min"), "{text}");
        let text = shown(&[expired], false, false);
        assert!(!text.contains("fleet"), "{text}");
    }

    #[test]
    fn rejection_by_the_proxy_is_not_shown_as_one_of_credentials_by_domo() {
        let message = "the proxy p.example:3128 answered 407 to CONNECT";
        let by_proxy = messages::ScopeStatus {
            last_error: Some(message.to_owned()),
            credentials_error: Some(message.to_owned()),
            ..set("data", WireState::Denied, Some(at(5)))
        };
        let text = shown(&[by_proxy], false, true);
        let row = text.split_once("NEXT\n").unwrap().1;
        assert!(row.contains("rejected") && !row.contains("Domo"), "{row}");
        let note = format!("no new token since the last change or restart (441e307a…): {message}");
        assert!(row.contains(&note), "{row}");
    }

    #[test]
    fn terminal_shows_details_below_each_row_and_colours_states() {
        let text = shown(&[failing()], true, true);
        let words = "retries in 41 min\n    3 failed attempts, 2 min ago: Domo answered 503";
        assert!(text.contains(words), "{text}");
        assert!(text.contains("\x1b[31mconfig error: line 3: no\x1b[0m"));
        for (state, expires, expected) in [
            (WireState::Fresh, Some(at(1)), "\x1b[32mfresh"),
            (WireState::Fetching, Some(at(1)), "\x1b[32mrenewing"),
            (WireState::Fetching, None, "\x1b[33mrequesting"),
            (WireState::Idle, None, "\x1b[33mqueued"),
            (WireState::Waiting, Some(at(1)), "\x1b[33mfailing"),
            (WireState::Waiting, Some(at(0)), "\x1b[31mfailing"),
            (WireState::Denied, Some(at(1)), "\x1b[33mrejected"),
            (WireState::Denied, None, "\x1b[31mrejected"),
        ] {
            let text = shown(&[set("data", state, expires)], true, true);
            assert!(text.contains(expected), "{expected:?} in {text:?}");
        }
    }
}
