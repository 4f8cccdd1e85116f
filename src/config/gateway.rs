//! `[gateway]`: its keys, defaults and rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use domo_token_core::api_rules::ApiRule;
use url::Url;

use super::named_path::NamedPath;

/// The gateway: where it listens, and its applications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// A loopback address for HTTP. At least this one or `tls` is set.
    pub listen: Option<SocketAddr>,
    pub tls: Option<GatewayTls>,
    /// The file with this host's key, from which the keys of local tokens are derived.
    pub key_file: NamedPath,
    /// The applications by name. May be empty.
    pub apps: BTreeMap<String, AppConfig>,
}

/// A loopback address for HTTPS, with the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayTls {
    pub listen: SocketAddr,
    /// The certificate and those that certify it, in PEM.
    pub certificate_file: NamedPath,
    /// Its private key, in PEM.
    pub key_file: NamedPath,
}

/// An application of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppConfig {
    /// The file with the hashes of its secrets.
    pub secret_hash_file: NamedPath,
    /// The client whose tokens it uses; one of the config's.
    pub client: String,
    /// The server of Domo's API: scheme, host and port.
    pub upstream: Url,
    /// What it may request; never empty. Each rule's scopes are a scope set of the client.
    pub allow: Vec<ApiRule>,
    /// Whether large bodies are announced to the server by `Expect: 100-continue`.
    pub expect: bool,
}
