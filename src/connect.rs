//! Connections to servers: name lookup, TCP, a proxy's tunnel, TLS. Each step has its own time limit and
//! its own error.
//!
//! - `name_lookup`: addresses of a name, one lookup for all requests that wait for it.
//! - `happy_eyeballs`: connects to the first of several addresses that answers.
//! - `proxy`: opens a proxy's tunnel, or returns why it is rejected.
//! - `handshake`: TLS, and what explains the end of a connection.
//! - `redact`: removes secrets from what servers and proxies send.
//! - `server`: the other end of a connection, and its name in messages.
//! - `ca_file`: certificates in a file.
//! - `trust`: the system's trust store, and TLS configurations shared by what they trust.
//! - `certified_key`: a certificate with its private key.
//! - `client_certificate`: by which a server recognizes this client.
//! - `direct`: connections that are not for HTTP, to the store of a fleet.
//! - `tls_error`: why TLS failed.
//! - `error`: why there is no connection.

mod ca_file;
mod certified_key;
mod client_certificate;
mod direct;
mod error;
mod handshake;
mod happy_eyeballs;
mod name_lookup;
mod proxy;
mod redact;
mod server;
#[cfg(all(test, unix))]
pub(crate) mod tests;
mod tls_error;
mod trust;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

pub(crate) use certified_key::{PairNames, certified_key};
pub(crate) use client_certificate::Identity;
pub(crate) use direct::{DirectConnector, DirectTls};
pub use error::{ConnectError, ConnectFailure};
pub(crate) use error::{innermost, is_closed};
pub use handshake::Diagnosis;
#[cfg(test)]
pub(crate) use redact::MAX_TEXT;
pub(crate) use redact::{Secrets, one_line};
pub(crate) use trust::provider;

use crate::config::{Naming, Setting};
use crate::credentials::ProxyLogin;
use crate::platform::clock::timer_now;
use crate::platform::descriptors::{self, RAISE_LIMIT};
use client_certificate::{ClientCertificate, Offer};
use handshake::Handshake;
use name_lookup::Resolver;
use server::{Server, address_of};
use trust::{Trust, TrustStores};

/// How long TCP, a proxy's tunnel and TLS may take together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The `User-Agent` of requests.
pub const USER_AGENT: &str = concat!("domo-token/", env!("CARGO_PKG_VERSION"));

/// The bytes of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What all connectors share: name lookups and trust stores.
#[derive(Clone, Default)]
pub struct Shared {
    resolver: Arc<Resolver>,
    trust: Arc<TrustStores>,
}

/// The proxy that connections go through.
pub struct Proxy {
    /// Its URL: http or https.
    pub url: Url,
    /// The login for it.
    pub login: Option<ProxyLogin>,
}

/// Makes connections for HTTP, all of them directly or all of them through one proxy.
pub struct Connector {
    resolver: Arc<Resolver>,
    trust: Arc<Trust>,
    proxy: Option<Proxy>,
    /// How messages name the settings.
    naming: Naming,
    /// For TCP, a proxy's tunnel and TLS together.
    timeout: Duration,
}

/// A connection to a server.
pub struct Connection {
    /// Its bytes, after TLS if there is any.
    pub stream: Box<dyn Stream>,
    /// What is known about it if it fails.
    pub diagnosis: Diagnosis,
}

/// Returns the name of the server of `url` for messages, with the proxy on the way.
#[must_use]
pub fn display_name(url: &Url, proxy: Option<&Url>) -> String {
    let address = address_of(url);
    match proxy {
        Some(proxy) => format!("{address} through the proxy {}", address_of(proxy)),
        None => address,
    }
}

impl Connector {
    /// Returns a connector that trusts the certificates of `ca` besides the system's: the content of a file, with
    /// its name as one word of a command. Blocks while it parses them.
    ///
    /// # Errors
    ///
    /// What is wrong with `ca`.
    pub fn new(
        shared: &Shared,
        ca: Option<(&[u8], &str)>,
        proxy: Option<Proxy>,
        naming: Naming,
    ) -> Result<Self, String> {
        Ok(Self {
            resolver: Arc::clone(&shared.resolver),
            trust: shared.trust.with_ca(ca)?,
            proxy,
            naming,
            timeout: CONNECT_TIMEOUT,
        })
    }

    /// Returns the content of its CA file, shared with all connectors that have the same; empty without one.
    #[must_use]
    pub fn ca(&self) -> &Arc<[u8]> {
        self.trust.content()
    }

