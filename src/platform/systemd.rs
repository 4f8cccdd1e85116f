//! What systemd hands to the service (`sd_listen_fds(3)`), and what it hears of it
//! (`sd_notify(3)`). Without systemd there is nothing, and nothing is said.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
#[cfg(target_os = "linux")]
use std::os::unix::ffi::OsStrExt;
#[cfg(target_os = "linux")]
use std::os::unix::net::SocketAddr;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Duration;

use listenfd::ListenFd;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::AcceptConn;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;

/// How the names of descriptors begin that systemd keeps for us over a restart.
const KEPT: &str = "tokens-";

/// The most of a status line that is sent, in characters.
const MAX_STATUS: usize = 200;

/// How long a message waits that systemd must have. While nobody reads the socket of systemd, others
/// are dropped: the daemon never waits for their reader.
const PATIENCE: Duration = Duration::from_secs(1);

/// The socket listens, and the config is good.
pub fn ready(status: &str) {
    let line = line(status);
    let ready = [NotifyState::Ready, NotifyState::Status(&line)];
    let _ = send(&ready, &[], Some(PATIENCE));
}

/// The config is read again; [`ready`] follows.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        let _ = send(&[NotifyState::Reloading, now], &[], Some(PATIENCE));
    }
}

/// The service ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// How it goes. Every local user can read it: counts and commands only, never a name or a message.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(&line(status))]);
}

/// The service has ended with that exit code. Its reason is in the journal, which not everybody can
/// read.
pub fn ended(code: u8) {
    let kind = match code {
        2 => "wrong usage",
        75 => "temporary failure",
        78 => "configuration error",
        _ => "internal error",
    };
    let check = if code == 78 {
        ", or domo-tokend check"
    } else {
        ""
    };
    let journal = journal_command();
    status(&format!("{kind} (exit {code}); run: {journal}{check}"));
}

/// Returns the command that shows why the service has ended.
#[must_use]
pub fn journal_command() -> &'static str {
    if is_users_service() {
        "journalctl --user -u domo-tokend"
    } else {
        "journalctl -u domo-tokend"
    }
}

/// Returns the command that has systemd bind the socket again.
#[must_use]
pub fn restart_socket_command() -> &'static str {
    if is_users_service() {
        "systemctl --user restart domo-tokend.socket"
    } else {
        "systemctl restart domo-tokend.socket"
    }
}

/// Whether it is the service of a user's own service manager, by systemd.exec(5).
fn is_users_service() -> bool {
    std::env::var_os("MANAGERPID").is_some()
}

/// The service works; the watchdog and people are told.
pub fn alive(status: &str) {
    tell(&[NotifyState::Watchdog, NotifyState::Status(&line(status))]);
}

/// A socket that systemd has bound.
pub type InheritedListener = UnixListener;

/// The descriptors that systemd has handed over.
#[derive(Debug, Default)]
pub struct InheritedFds {
    /// The sockets that it listens on for callers of the broker.
    pub listeners: Vec<InheritedListener>,
    /// What an earlier process of this service had it keep, by [`keep`].
    pub stored: Vec<File>,
    /// Why the service cannot start with what it was given.
    pub wrong: Option<String>,
}

/// Takes what systemd has handed over. To be asked once, before anything else opens descriptors.
///
/// # Errors
///
/// If what was handed over cannot be read; what cannot be served is in [`InheritedFds::wrong`].
pub fn passed() -> io::Result<InheritedFds> {
    let mut passed = InheritedFds::default();
    let names: Vec<(RawFd, String)> = sd_notify::listen_fds_with_names()?.collect();
    let mut descriptors = ListenFd::from_env();
    for (index, (number, name)) in names.into_iter().enumerate() {
        if name.starts_with(KEPT) {
            let path = format!("/proc/self/fd/{number}");
            if std::fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
                let wrong = format!(
                    "descriptor {name:?}: not a file with stored tokens; set FileDescriptorName=broker in the socket unit"
                );
                passed.wrong = passed.wrong.or(Some(wrong));
                continue;
            }
            // A file of our own takes the number's place, which nothing owns.
            passed.stored.extend(File::open(path));
            nix::unistd::close(number)?;
            continue;
        }
        let listener = check_name(&name).and_then(|()| {
            let taken = descriptors.take_unix_listener(index);
            let hint = "the socket unit must have ListenStream= with a path, and Accept=no";
            taken
                .and_then(check_listens)
                .map_err(|error| format!("descriptor {name:?}: {error}; {hint}"))
        });
        match listener {
            Ok(listener) => passed.listeners.extend(listener),
            Err(wrong) => passed.wrong = passed.wrong.or(Some(wrong)),
        }
    }
    Ok(passed)
}

/// Whether a descriptor of that name is a socket for callers of the broker. It has no name where
/// systemd's helpers give none (`sd_listen_fds_with_names(3)`), and by default its unit's.
fn check_name(name: &str) -> Result<(), String> {
    match name {
        "broker" | "" | "unknown" => Ok(()),
        "gateway" | "gateway-tls" => Err(format!(
            "descriptor {name:?}: this version has no gateway; disable its socket unit"
        )),
        name if name.ends_with(".socket") => Ok(()),
        name => Err(format!(
            "descriptor {name:?}: no such kind of socket; set FileDescriptorName=broker in the socket unit"
        )),
    }
}

/// One that was accepted from, as by Accept=yes, is a caller's connection.
fn check_listens(listener: Option<InheritedListener>) -> io::Result<Option<InheritedListener>> {
    match &listener {
        Some(socket) if !getsockopt(socket, AcceptConn)? => {
            Err(io::Error::other("it does not listen"))
        }
        Some(_) | None => Ok(listener),
    }
}

/// Has systemd keep `file` for the next process of this service, instead of what it kept before
/// under the other of the two slots.
pub fn keep(file: &File, slot: Slot) {
    let name = NotifyState::FdName(slot.name());
    // Whoever keeps nothing loses nothing but the tokens at the next restart.
    let _ = send(
        &[NotifyState::FdStore, name],
        &[file.as_fd()],
        Some(PATIENCE),
    );
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
    // Nothing depends on what systemd is told in this way.
    let _ = send(states, &[], None);
}

/// Sends one message to systemd, if it is there. Without `patience` it is dropped where it would wait.
fn send(
    states: &[NotifyState],
    descriptors: &[BorrowedFd],
    patience: Option<Duration>,
) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let socket = UnixDatagram::unbound()?;
    connect(&socket, &path)?;
    match patience {
        Some(patience) => socket.set_write_timeout(Some(patience))?,
        None => socket.set_nonblocking(true)?,
    }
    let mut text = String::new();
    for state in states {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{state}");
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        attached.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let text = [IoSlice::new(text.as_bytes())];
    sendmsg(&socket, &text, &mut attached, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Connects to a path or, if it begins with `@`, to an abstract address (`sd_notify(3)`).
fn connect(socket: &UnixDatagram, address: &OsStr) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return socket.connect_addr(&SocketAddr::from_abstract_name(name)?);
    }
    socket.connect(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_names_of_the_broker_are_its_own_none_and_a_units() {
        for name in ["broker", "", "unknown", "domo-tokend.socket", "x.socket"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["gateway", "gateway-tls"] {
            assert!(check_name(name).unwrap_err().contains("has no gateway"));
        }
        for name in ["Broker", "brokers", "connection", "stored", "socket"] {
            let error = check_name(name).unwrap_err();
            assert!(error.contains("FileDescriptorName=broker"), "{error}");
        }
    }
}
