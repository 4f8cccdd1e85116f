//! The certificate by which a server recognizes this client, if there is one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use super::certified_key::{PairNames, certified_key};

/// A client certificate with its key.
#[derive(Clone)]
pub(crate) struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// Parses a certificate, with those of CAs after it, and its key: two files in PEM.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(crate) fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, String> {
        let names = PairNames {
            certificate: "client_certificate_file",
            private_key: "client_key_file",
        };
        let identity = certified_key(certificate, key, names)?;
        Ok(Self(Arc::new(identity)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// What a kind of server can be sent as a client certificate.
#[derive(Clone, Debug)]
pub(super) enum Offer {
    /// Client certificates are not supported.
    Unsupported,
    /// None is configured.
    Missing,
    Sent(Identity),
}

/// Presents the certificate if there is one, and records that the server requests one.
#[derive(Debug)]
pub(super) struct ClientCertificate {
    offer: Offer,
    was_requested: AtomicBool,
}

impl ClientCertificate {
    pub(super) fn new(offer: Offer) -> Self {
        Self {
            offer,
            was_requested: AtomicBool::new(false),
        }
    }

    /// Returns whether the server has requested a certificate.
    pub(super) fn was_requested(&self) -> bool {
        self.was_requested.load(Ordering::Relaxed)
    }

    pub(super) fn forget_request(&self) {
        self.was_requested.store(false, Ordering::Relaxed);
    }

    /// Returns what a server requires that ends connections for want of a certificate, and what to do.
    pub(super) fn advice(&self) -> &'static str {
        match self.offer {
            Offer::Unsupported => "requires a client certificate, which is not supported",
            Offer::Missing => {
                "requires a client certificate; set client_certificate_file and client_key_file"
            }
            Offer::Sent(_) => {
                "does not accept the client certificate; it must be valid, and issued by a CA that the server trusts"
            }
        }
    }

    /// Returns what may explain that a connection ended without a reason.
    pub(super) fn hint(&self) -> &'static str {
        match self.offer {
            _ if !self.was_requested() => "",
            Offer::Unsupported => "; it may require a client certificate, which is not supported",
            Offer::Missing => {
                "; it may require a client certificate: set client_certificate_file and client_key_file"
            }
            Offer::Sent(_) => "; it may not accept the client certificate",
        }
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_requested.store(true, Ordering::Relaxed);
        match &self.offer {
            Offer::Sent(Identity(identity)) => Some(Arc::clone(identity)),
            Offer::Unsupported | Offer::Missing => None,
        }
    }

    fn has_certs(&self) -> bool {
        matches!(self.offer, Offer::Sent(_))
    }
}
