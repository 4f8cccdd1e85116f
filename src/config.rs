//! The config: `parse` reads TOML, `validate` and the files of the tables check it and apply defaults.
//!
//! No file is opened here: `credentials.rs` reads secrets. No error shows a value, because any value may
//! be a secret in the wrong place.

mod pasted_assignment;
mod broker;
mod client;
mod environment;
mod error;
mod find_file;
mod fleet;
mod gateway;
mod id_and_secret;
mod invisible_char;
mod limits;
pub mod named_path;
mod naming;
mod parse;
mod log_metrics_audit;
pub mod schema;
#[cfg(all(test, unix))]
mod tests;
mod unused_variables;
mod validate;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::config::named_path::NamedPath;
use crate::platform::file_watch::Stamp;
use crate::platform::users;
use domo_token_core::access_policy::Principal;
use domo_token_core::masking::masked;

pub use broker::{BrokerSettings, DEFAULT_SOCKET_MODE};
pub use client::{ClientConfig, Endpoint, TokenMethod};
pub use environment::VARIABLES;
pub use error::ConfigError;
pub use find_file::{
    explicit_config_path, find, host_config_path, locate, path_in, user_config_path, xdg_path_in,
};
pub use fleet::{ClientCertificate, FleetAddress, FleetConfig, FleetServers};
pub use gateway::{
    AppConfig, GatewayConfig, GatewayTls, HASH_FILE_END, HOST_KEY, LISTEN_LIKE, UPSTREAM,
};
pub use id_and_secret::{
    IN_QUOTES, is_placeholder, is_quote, is_quoted, is_uuid, is_valid_client_id, is_valid_secret,
    validate_id, without_mark,
};
pub use invisible_char::InvisibleChar;
pub use limits::{Deadlines, Limits};
pub use log_metrics_audit::{AuditSettings, LogSettings, MetricsSettings};
pub use naming::{Naming, Setting};
use parse::RawConfig;
pub use pasted_assignment::assignment;
pub(crate) use unused_variables::{PROXY_VARIABLES, needs_no_proxy};
pub use validate::{NOT_THE_LOGIN, validate_path};
use validate::{Validator, line_and_column};
pub(crate) use validate::{listed, validate_name};

/// Domo's token endpoint, one host for all instances
/// (<https://www.domo.com/docs/portal/d9520f5752d56-get-access-token>).
pub const TOKEN_URL: &str = "https://api.domo.com/oauth/token";

/// The name of the client that the environment alone configures.
pub const ENV_CLIENT: &str = "default";

/// The variable with the secret of the client that the environment alone configures.
pub const ENV_SECRET: &str = "DOMO_CLIENT_SECRET";

/// The variable with the URL of the server through which hosts share tokens.
const FLEET_URL: &str = "DOMO_FLEET_URL";

/// The variable with the path of the file with the password for that server.
const FLEET_PASSWORD_FILE: &str = "DOMO_FLEET_PASSWORD_FILE";

/// The variable with the path of the CA certificates of that server.
pub(crate) const FLEET_CA_FILE: &str = "DOMO_FLEET_CA_FILE";

/// The error about an audit file that the daemon uses for something else.
pub const AUDIT_IN_USE: &str = "must not be the config, a file that it names, the socket or the \
                                socket's lock; choose another file";

/// The longest client name, in bytes.
pub const MAX_NAME: usize = domo_token_protocol::messages::MAX_CLIENT_NAME;

pub type Env<'a> = &'a (dyn Fn(&str) -> Option<OsString> + Sync);

/// A checked config.
#[derive(Debug)]
pub struct Config {
    /// The file it came from; `None` for the environment alone.
    pub path: Option<PathBuf>,
    /// `[broker]`, except for the default client.
    pub broker: BrokerSettings,
    pub limits: Limits,
    /// The client of requests that name none; the only one if there is one.
    pub default_client: Option<String>,
    pub log: LogSettings,
    pub metrics: MetricsSettings,
    pub audit: AuditSettings,
    /// The server through which hosts share tokens.
    pub fleet: Option<FleetConfig>,
    /// The local reverse proxy for Domo's SDKs.
    pub gateway: Option<GatewayConfig>,
    /// The API clients by name; never empty.
    pub clients: BTreeMap<String, ClientConfig>,
    /// Warnings that the daemon logs at start.
    pub notices: Vec<String>,
    /// The state of the file just before it was read.
    pub stamp: Stamp,
    /// Equal for equal texts.
    pub digest: u64,
}

/// The sections that a daemon applies at its start.
#[derive(Debug)]
pub struct StartSettings {
    broker: BrokerSettings,
    limits: Limits,
    metrics: MetricsSettings,
    audit: AuditSettings,
    /// Where the gateway listens, without and with TLS.
    gateway: [Option<SocketAddr>; 2],
}

impl StartSettings {
    /// Returns the keys that differ in `new` and that only a restart applies.
    #[must_use]
    pub fn changed_keys(&self, new: &Self) -> Vec<&'static str> {
        let mut keys = self.broker.restart_keys(&new.broker);
        keys.extend((self.limits != new.limits).then_some("limits"));
        keys.extend((self.metrics != new.metrics).then_some("metrics.listen"));
        keys.extend((self.audit != new.audit).then_some("audit.file"));
        let listeners = self.gateway.iter().zip(&new.gateway);
        let names = ["gateway.listen", "gateway.tls_listen"].into_iter();
        let changed = listeners.zip(names).filter(|((old, new), _)| old != new);
        keys.extend(changed.map(|(_, name)| name));
        keys
    }
}

