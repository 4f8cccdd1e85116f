//! Validates a parsed config; the error names the key, its position and what is allowed.

mod callers;
mod credentials;
mod paths;
mod platform;
mod scopes;
mod url;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};

use domo_token_protocol::scope::ScopeSet;
use toml::Spanned;

use super::parse::RawConfig;
use super::{
    AUDIT_IN_USE, ClientConfig, Config, ConfigError, FleetConfig, GatewayConfig, MAX_NAME, Naming,
};
use crate::config::named_path::NamedPath;
use crate::platform::file_watch::Stamp;
pub(super) use credentials::written_sources;
use domo_token_core::masking::{HINT, MIN_SECRET_CHARS, masked};
pub(super) use paths::validate_login_file;
pub(super) use paths::validate_socket;
pub use paths::{NOT_THE_LOGIN, validate_path};
pub(super) use scopes::scope_set;
pub(super) use url::{
    fleet_address, fleet_url, login_without_proxy, proxy_url, refuse_proxy_over_http,
    refuse_upstream_over_proxy, token_url, upstream_url,
};

/// Validates a parsed config; has its text to report positions.
pub(super) struct Validator<'a> {
    pub(super) text: &'a str,
    pub(super) path: &'a Path,
    pub(super) naming: Naming,
}

impl Validator<'_> {
    pub(super) fn config(&self, raw: RawConfig) -> Result<Config, ConfigError> {
        let pipe_group = self.platform(&raw, cfg!(windows))?;
        let names: Vec<String> = raw.clients.keys().cloned().collect();
        let mut clients = BTreeMap::new();
        for (name, client) in raw.clients {
            clients.insert(name.clone(), self.client(&name, client)?);
        }
        let mut fleet = self.fleet(raw.fleet)?;
        credentials::withhold_secrets(&mut clients, fleet.as_mut());
        let (mut broker, limits, log) = (raw.broker, raw.limits, raw.log);
        if clients.is_empty() {
            let problem = "no client: add a [clients.NAME] table with client_id, a client secret \
                           and tokens";
            return Err(self.error(None, "clients", problem.to_owned()));
        }
        let mut notices = sets_for_nobody(&clients);
        let default_client = match broker.default_client.take() {
            Some(default) if !clients.contains_key(default.get_ref()) => {
                let problem = format!("no such client; configured clients: {}", listed(&names));
                return Err(self.error(Some(default.span()), "broker.default_client", problem));
            }
            Some(default) => Some(default.into_inner()),
            None if clients.len() == 1 => names.into_iter().next(),
            None => {
                notices.push(format!(
                    "broker.default_client is not set: callers that name no client are denied; \
                     set it to one of {}",
                    listed(&names)
                ));
                None
            }
        };
        notices.extend(fleet.as_ref().and_then(FleetConfig::notice));
        let metrics = self.metrics(raw.metrics)?;
        let gateway = self.gateway(raw.gateway, &clients, metrics.listen)?;
        notices.extend(gateway.as_ref().and_then(GatewayConfig::notice));
        let audit_file = raw.audit.file.as_ref().map(Spanned::span);
        let config = Config {
            path: Some(self.path.to_owned()),
            broker: self.broker(broker, pipe_group)?,
            limits: self.limits(limits)?,
            default_client,
            metrics,
            audit: self.audit(raw.audit)?,
            log: self.log(log)?,
            fleet,
            gateway,
            notices,
            clients,
            stamp: Stamp::default(),
            digest: digest(self.text),
        };
        if config.audits_into_own_file() {
            return Err(self.error(audit_file, "audit.file", AUDIT_IN_USE.to_owned()));
        }
        Ok(config)
    }

    /// Returns the path; a relative one is relative to the config's directory.
    pub(super) fn path(
        &self,
        written: Option<Spanned<PathBuf>>,
        key: &str,
    ) -> Result<Option<NamedPath>, ConfigError> {
        let Some(written) = written else {
            return Ok(None);
        };
        if let Some(fault) = validate_path(written.get_ref()) {
            return Err(self.error(Some(written.span()), key, fault.to_owned()));
        }
        Ok(Some(self.resolve(written.get_ref())))
    }

    /// Returns the path of a file that the daemon or a command creates. A secret in its place would become a file name.
    pub(super) fn path_to_make(
        &self,
        written: Option<Spanned<PathBuf>>,
        key: &str,
    ) -> Result<Option<NamedPath>, ConfigError> {
        let span = written.as_ref().map(Spanned::span);
        let path = self.path(written, key)?;
        if path.as_ref().is_some_and(NamedPath::is_secret) {
            let problem =
                format!("looks like a secret ({HINT}); if it is a path, write the full path");
            return Err(self.error(span, key, problem));
        }
        Ok(path)
    }

    /// Checks the name of a table below `key`.
    pub(super) fn name(
        &self,
        name: &str,
        table: &Range<usize>,
        key: &str,
        what: &str,
    ) -> Result<(), ConfigError> {
        if let Some(fault) = validate_name(name) {
            let problem = format!("{what} {fault}");
            return Err(self.error(Some(table.clone()), key, problem));
        }
        // Domo's secrets are such digits. The key is masked like each message.
        if name.len() >= MIN_SECRET_CHARS && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let hint = self.naming.secret_hint();
            let problem = format!("looks like a secret ({hint}); choose another name");
            return Err(self.error(Some(table.clone()), &format!("{key}.{name}"), problem));
        }
        Ok(())
    }

    pub(super) fn resolve(&self, path: &Path) -> NamedPath {
        let directory = self.path.parent().unwrap_or(Path::new(""));
        NamedPath::new(path, directory, self.naming)
    }

    pub(super) fn error(
        &self,
        span: Option<Range<usize>>,
        key: &str,
        problem: String,
    ) -> ConfigError {
        ConfigError {
            path: Some(self.path.to_owned()),
            position: span.map(|span| line_and_column(self.text, span.start)),
            key: Some(key.to_owned()),
            problem,
        }
    }
}

/// Returns what is wrong with the name of a client or an application, after a subject.
#[must_use]
pub(crate) fn validate_name(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_valid = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed);
    (!is_valid).then(|| format!("has 1 to {MAX_NAME} letters, digits, '.', '_' or '-'"))
}

/// Returns warnings about scope sets that an access table leaves out.
fn sets_for_nobody(clients: &BTreeMap<String, ClientConfig>) -> Vec<String> {
    let mut notices = Vec::new();
    for (name, client) in clients {
        let Some(access) = &client.access else {
            continue;
        };
        let left_out = client
            .tokens
            .iter()
            .filter(|set| !access.0.contains_key(*set));
        let left_out: Vec<&str> = left_out.map(ScopeSet::as_str).collect();
        if !left_out.is_empty() {
            let sets = listed(&left_out);
            let name = masked(name);
            notices.push(format!(
                "clients.{name}.access has no entry for {sets}: denied to everyone, including root; \
                 add an entry to grant access"
            ));
        }
    }
    notices
}

/// Returns the names in quotes, as many as fit in a line.
pub(crate) fn listed(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("\"{}\"", name.as_ref()))
        .collect();
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    shown.join(", ") + &more
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Returns line and column of a byte, both from 1; the column counts characters.
pub(super) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}
