//! The other end of a connection, and its name in messages.

use std::net::IpAddr;

use rustls::pki_types::ServerName;
use url::{Host, Url};

use domo_token_core::masking::masked;

/// The target or the proxy.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) host: Host<String>,
    pub(super) port: u16,
    pub(super) is_tls: bool,
    /// Host and port as messages show them.
    pub(super) address: String,
    /// The same; for the proxy with "the proxy" before it.
    pub(super) shown: String,
}

impl Server {
    pub(super) fn of(url: &Url) -> Option<Self> {
        let address = address_of(url);
        Some(Self {
            host: url.host()?.to_owned(),
            port: url.port_or_known_default()?,
            is_tls: url.scheme() == "https",
            shown: address.clone(),
            address,
        })
    }

    /// Returns a server by host and port instead of a URL.
    pub(super) fn at(host: Host<String>, port: u16, is_tls: bool) -> Self {
        let address = format!("{}:{port}", masked(&host.to_string()));
        Self {
            host,
            port,
            is_tls,
            shown: address.clone(),
            address,
        }
    }

    /// Returns its name without the port, for messages.
    pub(super) fn shown_host(&self) -> String {
        masked(&self.host.to_string()).into_owned()
    }

    /// Returns host and port for CONNECT.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(super) fn name(&self) -> Option<ServerName<'static>> {
        match &self.host {
            // Certificates have names without the dot at the end.
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                ServerName::try_from(name.to_owned()).ok()
            }
            Host::Ipv4(address) => Some(IpAddr::from(*address).into()),
            Host::Ipv6(address) => Some(IpAddr::from(*address).into()),
        }
    }
}

/// Returns host and port of a URL, for messages.
pub(super) fn address_of(url: &Url) -> String {
    let name = masked(url.host_str().unwrap_or_default());
    let port = url.port().map(|port| format!(":{port}"));
    format!("{name}{}", port.unwrap_or_default())
}
