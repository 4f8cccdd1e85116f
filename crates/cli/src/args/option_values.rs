//! Parses the values of options.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use domo_token_client::parse_socket_path::SocketPath;
use domo_token_protocol::duration;
use domo_token_protocol::messages::{MAX_TIME_LEFT_MS, Renew};

use super::{Color, Destination, Format, Shell};
use crate::options::{COLORS, FORMATS, SHELLS};

fn invalid(value: impl std::fmt::Display, name: &str, reason: &str) -> String {
    format!("invalid value \"{value}\" for {name}: {reason}")
}

pub(super) fn text(value: &OsStr, name: &str) -> Result<String, String> {
    let text = value.to_str().map(str::to_owned);
    text.ok_or_else(|| invalid(value.display(), name, "not UTF-8"))
}

/// Parses the path of a socket, or a `unix:` URL of one.
pub(super) fn socket(value: &OsStr) -> Result<PathBuf, String> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let read = SocketPath::read(value, home.as_deref());
    read.map(SocketPath::into_path)
        .map_err(|problem| invalid(value.display(), "--socket", &problem))
}

pub(super) fn span(value: &OsStr, name: &str) -> Result<Duration, String> {
    let span = value.to_str().and_then(duration::parse);
    let reason = "not a duration; use 90s, 5m, 1h, 1h30m, or a number of seconds";
    span.ok_or_else(|| invalid(value.display(), name, reason))
}

/// Parses a timeout, which the protocol limits.
pub(super) fn limit(value: &OsStr, name: &str) -> Result<Duration, String> {
    let span = span(value, name)?;
    let most = Duration::from_millis(MAX_TIME_LEFT_MS);
    if span.is_zero() || span > most {
        let most = most.as_secs();
        let reason = format!("out of range; use 1s to {most}s");
        return Err(invalid(value.display(), name, &reason));
    }
    Ok(span)
}

pub(super) fn format(value: &OsStr) -> Result<Format, String> {
    match value.to_str() {
        Some("token") => Ok(Format::Token),
        Some("header") => Ok(Format::Header),
        Some("curl") => Ok(Format::Curl),
        Some("json") => Ok(Format::Json),
        Some("env") => Ok(Format::Env),
        Some("export") => Ok(Format::Export),
        Some("powershell") => Ok(Format::PowerShell),
        Some("fish") => Ok(Format::Fish),
        Some(_) | None => Err(one_of("--format", value, FORMATS)),
    }
}

pub(super) fn color(value: &OsStr) -> Result<Color, String> {
    match value.to_str() {
        Some("auto") => Ok(Color::Auto),
        Some("always") => Ok(Color::Always),
        Some("never") => Ok(Color::Never),
        Some(_) | None => Err(one_of("--color", value, COLORS)),
    }
}

pub(super) fn shell(value: &OsStr) -> Result<Shell, String> {
    match value.to_str() {
        Some("bash") => Ok(Shell::Bash),
        Some("zsh") => Ok(Shell::Zsh),
        Some("fish") => Ok(Shell::Fish),
        Some("powershell") => Ok(Shell::Pwsh),
        Some(_) | None => {
            let (name, names) = (value.display(), SHELLS.join(", "));
            Err(format!("unknown shell \"{name}\"; use one of {names}"))
        }
    }
}

fn one_of(name: &str, value: &OsStr, names: &[&str]) -> String {
    let (value, names) = (value.display(), names.join(", "));
    format!("invalid value \"{value}\" for {name}; use one of {names}")
}

pub(super) fn renew(generation: Option<&OsString>) -> Result<Renew, String> {
    let Some(generation) = generation else {
        return Ok(Renew::Current);
    };
    let number = generation.to_str().and_then(|text| text.parse().ok());
    // The value is not repeated: it may be a token.
    let wrong = "invalid value for --renew: not a generation; it is the number \"generation\" of --format json";
    number.map(Renew::Rejected).ok_or_else(|| wrong.to_owned())
}

pub(super) fn variable(value: &OsStr) -> Result<Destination, String> {
    let name = value.to_str().filter(|name| is_variable(name));
    let reason = "not the name of a variable; use letters, digits and _, as in DOMO_ACCESS_TOKEN";
    name.map(|name| Destination::Env(name.to_owned()))
        .ok_or_else(|| invalid(value.display(), "--env", reason))
}

fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Parses a descriptor's number. Standard output and standard error are the command's own.
pub(super) fn descriptor(value: &OsStr) -> Result<Destination, String> {
    let number = value.to_str().and_then(|text| text.parse().ok());
    let usable = number.filter(|number| *number == 0 || (3..1024).contains(number));
    let reason = "use 0 (standard input) or a number from 3 to 1023";
    usable
        .map(Destination::Descriptor)
        .ok_or_else(|| invalid(value.display(), "--fd", reason))
}

/// Parses a mode with which the owner can read and write, and nobody can execute.
pub(super) fn mode(value: &OsStr) -> Result<u32, String> {
    let parsed = value
        .to_str()
        .and_then(|text| u32::from_str_radix(text, 8).ok());
    let usable = parsed.filter(|mode| mode & !0o666 == 0 && mode & 0o600 == 0o600);
    let reason = "use an octal mode from 0600 to 0666";
    usable.ok_or_else(|| invalid(value.display(), "--mode", reason))
}
