//! Descriptors that systemd passes to the service (`sd_listen_fds(3)`), notifications to systemd
//! (`sd_notify(3)`): ready, status, watchdog; and its file-descriptor store. Without systemd nothing is
//! passed, and nothing is sent.

use std::ffi::OsStr;
use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::TcpListener;
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

/// The prefix of the names of descriptors in the file-descriptor store.
const STORED_PREFIX: &str = "tokens-";

/// The most characters of a status line.
const MAX_STATUS: usize = 200;

/// How long sending a message that systemd must receive waits while systemd does not read its socket.
/// Others are dropped then.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Reports that the daemon is ready: at its start, and at the end of a reload.
pub fn ready(status: &str) {
    let line = line(status);
    let ready = [NotifyState::Ready, NotifyState::Status(&line)];
    let _ = send(&ready, &[], Some(SEND_TIMEOUT));
}

/// Reports that a reload has begun; [`ready`] follows.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        let _ = send(&[NotifyState::Reloading, now], &[], Some(SEND_TIMEOUT));
    }
}

/// Reports that the service stops.
pub fn stopping() {
    send_or_drop(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Sets the status line. Every local user can read it: counts and commands only, never a name or a message.
pub fn status(status: &str) {
    send_or_drop(&[NotifyState::Status(&line(status))]);
}

/// Reports the exit code that the service ends with. The reason is in the journal, which not every user can
/// read.
pub fn ended(code: u8) {
    let kind = match code {
        2 => "invalid usage",
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

/// Returns whether it is the service of a user's own service manager, by systemd.exec(5).
fn is_users_service() -> bool {
    std::env::var_os("MANAGERPID").is_some()
}

/// Pings the watchdog, and sets the status line.
pub fn ping_watchdog(status: &str) {
    send_or_drop(&[NotifyState::Watchdog, NotifyState::Status(&line(status))]);
}

/// A socket that systemd has bound.
pub type InheritedListener = UnixListener;

/// The descriptors that systemd has passed.
#[derive(Debug, Default)]
pub struct InheritedFds {
    /// Sockets for callers of the broker.
    pub listeners: Vec<InheritedListener>,
    /// Ports for the gateway's applications.
    pub gateway: GatewayPorts,
    /// Descriptors that an earlier process of this service stored by [`store_descriptor`].
    pub stored: Vec<File>,
    /// Why the service cannot start with these descriptors.
    pub error: Option<String>,
}

/// Ports for the gateway's applications.
#[derive(Debug, Default)]
pub struct GatewayPorts {
    /// For HTTP.
    pub http: Vec<TcpListener>,
    /// For HTTPS.
    pub tls: Vec<TcpListener>,
}

/// What a descriptor is for, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Broker,
    Gateway,
    GatewayTls,
}

/// Takes the descriptors that systemd has passed. To be called once, before anything else opens descriptors.
///
/// # Errors
///
/// If the descriptors cannot be read. One that cannot be served is in [`InheritedFds::error`].
pub fn take_inherited() -> io::Result<InheritedFds> {
    let mut inherited = InheritedFds::default();
    let names: Vec<(RawFd, String)> = sd_notify::listen_fds_with_names()?.collect();
    let mut descriptors = ListenFd::from_env();
    for (index, (number, name)) in names.into_iter().enumerate() {
        if name.starts_with(STORED_PREFIX) {
            let path = format!("/proc/self/fd/{number}");
            if std::fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
                let error = format!(
                    "descriptor {name:?}: not a file of stored tokens; set FileDescriptorName=broker \
                     in the socket unit"
                );
                inherited.error = inherited.error.or(Some(error));
                continue;
            }
            // The number has no owner, so it is opened again as a file that has one.
            inherited.stored.extend(File::open(path));
            nix::unistd::close(number)?;
            continue;
        }
        if let Err(error) = inherited.take_listener(&name, index, &mut descriptors) {
            inherited.error = inherited.error.or(Some(error));
        }
    }
    Ok(inherited)
}

impl InheritedFds {
    fn take_listener(
        &mut self,
        name: &str,
        index: usize,
        descriptors: &mut ListenFd,
    ) -> Result<(), String> {
        let invalid = |error: &dyn Display, hint: &str| {
            format!("descriptor {name:?}: {error}; {hint} and Accept=no in the socket unit")
        };
        let ports = match kind_of(name)? {
            Kind::Broker => {
                let hint = "set ListenStream= with a path";
                let listener = descriptors
                    .take_unix_listener(index)
                    .and_then(check_listens);
                self.listeners
                    .extend(listener.map_err(|error| invalid(&error, hint))?);
                return Ok(());
            }
            Kind::Gateway => &mut self.gateway.http,
            Kind::GatewayTls => &mut self.gateway.tls,
        };
        let hint = "set ListenStream= with a loopback address, like 127.0.0.1:8640,";
        let listener = descriptors.take_tcp_listener(index).and_then(check_listens);
        let listener = listener.map_err(|error| invalid(&error, hint))?;
        if let Some(port) = listener {
            let address = port.local_addr().map_err(|error| invalid(&error, hint))?;
            if !address.ip().is_loopback() {
                return Err(invalid(
                    &format!("{address} is not a loopback address"),
                    hint,
                ));
            }
            ports.push(port);
        }
        Ok(())
    }
}

/// Returns what a descriptor of that name is for. A name can be absent (`sd_listen_fds_with_names(3)`), and is by
/// default that of the socket unit.
fn kind_of(name: &str) -> Result<Kind, String> {
    match name {
        "broker" | "" | "unknown" => Ok(Kind::Broker),
        "gateway" => Ok(Kind::Gateway),
        "gateway-tls" => Ok(Kind::GatewayTls),
        name if name.ends_with(".socket") => Ok(Kind::Broker),
        name => Err(format!(
            "descriptor {name:?}: unknown kind of socket; set FileDescriptorName= to broker, gateway or \
             gateway-tls in the socket unit"
        )),
    }
}

/// Checks that a socket listens: with Accept=yes systemd passes a caller's connection.
fn check_listens<T: AsFd>(listener: Option<T>) -> io::Result<Option<T>> {
    match &listener {
        Some(socket) if !getsockopt(socket, AcceptConn)? => {
            Err(io::Error::other("it does not listen"))
        }
        Some(_) | None => Ok(listener),
    }
}

/// Stores `file` in the file-descriptor store for the next process of this service, and removes what is
/// stored in the other slot.
pub fn store_descriptor(file: &File, slot: Slot) {
    let name = NotifyState::FdName(slot.name());
    // On failure only the tokens are lost, and only at the next restart.
    let _ = send(
        &[NotifyState::FdStore, name],
        &[file.as_fd()],
        Some(SEND_TIMEOUT),
    );
    remove_descriptor(slot.other());
}

/// Removes what is stored in that slot.
pub fn remove_descriptor(slot: Slot) {
    send_or_drop(&[NotifyState::FdStoreRemove, NotifyState::FdName(slot.name())]);
}

/// The two slots for a snapshot: the new one is stored before the old one is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    A,
    B,
}

impl Slot {
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

/// Returns whether systemd, or another supervisor, receives notifications.
#[must_use]
pub fn is_present() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Returns within which time [`ping_watchdog`] must be called, if the watchdog is on.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Returns a status as one line.
fn line(status: &str) -> String {
    let plain = status.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_STATUS).collect()
}

fn send_or_drop(states: &[NotifyState]) {
    // No more can be done.
    let _ = send(states, &[], None);
}

/// Sends one message to systemd, if it is present. Without `timeout` it is dropped instead of waiting.
fn send(
    states: &[NotifyState],
    descriptors: &[BorrowedFd],
    timeout: Option<Duration>,
) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let socket = UnixDatagram::unbound()?;
    connect(&socket, &path)?;
    match timeout {
        Some(timeout) => socket.set_write_timeout(Some(timeout))?,
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
    fn descriptor_is_for_what_its_name_says_and_by_default_for_the_broker() {
        for name in ["broker", "", "unknown", "domo-tokend.socket", "x.socket"] {
            assert_eq!(kind_of(name), Ok(Kind::Broker), "{name}");
        }
        assert_eq!(kind_of("gateway"), Ok(Kind::Gateway));
        assert_eq!(kind_of("gateway-tls"), Ok(Kind::GatewayTls));
        for name in [
            "Broker",
            "brokers",
            "gateways",
            "connection",
            "stored",
            "socket",
        ] {
            let error = kind_of(name).unwrap_err();
            assert!(error.contains("broker, gateway or gateway-tls"), "{error}");
        }
    }
}
