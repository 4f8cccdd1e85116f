//! `[fleet]`: its keys, defaults and rules.

use std::ops::Range;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;
use url::Host;

use super::named_path::NamedPath;
use super::validate::{Validator, fleet_address, fleet_url, written_sources};
use super::{ConfigError, Naming, SecretCommand, SecretSource};

/// What the names of all keys on the server begin with, unless another prefix is configured.
const DEFAULT_PREFIX: &str = "domo-token";

/// The longest prefix, in bytes.
const MAX_PREFIX: usize = 32;

/// The longest name of a user or a service, in bytes.
const MAX_NAME: usize = 128;

/// The most sentinels.
const MAX_SENTINELS: usize = 16;

/// The port of sentinels that are named without one.
const SENTINEL_PORT: u16 = 26379;

/// The keys of which a fleet has at most one.
const PASSWORD_KEYS: &str = "password_file, password_credential, password_env, password_command";

/// The server through which hosts share tokens, and how to connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetConfig {
    pub servers: FleetServers,
    /// The number of the database.
    pub database: u32,
    /// Whether connections use TLS.
    pub is_tls: bool,
    /// The user of the login; without one the server's default user.
    pub username: Option<String>,
    pub password: Option<SecretSource>,
    /// CA certificates trusted in addition to the system's, in PEM.
    pub ca_file: Option<NamedPath>,
    pub client_certificate: Option<ClientCertificate>,
    /// A file whose content is a part of the keys that seal the records.
    pub key_file: Option<NamedPath>,
    pub prefix: String,
    /// Whether secret files may be readable by all.
    pub allow_world_readable_secret: bool,
    /// How messages name its settings.
    pub naming: Naming,
}

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetServers {
    Server(FleetAddress),
    /// Sentinels know the address of the server.
    Sentinels {
        /// Never empty.
        addresses: Vec<FleetAddress>,
        /// The name by which they know it.
        service: String,
        password_file: Option<NamedPath>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetAddress {
    pub host: Host<String>,
    pub port: u16,
}

/// The files with a certificate and with its private key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate_file: NamedPath,
    pub key_file: NamedPath,
}

impl FleetConfig {
    /// Returns the fleet of that server with the defaults of the other keys.
    pub(super) fn new(servers: FleetServers, database: u32, is_tls: bool) -> Self {
        Self {
            servers,
            database,
            is_tls,
            username: None,
            password: None,
            ca_file: None,
            client_certificate: None,
            key_file: None,
            prefix: DEFAULT_PREFIX.to_owned(),
            allow_world_readable_secret: false,
            naming: Naming::default(),
        }
    }

    /// Returns the files that it refers to.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let password = match &self.password {
            Some(SecretSource::File(file)) => Some(file),
            Some(
                SecretSource::Inline(_)
                | SecretSource::Env(_)
                | SecretSource::Credential(_)
                | SecretSource::Command(_),
            )
            | None => None,
        };
        let of_sentinels = match &self.servers {
            FleetServers::Sentinels { password_file, .. } => password_file.as_ref(),
            FleetServers::Server(_) => None,
        };
        let pair = self.client_certificate.iter();
        let pair = pair.flat_map(|pair| [&pair.certificate_file, &pair.key_file]);
        let files = password
            .into_iter()
            .chain(of_sentinels)
            .chain(&self.ca_file);
        let files = files.chain(pair).chain(&self.key_file);
        files.map(|file| file.path().to_owned()).collect()
    }

    /// Returns the command that prints the password, if one does.
    #[must_use]
    pub fn password_command(&self) -> Option<&SecretCommand> {
        match &self.password {
            Some(SecretSource::Command(command)) => Some(command),
            Some(
                SecretSource::Inline(_)
                | SecretSource::File(_)
                | SecretSource::Env(_)
                | SecretSource::Credential(_),
            )
            | None => None,
        }
    }

    /// Returns the settings of the login, as messages name them.
    #[must_use]
    pub fn login_keys(&self) -> &'static str {
        let keys = match &self.password {
            Some(SecretSource::Credential(_)) => "username and password_credential",
            Some(SecretSource::Env(_)) => "username and password_env",
            Some(SecretSource::Command(_)) => "username and password_command",
            Some(SecretSource::Inline(_) | SecretSource::File(_)) | None => {
                "username and password_file"
            }
        };
        self.naming.choose(keys, super::FLEET_PASSWORD_FILE, keys)
    }

    /// Returns the warning about a connection over the network without TLS.
    pub(super) fn notice(&self) -> Option<String> {
        let addresses = match &self.servers {
            FleetServers::Server(address) => std::slice::from_ref(address),
            FleetServers::Sentinels { addresses, .. } => addresses.as_slice(),
        };
        if self.is_tls || addresses.iter().all(FleetAddress::is_loopback) {
            return None;
        }
        let url = self.naming.choose("fleet.url", super::FLEET_URL, "the URL");
        let risk = if self.password.is_some() {
            "the password is sent in clear, while tokens are sealed"
        } else {
            "tokens are sealed, but others on the network path can delete or withhold them"
        };
        Some(format!("{url}: redis:// has no TLS: {risk}; use rediss://"))
    }
}

