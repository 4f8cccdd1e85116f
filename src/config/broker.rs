//! `[broker]`: its keys, defaults and rules.

use std::path::PathBuf;

use domo_token_core::access_policy::Principal;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use super::parse::RawPrincipal;
use super::validate::{Validator, validate_socket};

/// By default only the daemon's own user may connect.
pub const DEFAULT_SOCKET_MODE: u32 = 0o600;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSettings {
    /// The socket's path, if the config names one.
    pub socket: Option<PathBuf>,
    pub socket_mode: u32,
    /// The group that the socket is given to.
    pub socket_group: Option<Principal>,
    /// On Windows the group that may open the pipe, by name or security identifier.
    pub pipe_group: Option<String>,
    /// Whether the socket's directory may be writable by others.
    pub shared_directory: bool,
    /// Whether systemd may keep the tokens over a restart.
    pub keep_over_restart: bool,
    /// Whether HTTP is served on the socket.
    pub http: bool,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            socket: None,
            socket_mode: DEFAULT_SOCKET_MODE,
            socket_group: None,
            pipe_group: None,
            shared_directory: false,
            keep_over_restart: true,
            http: true,
        }
    }
}

impl BrokerSettings {
    /// Returns the keys that differ in `new` and take effect at a restart only.
    pub(super) fn restart_keys(&self, new: &Self) -> Vec<&'static str> {
        let differs = [
            ("broker.socket", self.socket != new.socket),
            ("broker.socket_mode", self.socket_mode != new.socket_mode),
            ("broker.socket_group", self.socket_group != new.socket_group),
            ("broker.pipe_group", self.pipe_group != new.pipe_group),
            (
                "broker.shared_directory",
                self.shared_directory != new.shared_directory,
            ),
            ("broker.http", self.http != new.http),
        ];
        let keys = differs.into_iter().filter(|(_, differs)| *differs);
        keys.map(|(key, _)| key).collect()
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Broker")]
pub(super) struct RawBroker {
    /// The socket's path.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) socket: Option<Spanned<PathBuf>>,
    /// The socket's permission bits, as in chmod [default: "0600"].
    #[schemars(with = "Option<String>", regex(pattern = "^0?[0-7]{3}$"))]
    pub(super) socket_mode: Option<Spanned<String>>,
    /// The callers' group, which becomes the group of the socket; never the daemon's own.
    #[schemars(with = "Option<RawPrincipal>")]
    pub(super) socket_group: Option<Spanned<RawPrincipal>>,
    /// On Windows, the callers' group, by name or security identifier.
    #[schemars(with = "Option<String>")]
    pub(super) pipe_group: Option<Spanned<String>>,
    /// Permits a socket directory that others can write to (container volumes).
    #[serde(default)]
    pub(super) shared_directory: bool,
    /// The client of requests that name none. Not needed if there is only one client.
    #[schemars(with = "Option<String>")]
    pub(super) default_client: Option<Spanned<String>>,
    /// Stores the tokens in memory of systemd while the service restarts [default: true].
    pub(super) keep_over_restart: Option<bool>,
    /// Serves HTTP on the socket, besides the protocol of domo-token [default: true].
    pub(super) http: Option<bool>,
}

impl Validator<'_> {
    /// Validates the table, but for the default client and what depends on the platform.
    pub(super) fn broker(
        &self,
        raw: RawBroker,
        pipe_group: Option<String>,
    ) -> Result<BrokerSettings, ConfigError> {
        let defaults = BrokerSettings::default();
        Ok(BrokerSettings {
            socket: self.socket(raw.socket)?,
            socket_mode: self.socket_mode(raw.socket_mode)?,
            socket_group: self.socket_group(raw.socket_group)?,
            pipe_group,
            shared_directory: raw.shared_directory,
            keep_over_restart: raw.keep_over_restart.unwrap_or(defaults.keep_over_restart),
            http: raw.http.unwrap_or(defaults.http),
        })
    }

    fn socket(&self, written: Option<Spanned<PathBuf>>) -> Result<Option<PathBuf>, ConfigError> {
        let key = "broker.socket";
        if let Some(written) = &written
            && let Some(fault) = validate_socket(written.get_ref())
        {
            return Err(self.error(Some(written.span()), key, fault));
        }
        let path = self.path_to_make(written, key)?;
        Ok(path.map(|path| path.path().to_owned()))
    }

    fn socket_mode(&self, written: Option<Spanned<String>>) -> Result<u32, ConfigError> {
        let Some(written) = written else {
            return Ok(DEFAULT_SOCKET_MODE);
        };
        let digits = written.get_ref();
        let digits = digits.strip_prefix('0').unwrap_or(digits);
        let is_mode = digits.len() == 3 && digits.bytes().all(|digit| digit.is_ascii_digit());
        let parsed = u32::from_str_radix(digits, 8).ok().filter(|_| is_mode);
        // Execute bits mean nothing on a socket, and a socket its owner can't use is a mistake.
        parsed
            .filter(|mode| mode & !0o666 == 0 && mode & 0o600 == 0o600)
            .ok_or_else(|| {
                let problem =
                    "must be an octal mode in quotes, from \"0600\" to \"0666\"".to_owned();
                self.error(Some(written.span()), "broker.socket_mode", problem)
            })
    }
}
