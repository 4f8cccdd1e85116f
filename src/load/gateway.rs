//! Loads the files of the gateway. One that cannot be used disables only what needs it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use zeroize::Zeroizing;

use crate::config::{GatewayConfig, GatewayTls};
use crate::connect::{PairNames, certified_key, provider};
use crate::credentials::{
    self, CredentialsError, HOST_KEY_BYTES, SecretHash, read_gateway_certificate,
};

/// The files of a gateway: their content, or why one cannot be used.
pub struct LoadedGateway {
    /// This host's key.
    pub key: Result<Arc<Zeroizing<[u8; HOST_KEY_BYTES]>>, String>,
    /// The hashes of the secrets of each application, the older one first; none if it was removed.
    pub apps: BTreeMap<String, Result<Vec<SecretHash>, String>>,
    /// How connections with TLS are accepted; `None` if the config has no certificate.
    pub tls: Option<Result<Arc<ServerConfig>, String>>,
}

impl LoadedGateway {
    pub(super) fn new(config: &GatewayConfig) -> Self {
        let apps = config.apps.iter().map(|(name, app)| {
            let hashes = credentials::read_hash_file(&app.secret_hash_file, name);
            (name.clone(), hashes.map_err(|error| error.to_string()))
        });
        let key = credentials::read_host_key(&config.key_file);
        let tls = config.tls.as_ref().map(load_gateway_tls);
        Self {
            key: key.map(Arc::new).map_err(|error| error.to_string()),
            apps: apps.collect(),
            tls: tls.map(|tls| tls.map_err(|error| error.to_string())),
        }
    }
}

impl fmt::Debug for LoadedGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedGateway")
            .field("has_key", &self.key.is_ok())
            .field("apps", &self.apps)
            .finish_non_exhaustive()
    }
}

/// Why the gateway's TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GatewayTlsError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The certificate or its private key cannot be used.
    #[error("gateway: {0}")]
    Certificate(String),
    /// The TLS library rejects the settings.
    #[error("gateway: cannot configure TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// Loads the certificate with which the gateway accepts connections: HTTP/1.1 over TLS 1.2 or 1.3, without client
/// certificates.
///
/// # Errors
///
/// [`GatewayTlsError`].
pub fn load_gateway_tls(tls: &GatewayTls) -> Result<Arc<ServerConfig>, GatewayTlsError> {
    let files = read_gateway_certificate(tls)?;
    let names = PairNames {
        certificate: "tls_cert_file",
        private_key: "tls_key_file",
    };
    let pair = certified_key(&files.certificate, &files.private_key, names);
    let pair = pair.map_err(GatewayTlsError::Certificate)?;
    let versions = [&TLS13, &TLS12];
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&versions)?;
    let resolver = Arc::new(SingleCertAndKey::from(pair));
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::config::Config;

    const TEXT: &str = "[gateway]\ntls_listen = \"127.0.0.1:1\"\ntls_cert_file = \"tls.pem\"\n\
                        tls_key_file = \"tls.key\"\n\
                        [gateway.apps.bi]\nclient = \"acme\"\n\
                        allow = [{ methods = [\"*\"], path = \"/v1/**\", scopes = \"data\" }]\n\
                        [gateway.apps.etl]\nclient = \"acme\"\n\
                        allow = [{ methods = [\"*\"], path = \"/v1/**\", scopes = \"data\" }]\n\
                        [clients.acme]\nclient_id = \"a\"\nclient_secret_env = \"S\"\n\
                        tokens = [\"data\"]\n";

    fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn load(folder: &Path) -> LoadedGateway {
        let config = Config::parse(TEXT, &folder.join("config.toml")).unwrap();
        LoadedGateway::new(&config.gateway.unwrap())
    }

    fn write_certificate(folder: &Path) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        write(folder, "tls.pem", params.self_signed(&key).unwrap().pem());
        write(folder, "tls.key", key.serialize_pem());
    }

    #[test]
    fn file_that_is_missing_disables_what_needs_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, "gateway.key", [7; 32]);
        write(folder, "etl.hash", SecretHash::of(b"secret").to_string());
        write_certificate(folder);
        let loaded = load(folder);
        assert_eq!(***loaded.key.as_ref().unwrap(), [7; 32]);
        assert_eq!(loaded.apps["etl"], Ok(vec![SecretHash::of(b"secret")]));
        let error = loaded.apps["bi"].as_ref().unwrap_err();
        assert!(error.ends_with("domo-tokend app add bi"), "{error}");
        let tls = loaded.tls.unwrap().unwrap();
        assert_eq!(tls.alpn_protocols, [b"http/1.1"]);
        fs::remove_file(folder.join("gateway.key")).unwrap();
        fs::remove_file(folder.join("tls.pem")).unwrap();
        let loaded = load(folder);
        assert!(loaded.key.is_err() && loaded.tls.unwrap().is_err());
        assert!(loaded.apps["etl"].is_ok());
    }

    #[test]
    fn certificate_that_cannot_be_used_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write_certificate(folder);
        let error = || load(folder).tls.unwrap().unwrap_err();
        let other = KeyPair::generate().unwrap().serialize_pem();
        write(folder, "tls.key", other);
        assert_eq!(
            error(),
            "gateway: cannot use tls_key_file: it is not the key of the certificate in tls_cert_file"
        );
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        write(folder, "tls.key", encrypted);
        let problem = error();
        assert!(
            problem.contains("remove the passphrase: openssl pkey -in tls_key_file"),
            "{problem}"
        );
        write(folder, "tls.pem", "");
        let problem = error();
        assert!(
            problem.starts_with("gateway: cannot use tls_cert_file: "),
            "{problem}"
        );
        let key = folder.join("tls.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let problem = error();
        assert!(problem.starts_with("gateway tls_key_file "), "{problem}");
        assert!(
            problem.contains("mode 0644 lets others read it; run: chmod"),
            "{problem}"
        );
    }
}
