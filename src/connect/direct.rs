//! Connections to servers that do not speak HTTP, such as the store of a fleet: by host and port, and never through a
//! proxy. Unlike a [`Connector`](super::Connector), which sends a secret, this one connects to any address without TLS
//! too: its caller decides whether that is acceptable, and what it sends.

use std::sync::Arc;

use tokio::time::Instant;
use url::Host;

use super::client_certificate::{ClientCertificate, Identity, Offer};
use super::handshake::Handshake;
use super::name_lookup::Resolver;
use super::server::Server;
use super::trust::Trust;
use super::{ConnectError, Connection, Diagnosis, Shared, addresses, tcp, tls_config};
use crate::config::Naming;

/// What TLS needs besides the system's trust store.
pub(crate) struct DirectTls<'a> {
    /// The content of a CA file, with its name as one word of a command.
    pub(crate) ca: Option<(&'a [u8], &'a str)>,
    pub(crate) identity: Option<Identity>,
}

/// Makes connections to servers of one kind, all with TLS or all without.
pub(crate) struct DirectConnector {
    resolver: Arc<Resolver>,
    tls: Option<(Arc<Trust>, Option<Identity>)>,
}

impl DirectConnector {
    /// Returns a connector that shares name lookups and trust stores. Blocks while it parses the CA file.
    ///
    /// # Errors
    ///
    /// What is wrong with the CA file.
    pub(crate) fn new(shared: &Shared, tls: Option<DirectTls<'_>>) -> Result<Self, String> {
        let tls = tls.map(|tls| Ok::<_, String>((shared.trust.with_ca(tls.ca)?, tls.identity)));
        Ok(Self {
            resolver: Arc::clone(&shared.resolver),
            tls: tls.transpose()?,
        })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects by `deadline`, to any address.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] names the step that failed.
    pub(crate) async fn connect(
        &self,
        host: &Host<String>,
        port: u16,
        deadline: Instant,
    ) -> Result<Connection, ConnectError> {
        let target = Server::at(host.clone(), port, self.is_tls());
        let addresses = addresses(&self.resolver, &target, deadline).await?;
        let mut stream = tcp(addresses, &target, deadline).await?;
        let offer = match &self.tls {
            Some((_, Some(identity))) => Offer::Sent(identity.clone()),
            Some((_, None)) | None => Offer::Missing,
        };
        let diagnosis = Diagnosis {
            server_name: target.shown.clone(),
            client_certificate: Arc::new(ClientCertificate::new(offer)),
            naming: Naming::Keys,
        };
        if let Some((trust, _)) = &self.tls {
            let config = tls_config(trust, &target.shown, deadline).await?;
            let handshake = Handshake::without_alpn(&target, &diagnosis, deadline);
            stream = handshake.run(stream, &config).await?;
        }
        Ok(Connection { stream, diagnosis })
    }
}
