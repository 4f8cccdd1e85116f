//! HTTP on the broker's socket, as callers in any language see it.

mod access;
mod connection;
mod curl;
mod errors;
mod etag;
mod framing;
mod head_size;
mod heads;
mod host;
mod limits;
mod parameters;
mod queries;
mod secrecy;
mod sniffing;
mod tokens;
mod watch;

use crate::common::{Daemon, parts};
use connection::{Answer, Connection};
use serde_json::Value;

/// Sends one GET on a new connection.
#[track_caller]
fn get(daemon: &Daemon, target: &str) -> Answer {
    Connection::open(daemon).get(target)
}

/// Sends one GET with these headers on a new connection.
#[track_caller]
fn get_with(daemon: &Daemon, target: &str, headers: &[(&str, &str)]) -> Answer {
    Connection::open(daemon).request("GET", target, headers)
}

/// Waits for the token of `data` and returns its text and its generation.
#[track_caller]
fn first_token(daemon: &Daemon) -> (String, u64) {
    let json = get(daemon, "/v1/token/data").json();
    let text = json["access_token"].as_str().unwrap().to_owned();
    (text, json["generation"].as_u64().unwrap())
}

/// Returns the JSON that the helper prints, whatever its exit code.
#[track_caller]
fn helper_json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let (_, stdout, stderr) = parts(&daemon.ask(arguments));
    serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"))
}

/// Returns the text with the process id of the caller that it names replaced.
fn without_pid(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("pid ") {
        shown.push_str(before);
        shown.push_str("pid N");
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    shown + rest
}
