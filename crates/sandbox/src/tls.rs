//! A certificate authority created at start, and its certificate for this machine.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// The server's certificate.
pub(crate) struct Identity {
    /// Its host names and addresses.
    pub(crate) names: Vec<String>,
    /// Whether it has expired.
    pub(crate) expired: bool,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            names: ["localhost", "127.0.0.1"].map(str::to_owned).into(),
            expired: false,
        }
    }
}

/// Returns a TLS acceptor, and its CA's certificate in PEM.
pub(crate) fn acceptor(identity: Identity) -> io::Result<(TlsAcceptor, String)> {
    let mut authority = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(rcgen::DnType::CommonName, "domo-sandbox CA");
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let authority = CertifiedIssuer::self_signed(authority, key).map_err(io::Error::other)?;

    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut certificate = CertificateParams::new(identity.names).map_err(io::Error::other)?;
    if identity.expired {
        certificate.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let certificate = certificate
        .signed_by(&key, &authority)
        .map_err(io::Error::other)?;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .map_err(io::Error::other)?;
    Ok((TlsAcceptor::from(Arc::new(config)), authority.pem()))
}
