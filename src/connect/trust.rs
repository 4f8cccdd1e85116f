//! Verifies servers by the system's trust store, and by the certificates of a `ca_file`.
//!
//! Connectors with the same content of the file share its certificates, and all share the system's.

#[cfg(not(any(windows, target_vendor = "apple")))]
mod files;
mod system;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::ca_file;
pub(super) use system::SystemStore;

/// The generation of the system's store and the note on it that a configuration was made with.
type MadeWith = (u64, Arc<str>);

/// What all connectors trust, by the content of their CA file.
#[derive(Default)]
pub(super) struct TrustStores {
    system: Arc<SystemStore>,
    by_ca: Mutex<HashMap<Arc<[u8]>, Weak<Trust>>>,
}

impl TrustStores {
    /// Returns what is trusted with a `ca_file` of that content, which commands name `shown`. Blocks while it parses
    /// the file.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub(super) fn with_ca(&self, ca: Option<(&[u8], &str)>) -> Result<Arc<Trust>, String> {
        let (content, shown) = ca.unwrap_or_default();
        let mut by_ca = self.by_ca.lock().unwrap_or_else(PoisonError::into_inner);
        by_ca.retain(|_, trust| trust.strong_count() > 0);
        if let Some(trust) = by_ca.get(content).and_then(Weak::upgrade) {
            return Ok(trust);
        }
        let certificates = match ca {
            Some(_) => ca_file::certificates(content, shown)?,
            None => Vec::new(),
        };
        let content: Arc<[u8]> = content.into();
        let trust = Trust::new(Arc::clone(&content), certificates, Arc::clone(&self.system));
        let trust = Arc::new(trust.map_err(|error| error.to_string())?);
        by_ca.insert(content, Arc::downgrade(&trust));
        Ok(trust)
    }

    #[cfg(all(test, unix, not(target_vendor = "apple")))]
    pub(super) fn with_system(system: SystemStore) -> Self {
        Self {
            system: Arc::new(system),
            by_ca: Mutex::default(),
        }
    }

    /// Returns how many are in use.
    #[cfg(all(test, unix, not(target_vendor = "apple")))]
    pub(super) fn count(&self) -> usize {
        let mut by_ca = self.by_ca.lock().unwrap_or_else(PoisonError::into_inner);
        by_ca.retain(|_, trust| trust.strong_count() > 0);
        by_ca.len()
    }
}

/// What connectors with one CA file trust.
pub(super) struct Trust {
    content: Arc<[u8]>,
    /// The certificates of the file; by mistake the server's own may be among them.
    certificates: Arc<[CertificateDer<'static>]>,
    of_file: Option<Arc<WebPkiServerVerifier>>,
    system: Arc<SystemStore>,
    latest: Mutex<Option<(MadeWith, Arc<ClientConfig>)>>,
}

impl Trust {
    fn new(
        content: Arc<[u8]>,
        certificates: Vec<CertificateDer<'static>>,
        system: Arc<SystemStore>,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone())?;
        }
        Ok(Self {
            content,
            certificates: certificates.into(),
            of_file: verifier(roots)?,
            system,
            latest: Mutex::default(),
        })
    }

    /// Returns the content of the file; empty without one.
    pub(super) fn content(&self) -> &Arc<[u8]> {
        &self.content
    }

    /// Returns the TLS configuration. Reads the system's trust store if it has changed.
    ///
    /// # Errors
    ///
    /// If neither the system's store nor the file can be used.
    pub(super) async fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let (made_with, system) = match self.system.current().await {
            Ok((generation, store)) => ((generation, store.note), Some(store.verifier)),
            // Then only the file's certificates are trusted; the next attempt reads the store again.
            Err(problem) if self.of_file.is_some() => {
                let note = format!("cannot use the system's trust store: {problem}");
                ((0, note.into()), None)
            }
            Err(problem) => return Err(problem),
        };
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, config)) = &*latest
            && *of == made_with
        {
            return Ok(Arc::clone(config));
        }
        let config = self.configure(system, Arc::clone(&made_with.1));
        let config = Arc::new(config.map_err(|error| error.to_string())?);
        *latest = Some((made_with, Arc::clone(&config)));
        Ok(config)
    }

    fn configure(
        &self,
        system: Option<Arc<dyn ServerCertVerifier>>,
        note: Arc<str>,
    ) -> Result<ClientConfig, Error> {
        let provider = provider();
        let verifier = Verifier {
            provider: Arc::clone(&provider),
            of_file: self.of_file.clone(),
            certificates: Arc::clone(&self.certificates),
            system,
            note,
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        // Connections are too rare to benefit from it.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Returns a verifier by those certificates, if there are any.
fn verifier(roots: RootCertStore) -> Result<Option<Arc<WebPkiServerVerifier>>, Error> {
    if roots.is_empty() {
        return Ok(None);
    }
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    built
        .map(Some)
        .map_err(|error| Error::Other(OtherError(Arc::new(error))))
}

/// Accepts what the certificates of the file or the system's store verify.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    of_file: Option<Arc<WebPkiServerVerifier>>,
    certificates: Arc<[CertificateDer<'static>]>,
    /// `None` if the system's store cannot be used.
    system: Option<Arc<dyn ServerCertVerifier>>,
    /// Added to messages about an issuer that is not trusted.
    note: Arc<str>,
}

/// The issuer is not trusted, and the system's store has a note about it.
#[derive(Debug, thiserror::Error)]
#[error("{note}")]
pub(super) struct UntrustedIssuer {
    note: Arc<str>,
}

/// `ca_file` has the server's own certificate, which is not its own issuer.
#[derive(Debug, thiserror::Error)]
#[error("ca_file has the server's own certificate")]
pub(super) struct OwnCertificate;

fn is_unknown_issuer(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer)
    )
}

/// CAs of the same name may have different keys.
fn is_bad_signature(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::BadSignature)
    )
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |verifier: &dyn ServerCertVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let by_file = match &self.of_file {
            Some(verifier) => verify(&**verifier),
            None => Err(unknown.clone()),
        };
        let Err(of_file) = by_file else {
            return by_file;
        };
        let by_system = match &self.system {
            Some(verifier) => verify(&**verifier),
            None => Err(unknown),
        };
        let Err(of_system) = by_system else {
            return by_system;
        };
        let error = if is_unknown_issuer(&of_file) {
            of_system
        } else {
            of_file
        };
        let is_unverified = is_unknown_issuer(&error) || is_bad_signature(&error);
        if is_unverified && self.certificates.contains(end_entity) {
            let own = CertificateError::Other(OtherError(Arc::new(OwnCertificate)));
            return Err(own.into());
        }
        if is_unknown_issuer(&error) && !self.note.is_empty() {
            let note = Arc::clone(&self.note);
            let other = OtherError(Arc::new(UntrustedIssuer { note }));
            return Err(CertificateError::Other(other).into());
        }
        Err(error)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
