//! What systemd hands to the service (`sd_listen_fds(3)`), and what it hears of it
//! (`sd_notify(3)`). Without systemd there is nothing, and nothing is said.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// How the names of descriptors begin that systemd keeps for us over a restart.
const KEPT: &str = "tokens-";

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

/// How it goes, or why it has ended.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(&line(status))]);
}

/// The service works; the watchdog and people are told.
pub fn alive(status: &str) {
    tell(&[NotifyState::Watchdog, NotifyState::Status(&line(status))]);
}

/// A socket that systemd has bound.
pub type Bound = UnixListener;

/// The descriptors that systemd has handed over.
#[derive(Debug, Default)]
pub struct Passed {
    /// The socket that it listens on for us.
    pub listener: Option<Bound>,
    /// What an earlier process of this service had it keep, by [`keep`].
    pub kept: Vec<File>,
}

/// Takes what systemd has handed over. To be asked once, before anything else opens descriptors.
///
/// # Errors
///
/// If what stands for the socket is no listening Unix socket.
pub fn passed() -> io::Result<Passed> {
    let mut passed = Passed::default();
    let names: Vec<(RawFd, String)> = sd_notify::listen_fds_with_names()?.collect();
    let mut descriptors = ListenFd::from_env();
    for (index, (number, name)) in names.into_iter().enumerate() {
        if name.starts_with(KEPT) {
            // A file of our own takes the number's place, which nothing owns.
            passed
                .kept
                .extend(File::open(format!("/proc/self/fd/{number}")));
            nix::unistd::close(number)?;
        } else if passed.listener.is_none() {
            let taken = descriptors.take_unix_listener(index);
            passed.listener = taken.map_err(|error| {
                let hint = "the socket unit must have one ListenStream= with a path";
                io::Error::other(format!("{error}; {hint}"))
            })?;
        }
    }
    Ok(passed)
}

/// Has systemd keep `file` for the next process of this service, instead of what it kept before
/// under the other of the two slots.
pub fn keep(file: &File, slot: Slot) {
    let name = NotifyState::FdName(slot.name());
    // Whoever keeps nothing loses nothing but the tokens at the next restart.
    let _told = sd_notify::notify_with_fds(&[NotifyState::FdStore, name], &[file.as_fd()]);
    forget(slot.other());
}

/// Has systemd close what it keeps under that slot.
pub fn forget(slot: Slot) {
    tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(slot.name())]);
}

/// Two names for what is kept, so that the new is there before the old is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The one,
    A,
    /// and the other.
    B,
}

impl Slot {
    /// The one that isn't this.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::A => "tokens-a",
            Self::B => "tokens-b",
        }
    }
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
