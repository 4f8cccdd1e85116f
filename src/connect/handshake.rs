//! TLS handshakes, and why a TLS connection failed.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::{ClientConfig, ProtocolVersion};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::client_certificate::{ClientCertificate, Offer};
use super::error::{ConnectError, innermost, is_closed, tls_cause};
use super::server::Server;
use super::{Stream, proxy, tls_error};
use crate::config::{Naming, Setting};

/// The protocol of Domo and of proxies in ALPN.
const HTTP: &[&[u8]] = &[b"http/1.1"];

/// Explains the failure of an established connection.
pub struct Diagnosis {
    pub(super) server_name: String,
    pub(super) client_certificate: Arc<ClientCertificate>,
    pub(super) naming: Naming,
}

pub(super) struct Handshake<'a> {
    server: &'a Server,
    server_name: &'a str,
    limit: Instant,
    client_certificate: Arc<ClientCertificate>,
    /// The proxy whose tunnel it goes through, and the status of its response to CONNECT.
    tunnel: Option<(&'a Server, u16)>,
    is_proxy: bool,
    /// The protocols to offer.
    alpn: &'static [&'static [u8]],
    naming: Naming,
}

impl<'a> Handshake<'a> {
    pub(super) fn with_proxy(proxy: &'a Server, naming: Naming, limit: Instant) -> Self {
        Self {
            server: proxy,
            server_name: &proxy.shown,
            limit,
            client_certificate: Arc::new(ClientCertificate::new(Offer::Unsupported)),
            alpn: HTTP,
            tunnel: None,
            is_proxy: true,
            naming,
        }
    }

    pub(super) fn with_target(
        target: &'a Server,
        diagnosis: &'a Diagnosis,
        tunnel: Option<(&'a Server, u16)>,
        limit: Instant,
    ) -> Self {
        Self {
            server: target,
            server_name: &diagnosis.server_name,
            limit,
            client_certificate: Arc::clone(&diagnosis.client_certificate),
            tunnel,
            is_proxy: false,
            alpn: HTTP,
            naming: diagnosis.naming,
        }
    }

    /// Returns one that names no protocol, because some proxies in front of servers reject those that they do not know.
    pub(super) fn without_alpn(
        target: &'a Server,
        diagnosis: &'a Diagnosis,
        limit: Instant,
    ) -> Self {
        Self {
            alpn: &[],
            ..Self::with_target(target, diagnosis, None, limit)
        }
    }

    pub(super) async fn run(
        self,
        stream: Box<dyn Stream>,
        config: &ClientConfig,
    ) -> Result<Box<dyn Stream>, ConnectError> {
        let server_name = self.server_name;
        let no_name = || {
            ConnectError::tls(format!(
                "{server_name} has no host name that is valid in TLS"
            ))
        };
        let name = self.server.name().ok_or_else(no_name)?;
        let mut config = config.clone();
        let client_certificate = Arc::clone(&self.client_certificate);
        config.client_auth_cert_resolver = client_certificate;
        config.alpn_protocols = self.alpn.iter().map(|name| name.to_vec()).collect();
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        match timeout_at(self.limit, handshake).await {
            Ok(Ok(stream)) => {
                // With TLS 1.2 a server that requires a certificate ends the handshake without one.
                if stream.get_ref().1.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
                    self.client_certificate.forget_request();
                }
                Ok(Box::new(stream))
            }
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(ConnectError::timed_out(format!(
                "no TLS handshake with {server_name} in time{}",
                self.hint()
            ))),
        }
    }

    fn failure(&self, error: &io::Error) -> ConnectError {
        let (server_name, hint) = (self.server_name, self.hint());
        let Some(tls) = tls_cause(error) else {
            let message = if is_closed(error) {
                "closed by the peer".to_owned()
            } else {
                innermost(error)
            };
            let message = format!(
                "the connection to {server_name} ended during the TLS handshake: {message}{hint}"
            );
            return ConnectError::unreachable(message);
        };
        if tls_error::is_plain_text(tls) {
            if let Some((server, status)) = self.tunnel {
                return proxy::page_error(&server.shown, status);
            }
            if self.is_proxy {
                return ConnectError::tls(format!("{server_name} speaks http, not TLS{hint}"));
            }
        }
        ConnectError::tls(tls_error::message(
            tls,
            server_name,
            &self.client_certificate,
            self.naming,
        ))
    }

    /// Returns advice for a proxy URL with https, which is usually a mistake: most proxies are http.
    fn hint(&self) -> String {
        if self.is_proxy {
            let url = format!("http://{}", self.server.address);
            let proxy = self.naming.assignment(Setting::PROXY, &url);
            format!("; if it speaks http, write {proxy}")
        } else {
            String::new()
        }
    }
}

impl Diagnosis {
    /// Returns why an established connection failed with `error`, if TLS explains it.
    #[must_use]
    pub fn explain(&self, error: &(dyn Error + 'static)) -> Option<ConnectError> {
        let tls = tls_cause(error)?;
        let certificate = &self.client_certificate;
        let message = tls_error::message(tls, &self.server_name, certificate, self.naming);
        Some(ConnectError::tls(message))
    }

    /// Returns what may explain that a connection ended before a response. With TLS 1.3 a server may require a client
    /// certificate after the handshake; most request one without requiring it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        self.client_certificate.hint()
    }
}
