//! Parses the values of options.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use domo_token_client::parse_socket_path::SocketPath;
use domo_token_protocol::duration;
use domo_token_protocol::messages::{MAX_TIME_LEFT_MS, Renew};

/// Returns the path of a socket, which may be the one of a `unix:` URL.
pub(crate) fn socket(value: &OsStr) -> Result<PathBuf, String> {
    if value.is_empty() {
        return Err("a socket is a path or unix:///PATH".to_owned());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    SocketPath::read(value, home.as_deref()).map(SocketPath::into_path)
}

pub(crate) fn time(value: &str) -> Result<Duration, &'static str> {
    duration::parse(value).ok_or("a time is 90s, 5m, 1h, 1h30m, or plain seconds")
}

/// Returns how long a broker may be asked to take.
pub(crate) fn timeout(value: &str) -> Result<Duration, String> {
    let span = time(value)?;
    let most = Duration::from_millis(MAX_TIME_LEFT_MS);
    if span.is_zero() || span > most {
        return Err(format!("from 1 s to {} s (10m)", most.as_secs()));
    }
    Ok(span)
}

pub(crate) fn renew(value: &str) -> Result<Renew, &'static str> {
    if value == "current" {
        return Ok(Renew::Current);
    }
    let number = value.parse().map(Renew::Rejected);
    number.map_err(|_| "a generation is the number that --format json shows")
}

pub(crate) fn variable(value: &str) -> Result<String, &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts_well = value.starts_with(|c: char| is_plain(c) && !c.is_ascii_digit());
    let name = (starts_well && value.chars().all(is_plain)).then(|| value.to_owned());
    name.ok_or("a variable has letters, digits and _, like DOMO_ACCESS_TOKEN")
}

/// Standard output and error are the command's own.
pub(crate) fn descriptor(value: &str) -> Result<i32, &'static str> {
    let number = value.parse().ok();
    let usable = number.filter(|number| *number == 0 || (3..1024).contains(number));
    usable.ok_or("0 (standard input), or from 3 to 1023")
}

/// Returns a mode that lets the owner read and write, and nobody execute.
pub(crate) fn mode(value: &str) -> Result<u32, &'static str> {
    let mode = u32::from_str_radix(value, 8).ok();
    let usable = mode.filter(|mode| mode & !0o666 == 0 && mode & 0o600 == 0o600);
    usable.ok_or("an octal mode from 0600 to 0666")
}