#[derive(Debug)]
pub enum CredentialsSource {
    /// Each from its own source.
    Pair { id: IdSource, secret: SecretSource },
    /// Both from a pydomo connection file.
    ConnectionFile(NamedPath),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdSource {
    Inline(String),
    File(NamedPath),
}

#[derive(Clone, Debug)]
pub enum SecretSource {
    Inline(SecretString),
    File(NamedPath),
    /// The value of an environment variable.
    Env(String),
    /// A systemd credential, by name, under `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// What a command prints.
    Command(SecretCommand),
}

impl PartialEq for SecretSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inline(one), Self::Inline(other)) => {
                one.expose_secret() == other.expose_secret()
            }
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Env(one), Self::Env(other))
            | (Self::Credential(one), Self::Credential(other)) => one == other,
            (Self::Command(one), Self::Command(other)) => one == other,
            (
                Self::Inline(_)
                | Self::File(_)
                | Self::Env(_)
                | Self::Credential(_)
                | Self::Command(_),
                _,
            ) => false,
        }
    }
}

impl Eq for SecretSource {}

/// A command that prints a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretCommand {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Environment variables of the daemon that hold secrets, which the command does not receive.
    pub withheld: Vec<String>,
}

impl Config {
    /// Reads a config file's content: [`parse`](Self::parse), if it is text at all.
    ///
    /// # Errors
    ///
    /// As for [`parse`](Self::parse).
    pub fn read(content: &[u8], path: &Path) -> Result<Self, ConfigError> {
        match str::from_utf8(content) {
            Ok(text) => Self::parse(text, path),
            Err(error) => {
                let before = content.get(..error.valid_up_to()).unwrap_or_default();
                let before = String::from_utf8_lossy(before);
                Err(ConfigError {
                    path: Some(path.to_owned()),
                    position: Some(line_and_column(&before, before.len())),
                    key: None,
                    problem: "not UTF-8, which TOML requires".to_owned(),
                })
            }
        }
    }

    /// Parses a config file's `text`; `path` is the file's path as named, and the base of relative paths in
    /// it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first error, its position and what is allowed.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Self::parse_as(text, path, Naming::Keys)
    }

    /// Parses as [`parse`](Self::parse), with errors and clients that name settings in that way.
    pub(crate) fn parse_as(text: &str, path: &Path, naming: Naming) -> Result<Self, ConfigError> {
        let raw = RawConfig::parse(text).map_err(|error| ConfigError {
            path: Some(path.to_owned()),
            position: error.span.map(|span| line_and_column(text, span.start)),
            key: error.key,
            problem: error.problem,
        })?;
        let validator = Validator { text, path, naming };
        validator.config(raw)
    }

    /// Returns the settings that a running daemon keeps across reloads.
    #[must_use]
    pub fn start_settings(&self) -> StartSettings {
        StartSettings {
            broker: self.broker.clone(),
            limits: self.limits,
            metrics: self.metrics.clone(),
            audit: self.audit.clone(),
            gateway: [
                self.gateway.as_ref().and_then(|gateway| gateway.listen),
                self.gateway.as_ref().and_then(GatewayConfig::tls_listen),
            ],
        }
    }

    /// Returns messages about users and groups in access tables that do not exist on this host.
    #[must_use]
    pub fn unresolved_principals(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        for (name, client) in &self.clients {
            let rules = client.access.iter().flat_map(|access| access.0.values());
            for rule in rules {
                let users = rule.users.iter().filter_map(validate_user);
                let groups = rule.groups.iter().filter_map(validate_group);
                unknown.extend(users.chain(groups).map(|fault| {
                    let name = masked(name);
                    format!("clients.{name}.access: {fault}; the entry grants nothing")
                }));
            }
        }
        unknown
    }

    /// Returns the files that it refers to: ids, secrets, certificates.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let clients = self.clients.values().flat_map(ClientConfig::files);
        let fleet = self.fleet.iter().flat_map(FleetConfig::files);
        let gateway = self.gateway.iter().flat_map(GatewayConfig::files);
        clients.chain(fleet).chain(gateway).collect()
    }

    /// Returns the files that must not be the audit file: its own, those that it refers to, and the socket
    /// with its lock.
    #[must_use]
    pub fn files_in_use(&self) -> Vec<PathBuf> {
        let lock = self.broker.socket.as_ref().map(|socket| {
            let mut lock = socket.clone().into_os_string();
            lock.push(".lock");
            PathBuf::from(lock)
        });
        let own = self.path.iter().chain(&self.broker.socket).chain(&lock);
        own.cloned().chain(self.files()).collect()
    }

    /// Returns whether the audit file is one of [`Self::files_in_use`], by their paths.
    fn audits_into_own_file(&self) -> bool {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let Some(audit) = self.audit.file.as_deref().map(absolute) else {
            return false;
        };
        let in_use = self.files_in_use();
        in_use.iter().any(|path| absolute(path) == audit)
    }
}

fn validate_user(user: &Principal) -> Option<String> {
    let id = match user {
        Principal::Id(id) => Some(*id),
        Principal::Name(name) => users::ids(name).map(|(id, _)| id),
    };
    match id {
        None => Some(format!("user \"{user}\" does not exist on this host")),
        Some(id) => (id == users::overflow_uid())
            .then(|| format!("user {user} stands for any user of another user namespace")),
    }
}

fn validate_group(group: &Principal) -> Option<String> {
    let id = match group {
        Principal::Id(id) => Some(*id),
        Principal::Name(name) => users::group(name),
    };
    let fault = format!("group \"{group}\" does not exist on this host");
    id.is_none().then_some(fault)
}