    /// Connects to the server of `url` by `deadline`. With http it connects only to loopback addresses, whatever the
    /// name resolves to. Calls `on_tunnel` as soon as the proxy has opened a tunnel.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] names the step that failed.
    pub async fn connect(
        &self,
        url: &Url,
        deadline: Instant,
        on_tunnel: &(dyn Fn() + Send + Sync),
    ) -> Result<Connection, ConnectError> {
        let server_name = display_name(url, self.proxy.as_ref().map(|proxy| &proxy.url));
        let no_host =
            || ConnectError::unreachable(format!("{server_name} has no host; check the URL"));
        let target = Server::of(url).ok_or_else(no_host)?;
        let proxy = match &self.proxy {
            Some(proxy) => Some((self.proxy_server(proxy, &target)?, proxy)),
            None => None,
        };
        let first = proxy.as_ref().map_or(&target, |(server, _)| server);
        let tls = if target.is_tls || first.is_tls {
            Some(tls_config(&self.trust, &server_name, deadline).await?)
        } else {
            None
        };
        let mut addresses = addresses(&self.resolver, first, deadline).await?;
        if !target.is_tls {
            addresses = loopback_only(addresses, &target)?;
        }
        let client_certificate = Arc::new(ClientCertificate::new(Offer::Unsupported));
        let diagnosis = Diagnosis {
            server_name,
            client_certificate,
            naming: self.naming,
        };
        let limit = deadline.min(timer_now() + self.timeout);
        let mut stream = tcp(addresses, first, limit).await?;
        let mut tunnel = None;
        if let Some((server, proxy)) = &proxy {
            if let Some(tls) = tls.as_ref().filter(|_| server.is_tls) {
                let to_proxy = Handshake::with_proxy(server, self.naming, limit);
                stream = to_proxy.run(stream, tls).await?;
            }
            let opening = proxy::open_tunnel(
                &mut *stream,
                server,
                proxy.login.as_ref(),
                &target,
                self.naming,
            );
            let opened = timeout_at(limit, opening).await;
            let late = |_| {
                let shown = &server.shown;
                ConnectError::timed_out(format!("no response from {shown} to CONNECT in time"))
            };
            tunnel = Some((server, opened.map_err(late)??));
            on_tunnel();
        }
        if let Some(tls) = tls.as_ref().filter(|_| target.is_tls) {
            let handshake = Handshake::with_target(&target, &diagnosis, tunnel, limit);
            stream = handshake.run(stream, tls).await?;
        }
        Ok(Connection { stream, diagnosis })
    }

    /// Returns the proxy as a server, if requests to `target` may go through one.
    fn proxy_server(&self, proxy: &Proxy, target: &Server) -> Result<Server, ConnectError> {
        let name = self.naming.name(Setting::PROXY);
        let mut server = Server::of(&proxy.url).ok_or_else(|| {
            ConnectError::proxy(format!("the URL of the proxy has no host; check {name}"))
        })?;
        server.shown = format!("the proxy {}", server.address);
        if !target.is_tls {
            return Err(ConnectError::proxy(format!(
                "http to {} is not sent through a proxy, because the secret would leave this machine \
                 unencrypted; remove {name}, or use https",
                target.shown
            )));
        }
        Ok(server)
    }
}

async fn tls_config(
    trust: &Trust,
    server_name: &str,
    deadline: Instant,
) -> Result<Arc<ClientConfig>, ConnectError> {
    let config = timeout_at(deadline, trust.config()).await;
    let late = |_| ConnectError::timed_out("the system's trust store was not read in time");
    config.map_err(late)?.map_err(|error| {
        ConnectError::tls(format!(
            "cannot verify {server_name}: cannot use the system's trust store: {error}"
        ))
    })
}

async fn addresses(
    resolver: &Arc<Resolver>,
    server: &Server,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let shown = &server.shown;
    let literal = |address: IpAddr| vec![SocketAddr::new(address, 0)];
    let mut found = match &server.host {
        Host::Ipv4(address) => literal(IpAddr::from(*address)),
        Host::Ipv6(address) => literal(IpAddr::from(*address)),
        Host::Domain(name) => {
            let lookup = timeout_at(deadline, resolver.addresses(name)).await;
            let late = |_| {
                let hint = resolver.late_hint();
                let host = server.shown_host();
                let message = format!("no response from the resolver for {host} in time; {hint}");
                ConnectError::timed_out(message)
            };
            lookup.map_err(late)?.map_err(|error| {
                let message = error.to_string();
                let general = "failed to lookup address information: ";
                let message = message.strip_prefix(general).unwrap_or(&message);
                let hint = hint_of(&error);
                ConnectError::unreachable(format!("cannot resolve {shown}: {message}{hint}"))
            })?
        }
    };
    // The scope of an IPv6 address is kept.
    for address in &mut found {
        address.set_port(server.port);
    }
    Ok(found)
}

fn hint_of(error: &io::Error) -> &'static str {
    if descriptors::is_exhausted(error) {
        RAISE_LIMIT
    } else {
        ""
    }
}

/// Returns the loopback addresses, or an error if there are only others: a name does not prove where bytes go.
fn loopback_only(
    addresses: Vec<SocketAddr>,
    server: &Server,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let is_loopback = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
    let (here, elsewhere): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_loopback);
    match elsewhere.first() {
        Some(other) if here.is_empty() => Err(ConnectError::unreachable(format!(
            "{} resolves to {}, which is not a loopback address; the secret is not sent over http to it; use https",
            server.shown_host(),
            other.ip()
        ))),
        _ => Ok(here),
    }
}

async fn tcp(
    addresses: Vec<SocketAddr>,
    server: &Server,
    limit: Instant,
) -> Result<Box<dyn Stream>, ConnectError> {
    let shown = &server.shown;
    let connected = timeout_at(limit, happy_eyeballs::connect(addresses)).await;
    let late = |_| ConnectError::timed_out(format!("no connection to {shown} in time"));
    let stream = connected.map_err(late)?.map_err(|error| {
        let hint = hint_of(&error);
        ConnectError::unreachable(format!("cannot connect to {shown}: {error}{hint}"))
    })?;
    // Requests are small. A failure only costs time.
    let _ = stream.set_nodelay(true);
    Ok(Box::new(stream))
}
