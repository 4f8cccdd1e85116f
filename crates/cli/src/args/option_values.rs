//! The values of options.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use domo_token_client::parse_socket_path::SocketPath;
use domo_token_protocol::duration;
use domo_token_protocol::messages::{MAX_TIME_LEFT_MS, Renew};

use super::{Color, Destination, Format, Shell};
use crate::options::{COLORS, FORMATS, SHELLS};

pub(super) fn text(value: &OsStr, name: &str) -> Result<String, String> {
    let text = value.to_str().map(str::to_owned);
    text.ok_or_else(|| format!("{name} {:?}: not UTF-8", value.display()))
}

/// The path of a socket, which may be the one of a `unix:` URL.
pub(super) fn socket(value: &OsStr) -> Result<PathBuf, String> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let read = SocketPath::read(value, home.as_deref());
    let shown = value.display();
    read.map(SocketPath::into_path)
        .map_err(|problem| format!("--socket \"{shown}\": {problem}"))
}

pub(super) fn span(value: &OsStr, name: &str) -> Result<Duration, String> {
    let span = value.to_str().and_then(duration::parse);
    let shown = value.display();
    span.ok_or_else(|| {
        format!("{name} \"{shown}\": a time is 90s, 5m, 1h, 1h30m, or plain seconds")
    })
}

/// How long a broker may be asked to take.
pub(super) fn limit(value: &OsStr, name: &str) -> Result<Duration, String> {
    let span = span(value, name)?;
    let most = Duration::from_millis(MAX_TIME_LEFT_MS);
    if span.is_zero() || span > most {
        let most = most.as_secs();
        let shown = value.display();
        return Err(format!("{name} \"{shown}\": from 1 s to {most} s (10m)"));
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
        Some(_) | None => Err(one_of("completions", value, SHELLS)),
    }
}

fn one_of(name: &str, value: &OsStr, names: &[&str]) -> String {
    let shown = value.display();
    format!("{name} \"{shown}\": choose one of {}", names.join(", "))
}

pub(super) fn renew(generation: Option<&OsString>) -> Result<Renew, String> {
    let Some(generation) = generation else {
        return Ok(Renew::Current);
    };
    let number = generation.to_str().and_then(|text| text.parse().ok());
    let wrong = || "--renew=GENERATION takes the number that --format json shows".to_owned();
    number.map(Renew::Rejected).ok_or_else(wrong)
}

pub(super) fn variable(value: &OsStr) -> Result<Destination, String> {
    let name = value.to_str().filter(|name| is_variable(name));
    let shown = value.display();
    let wrong = || {
        format!("--env \"{shown}\": a variable has letters, digits and _, like DOMO_ACCESS_TOKEN")
    };
    name.map(|name| Destination::Env(name.to_owned()))
        .ok_or_else(wrong)
}

fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Standard output and error are the command's own.
pub(super) fn descriptor(value: &OsStr) -> Result<Destination, String> {
    let number = value.to_str().and_then(|text| text.parse().ok());
    let usable = number.filter(|number| *number == 0 || (3..1024).contains(number));
    let shown = value.display();
    let wrong = || format!("--fd \"{shown}\": 0 (standard input), or from 3 to 1023");
    usable.map(Destination::Descriptor).ok_or_else(wrong)
}

/// A mode that the owner can read and write, and nobody can run.
pub(super) fn mode(value: &OsStr) -> Result<u32, String> {
    let parsed = value
        .to_str()
        .and_then(|text| u32::from_str_radix(text, 8).ok());
    let usable = parsed.filter(|mode| mode & !0o666 == 0 && mode & 0o600 == 0o600);
    let shown = value.display();
    usable.ok_or_else(|| format!("--mode \"{shown}\": an octal mode from 0600 to 0666"))
}
