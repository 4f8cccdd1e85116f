//! The certificate by which a server recognizes this client, if there is one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureScheme};

use super::ca_file;
use super::trust::provider;

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
        let chain = ca_file::certificates(certificate, "client_certificate_file")
            .map_err(|problem| format!("cannot use client_certificate_file: {problem}"))?;
        let unusable = |problem: &str| format!("cannot use client_key_file: {problem}");
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            unusable(
                "it has no private key in PEM without a passphrase; \
                 remove the passphrase: openssl pkey -in client_key_file -out client_key_file.pem",
            )
        })?;
        let identity = CertifiedKey::from_der(chain, key, &provider());
        let mismatch = rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
        let identity = identity.map_err(|error| {
            if error == mismatch {
                return unusable("it is not the key of the certificate in client_certificate_file");
            }
            if matches!(error, rustls::Error::InvalidCertificate(_)) {
                return "cannot use client_certificate_file: its first certificate is malformed or not of X.509 \
                        version 3; openssl x509 -req creates version 3 with -extfile"
                    .to_owned();
            }
            unusable(&format!(
                "{error}; supported are RSA, P-256, P-384 and Ed25519"
            ))
        })?;
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// By `openssl x509 -req` without `-extfile`.
    const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBFDCBuwIUHFBn1nr929Wa2drJdBeWo1/aeMcwCgYIKoZIzj0EAwIwDTELMAkG\n\
A1UEAwwCdjEwHhcNMjYxMTMwMjMwMTA4WhcNMzYxMTI3MjMwMTA4WjANMQswCQYD\n\
VQQDDAJ2MTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABB8RQeijoJ3JW940jSbC\n\
2Bki1BlK2sSISbfubmoQemuiEjLcKcMC8pQduDRIpBWNZvJhRuDgigONgP9NjS4F\n\
dVUwCgYIKoZIzj0EAwIDSAAwRQIgeNaOoSGKEylp5UxmoXym9z6dPoPQzn7IXsvG\n\
IhlyHaMCIQDkPIAmmLZ5z6hasTRlXinTpAJcGLZf/bfUy3GbQJFKXw==\n\
-----END CERTIFICATE-----";

    #[test]
    fn identity_that_is_unusable_is_explained() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["host.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let other = KeyPair::generate().unwrap().serialize_pem();
        let parse = |certificate: &str, key: &str| {
            Identity::from_pem(certificate.as_bytes(), key.as_bytes()).map(|_| ())
        };
        assert_eq!(parse(&certificate, &key), Ok(()));
        for (certificate, key, expected) in [
            ("", key.as_str(), "cannot use client_certificate_file: "),
            (&certificate, "", "it has no private key in PEM"),
            (&certificate, &other, "it is not the key of the certificate"),
            (
                VERSION_1,
                &key,
                "openssl x509 -req creates version 3 with -extfile",
            ),
        ] {
            let problem = parse(certificate, key).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