impl FleetAddress {
    /// Returns whether the text of the host is a loopback address or name.
    fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
            Host::Domain(name) => matches!(name.as_str(), "localhost" | "localhost."),
        }
    }
}

/// The server that speaks the Redis protocol and through which hosts share tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Fleet")]
pub(super) struct RawFleet {
    /// The server, like `rediss://cache.example:6379/0`, or `redis://` without TLS. With `sentinels` it has no
    /// host: `rediss:///0`.
    #[schemars(with = "String")]
    url: Option<Spanned<String>>,
    /// Sentinels that name the server, like `["s1.example:26379"]`; at most 16.
    #[schemars(with = "Option<Vec<String>>", length(min = 1, max = MAX_SENTINELS))]
    sentinels: Option<Spanned<Vec<Spanned<String>>>>,
    /// The name by which the sentinels know the server.
    #[schemars(with = "Option<String>")]
    service: Option<Spanned<String>>,
    /// A file that contains the password of the sentinels, mode 0600.
    #[schemars(with = "Option<PathBuf>")]
    sentinel_password_file: Option<Spanned<PathBuf>>,
    /// The user of the login [default: the server's default user].
    #[schemars(with = "Option<String>")]
    username: Option<Spanned<String>>,
    /// A file that contains the password, mode 0600.
    #[schemars(with = "Option<PathBuf>")]
    password_file: Option<Spanned<PathBuf>>,
    /// A systemd credential (`LoadCredential=`) that contains the password.
    #[schemars(with = "Option<String>")]
    password_credential: Option<Spanned<String>>,
    /// An environment variable of the daemon that contains the password.
    #[schemars(with = "Option<String>")]
    password_env: Option<Spanned<String>>,
    /// A program and its arguments that print the password, like `["pass", "show", "redis"]`.
    #[schemars(with = "Option<Vec<String>>")]
    password_command: Option<Spanned<Vec<String>>>,
    /// CA certificates in PEM that are trusted in addition to the system's.
    #[schemars(with = "Option<PathBuf>")]
    ca_file: Option<Spanned<PathBuf>>,
    /// The daemon's own certificate in PEM, for servers that require one.
    #[schemars(with = "Option<PathBuf>")]
    client_certificate_file: Option<Spanned<PathBuf>>,
    /// The private key of that certificate in PEM, mode 0600.
    #[schemars(with = "Option<PathBuf>")]
    client_key_file: Option<Spanned<PathBuf>>,
    /// A file of at least 32 bytes, equal on all hosts, without which nobody can open the records, mode 0600.
    #[schemars(with = "Option<PathBuf>")]
    key_file: Option<Spanned<PathBuf>>,
    /// What the names of all keys on the server begin with: 1 to 32 of a-z, 0-9 and '-' [default: "domo-token"].
    #[schemars(with = "Option<String>")]
    prefix: Option<Spanned<String>>,
    /// Permits secret files that all users can read (Docker, Kubernetes).
    #[serde(default)]
    allow_world_readable_secret: bool,
}

