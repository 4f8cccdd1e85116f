//! What systemd hands to the service and hears of it: on Windows there is none.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::time::Duration;

/// The pipe listens, and the config is good.
pub fn ready(_status: &str) {}

/// The config is read again; [`ready`] follows.
pub fn reloading() {}

/// The service ends.
pub fn stopping() {}

/// How it goes.
pub fn status(_status: &str) {}

/// The service has ended with that exit code.
pub fn ended(_code: u8) {}

/// The command that has systemd bind the socket again: there is none.
#[must_use]
pub fn restart_socket_command() -> &'static str {
    "restart domo-tokend"
}

/// The service works.
pub fn alive(_status: &str) {}

/// A socket that systemd has bound: there is none.
pub type InheritedListener = Infallible;

/// What systemd has handed over: nothing.
#[derive(Debug, Default)]
pub struct InheritedFds {
    /// Sockets.
    pub listeners: Vec<InheritedListener>,
    /// What it kept.
    pub stored: Vec<File>,
    /// Why the service cannot start with what it was given: nothing.
    pub wrong: Option<String>,
}

/// Takes nothing.
///
/// # Errors
///
/// None.
pub fn passed() -> io::Result<InheritedFds> {
    Ok(InheritedFds::default())
}

/// Whether anybody listens.
#[must_use]
pub fn is_there() -> bool {
    false
}

/// How often [`alive`] must be called.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    None
}
