//! What systemd hears of the service (`sd_notify(3)`). Without systemd nothing is said.

use std::time::Duration;

use sd_notify::NotifyState;

/// The most of a status line that is sent, in characters.
const MAX_STATUS: usize = 200;

/// The socket listens, and the config is good.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
}

/// The config is read again; [`ready`] follows.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// The service ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// The service works; the watchdog and people are told.
pub fn alive(status: &str) {
    tell(&[NotifyState::Watchdog, NotifyState::Status(&line(status))]);
}

/// Whether anybody listens.
#[must_use]
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// How often [`alive`] must be called, if systemd watches.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// A status is one line.
fn line(status: &str) -> String {
    let plain = status.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_STATUS).collect()
}

fn tell(states: &[NotifyState]) {
    // Whoever listens no more needs no word.
    let _told = sd_notify::notify(states);
}