fn key(name: &str) -> String {
    format!("fleet.{name}")
}

impl Validator<'_> {
    pub(super) fn fleet(
        &self,
        raw: Option<Spanned<RawFleet>>,
    ) -> Result<Option<FleetConfig>, ConfigError> {
        let Some(raw) = raw else {
            return Ok(None);
        };
        let span = raw.span();
        let mut raw = raw.into_inner();
        let mut fleet = self.servers(&mut raw, span)?;
        self.tls_files(&mut raw, &mut fleet)?;
        fleet.key_file = self.path(raw.key_file.take(), &key("key_file"))?;
        fleet.prefix = self.prefix(raw.prefix.take())?;
        fleet.allow_world_readable_secret = raw.allow_world_readable_secret;
        let username = raw.username.take();
        fleet.password = self.password(raw)?;
        fleet.username = self.username(username, fleet.password.is_some())?;
        fleet.naming = self.naming;
        Ok(Some(fleet))
    }

    /// Returns the fleet with the servers that the config names.
    fn servers(&self, raw: &mut RawFleet, table: Range<usize>) -> Result<FleetConfig, ConfigError> {
        let Some(url) = raw.url.take() else {
            let problem = "missing: the server that the hosts share tokens through, like \
                           \"rediss://cache.example:6379/0\"";
            return Err(self.error(Some(table), &key("url"), problem.to_owned()));
        };
        let has_sentinels = raw.sentinels.is_some();
        let parsed = fleet_url(url.get_ref(), has_sentinels, self.naming)
            .map_err(|problem| self.error(Some(url.span()), &key("url"), problem))?;
        let sentinels = raw.sentinels.take();
        let servers = match (parsed.server, sentinels) {
            (Some(server), _) => {
                self.reject_keys_of_sentinels(raw)?;
                FleetServers::Server(server)
            }
            (None, sentinels) => FleetServers::Sentinels {
                addresses: self.sentinels(sentinels, url.span())?,
                service: self.service(raw.service.take(), url.span())?,
                password_file: self.path(
                    raw.sentinel_password_file.take(),
                    &key("sentinel_password_file"),
                )?,
            },
        };
        Ok(FleetConfig::new(servers, parsed.database, parsed.is_tls))
    }

    fn reject_keys_of_sentinels(&self, raw: &RawFleet) -> Result<(), ConfigError> {
        let service = raw.service.as_ref().map(Spanned::span);
        let password = raw.sentinel_password_file.as_ref().map(Spanned::span);
        for (span, name) in [(service, "service"), (password, "sentinel_password_file")] {
            if span.is_some() {
                let problem = "valid only with sentinels; set sentinels, or remove it".to_owned();
                return Err(self.error(span, &key(name), problem));
            }
        }
        Ok(())
    }

    fn sentinels(
        &self,
        raw: Option<Spanned<Vec<Spanned<String>>>>,
        url: Range<usize>,
    ) -> Result<Vec<FleetAddress>, ConfigError> {
        let span = raw.as_ref().map_or(url, Spanned::span);
        let written = raw.map(Spanned::into_inner).unwrap_or_default();
        if !(1..=MAX_SENTINELS).contains(&written.len()) {
            let problem = format!(
                "must be 1 to {MAX_SENTINELS} hosts with ports, like [\"s1.example:26379\"]"
            );
            return Err(self.error(Some(span), &key("sentinels"), problem));
        }
        let address = |written: Spanned<String>| {
            fleet_address(written.get_ref(), SENTINEL_PORT)
                .map_err(|problem| self.error(Some(written.span()), &key("sentinels"), problem))
        };
        written.into_iter().map(address).collect()
    }

    fn service(
        &self,
        raw: Option<Spanned<String>>,
        url: Range<usize>,
    ) -> Result<String, ConfigError> {
        let Some(service) = raw else {
            let problem = "missing: the name by which the sentinels know the server, like \
                           \"mymaster\"";
            return Err(self.error(Some(url), &key("service"), problem.to_owned()));
        };
        // Those that a sentinel accepts in its own config.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let name = service.get_ref();
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
            let problem = format!("must be 1 to {MAX_NAME} letters, digits, '.', '_' or '-'");
            return Err(self.error(Some(service.span()), &key("service"), problem));
        }
        Ok(service.into_inner())
    }

    fn tls_files(&self, raw: &mut RawFleet, fleet: &mut FleetConfig) -> Result<(), ConfigError> {
        let span = |file: &Option<Spanned<PathBuf>>| file.as_ref().map(Spanned::span);
        let (certificate, private_key) = ("client_certificate_file", "client_key_file");
        let certificate_span = span(&raw.client_certificate_file);
        let key_span = span(&raw.client_key_file);
        for (span, name) in [
            (span(&raw.ca_file), "ca_file"),
            (certificate_span.clone(), certificate),
            (key_span.clone(), private_key),
        ] {
            if span.is_some() && !fleet.is_tls {
                let problem = "valid only with TLS; begin the url with rediss://, or remove this \
                               key";
                return Err(self.error(span, &key(name), problem.to_owned()));
            }
        }
        fleet.ca_file = self.path(raw.ca_file.take(), &key("ca_file"))?;
        let certificate_file = self.path(raw.client_certificate_file.take(), &key(certificate))?;
        let key_file = self.path(raw.client_key_file.take(), &key(private_key))?;
        fleet.client_certificate = match (certificate_file, key_file) {
            (Some(certificate_file), Some(key_file)) => Some(ClientCertificate {
                certificate_file,
                key_file,
            }),
            (None, None) => None,
            (Some(_), None) => {
                let problem = format!("its private key is missing; set {private_key}");
                return Err(self.error(certificate_span, &key(certificate), problem));
            }
            (None, Some(_)) => {
                let problem = format!("its certificate is missing; set {certificate}");
                return Err(self.error(key_span, &key(private_key), problem));
            }
        };
        Ok(())
    }

    fn username(
        &self,
        raw: Option<Spanned<String>>,
        has_password: bool,
    ) -> Result<Option<String>, ConfigError> {
        let Some(username) = raw else {
            return Ok(None);
        };
        let allowed = |c: char| !c.is_whitespace() && !c.is_control();
        let name = username.get_ref();
        let problem = if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
            format!("must be 1 to {MAX_NAME} bytes without a space or control character")
        } else if !has_password {
            format!("there is no password for this user; set one of {PASSWORD_KEYS}")
        } else {
            return Ok(Some(username.into_inner()));
        };
        Err(self.error(Some(username.span()), &key("username"), problem))
    }

    fn password(&self, raw: RawFleet) -> Result<Option<SecretSource>, ConfigError> {
        let sources = written_sources(
            [
                "password_file",
                "password_credential",
                "password_env",
                "password_command",
            ],
            raw.password_file,
            raw.password_credential,
            raw.password_env,
            raw.password_command,
        );
        self.secret_source(sources, PASSWORD_KEYS, &key)
    }

    fn prefix(&self, raw: Option<Spanned<String>>) -> Result<String, ConfigError> {
        let Some(prefix) = raw else {
            return Ok(DEFAULT_PREFIX.to_owned());
        };
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let text = prefix.get_ref();
        if text.is_empty() || text.len() > MAX_PREFIX || !text.bytes().all(allowed) {
            let problem = format!("must be 1 to {MAX_PREFIX} of a-z, 0-9 and '-'");
            return Err(self.error(Some(prefix.span()), &key("prefix"), problem));
        }
        Ok(prefix.into_inner())
    }
}
