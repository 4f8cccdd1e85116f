//! Stands in for systemd, which Windows does not have.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

pub fn ready(_status: &str) {}

pub fn reloading() {}

pub fn stopping() {}

pub fn status(_status: &str) {}

pub fn ended(_code: u8) {}

#[must_use]
pub fn restart_socket_command() -> &'static str {
    "restart domo-tokend"
}

pub fn ping_watchdog(_status: &str) {}

pub type InheritedListener = Infallible;

#[derive(Debug, Default)]
pub struct InheritedFds {
    pub listeners: Vec<InheritedListener>,
    pub gateway: GatewayPorts,
    pub stored: Vec<File>,
    pub error: Option<String>,
}

#[derive(Debug, Default)]
pub struct GatewayPorts {
    pub http: Vec<TcpListener>,
    pub tls: Vec<TcpListener>,
}

/// # Errors
///
/// None.
pub fn take_inherited() -> io::Result<InheritedFds> {
    Ok(InheritedFds::default())
}

#[must_use]
pub fn is_present() -> bool {
    false
}

#[must_use]
pub fn watchdog() -> Option<Duration> {
    None
}
