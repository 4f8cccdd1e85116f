//! What is true: each rule, its bounds, and the words for breaking it.

mod callers;
mod credentials;
mod paths;
mod platform;
mod scopes;
mod url;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use domo_token_protocol::scope::ScopeSet;
use toml::Spanned;

use super::raw::{METHODS, RawClient, RawConfig, Table};
use super::{
    AUDIT_IN_USE, ClientConfig, Config, ConfigError, Endpoint, MAX_NAME, SOCKET_MODE, TOKEN_URL,
    TokenMethod,
};
use crate::config::named_path::NamedPath;
use crate::platform::file_watch::Stamp;
use crate::platform::logging::LEVELS;
use domo_token_core::masking::{HINT, MIN_SECRET_CHARS, masked};
pub(super) use paths::fault_of_login_file;
use paths::fault_of_socket;
pub use paths::{NOT_THE_LOGIN, fault_of_path};
pub use scopes::DOMO_SCOPES;
pub(super) use scopes::scope_set;
pub(super) use url::{Written, proxy_url, refuse_proxy_over_http, token_url};

/// Turns what was written into what is true, knowing where to point.
pub(super) struct Checker<'a> {
    pub(super) text: &'a str,
    pub(super) path: &'a Path,
}

impl Checker<'_> {
    pub(super) fn config(&self, raw: RawConfig) -> Result<Config, ConfigError> {
        let pipe_group = self.platform(&raw, cfg!(windows))?;
        let names: Vec<String> = raw.clients.keys().cloned().collect();
        let mut clients = BTreeMap::new();
        for (name, client) in raw.clients {
            clients.insert(name.clone(), self.client(&name, client)?);
        }
        credentials::withhold_secrets(&mut clients);
        let (broker, limits, log) = (raw.broker.0, raw.limits.0, raw.log.0);
        if clients.is_empty() {
            let problem = "no client: add a [clients.NAME] table with client_id, a client secret \
                           and tokens";
            return Err(self.error(None, "clients", problem.to_owned()));
        }
        let mut notices = sets_for_nobody(&clients);
        let default_client = match broker.default_client {
            Some(default) if !clients.contains_key(default.get_ref()) => {
                let problem = format!("no such client; there is {}", listed(&names));
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
        let audit_file = raw.audit.0.file.as_ref().map(Spanned::span);
        let config = Config {
            path: Some(self.path.to_owned()),
            socket: self.socket(broker.socket)?,
            socket_mode: self.socket_mode(broker.socket_mode)?,
            socket_group: self.socket_group(broker.socket_group)?,
            pipe_group,
            shared_directory: broker.shared_directory,
            limits: self.limits(limits)?,
            default_client,
            keep_over_restart: broker.keep_over_restart.unwrap_or(true),
            metrics_listen: self.metrics_listen(raw.metrics.0.listen)?,
            audit_file: self.path_to_make(raw.audit.0.file, "audit.file")?,
            log_level: self.log_level(log.level)?,
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

    fn socket(&self, written: Option<Spanned<PathBuf>>) -> Result<Option<PathBuf>, ConfigError> {
        let key = "broker.socket";
        if let Some(written) = &written
            && let Some(fault) = fault_of_socket(written.get_ref())
        {
            return Err(self.error(Some(written.span()), key, fault));
        }
        self.path_to_make(written, key)
    }

    fn socket_mode(&self, written: Option<Spanned<String>>) -> Result<u32, ConfigError> {
        let Some(written) = written else {
            return Ok(SOCKET_MODE);
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

    fn metrics_listen(
        &self,
        written: Option<Spanned<String>>,
    ) -> Result<Option<SocketAddr>, ConfigError> {
        let Some(written) = written else {
            return Ok(None);
        };
        let parsed = written.get_ref().parse().ok();
        let loopback = parsed.filter(|address: &SocketAddr| address.ip().is_loopback());
        let problem = || {
            let problem =
                "must be an address of this machine alone with a port, like \"127.0.0.1:9347\"";
            self.error(Some(written.span()), "metrics.listen", problem.to_owned())
        };
        loopback.map(Some).ok_or_else(problem)
    }

    fn log_level(&self, written: Option<Spanned<String>>) -> Result<Option<String>, ConfigError> {
        let Some(written) = written else {
            return Ok(None);
        };
        if LEVELS.contains(&written.get_ref().as_str()) {
            return Ok(Some(written.into_inner()));
        }
        let problem = format!("must be one of {}", LEVELS.join(", "));
        Err(self.error(Some(written.span()), "log.level", problem))
    }

    fn client(
        &self,
        name: &str,
        raw: Spanned<Table<RawClient>>,
    ) -> Result<ClientConfig, ConfigError> {
        let span = raw.span();
        let mut raw = raw.into_inner().0;
        let key = |key: &str| format!("clients.{name}.{key}");
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
            let problem =
                format!("a client's name has 1 to {MAX_NAME} letters, digits, '.', '_' or '-'");
            return Err(self.error(Some(span), "clients", problem));
        }
        // Domo's secrets are such digits. The key is masked like each message.
        if name.len() >= MIN_SECRET_CHARS && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let problem = format!("looks like a secret ({HINT}); give the client another name");
            return Err(self.error(Some(span), &format!("clients.{name}"), problem));
        }
        let endpoint = self.endpoint(&mut raw, &key)?;
        let tokens = self.tokens(&raw, &span, &key("tokens"))?;
        let allow_world_readable_secret = raw.allow_world_readable_secret;
        let access = raw.access.take();
        let access = access.map(|access| self.access(access, &tokens, &key("access")));
        let credentials = self.credentials(raw, &span, &key)?;
        Ok(ClientConfig {
            access: access.transpose()?,
            credentials,
            tokens,
            endpoint,
            allow_world_readable_secret,
            by_environment: false,
        })
    }

    fn endpoint(
        &self,
        raw: &mut RawClient,
        key: &dyn Fn(&str) -> String,
    ) -> Result<Endpoint, ConfigError> {
        let (text, span) = match &raw.token_url {
            Some(url) => (url.get_ref().as_str(), Some(url.span())),
            None => (TOKEN_URL, None),
        };
        let token_url = token_url(text, raw.allow_http_loopback)
            .map_err(|problem| self.error(span, &key("token_url"), problem))?;
        let method = match raw.token_method.take() {
            None => TokenMethod::default(),
            Some(method) => match method.get_ref().as_str() {
                "post" => TokenMethod::Post,
                "get" => TokenMethod::Get,
                _ => {
                    let [post, get] = METHODS;
                    let problem = format!("must be \"{post}\" or \"{get}\"");
                    return Err(self.error(Some(method.span()), &key("token_method"), problem));
                }
            },
        };
        let proxy = raw.proxy.as_ref().map(|url| {
            proxy_url(url.get_ref(), Written::Key)
                .and_then(|proxy| refuse_proxy_over_http(&token_url, proxy))
                .map_err(|problem| self.error(Some(url.span()), &key("proxy"), problem))
        });
        Ok(Endpoint {
            url: token_url,
            method,
            ca_file: self.path(raw.ca_file.take(), &key("ca_file"))?,
            proxy: proxy.transpose()?,
            proxy_auth_file: self.proxy_login(raw, key)?,
        })
    }

    fn proxy_login(
        &self,
        raw: &mut RawClient,
        key: &dyn Fn(&str) -> String,
    ) -> Result<Option<NamedPath>, ConfigError> {
        if let (Some(file), None) = (&raw.proxy_auth_file, &raw.proxy) {
            let problem = "a login for no proxy: set proxy, or remove this".to_owned();
            return Err(self.error(Some(file.span()), &key("proxy_auth_file"), problem));
        }
        if let Some(file) = &raw.proxy_auth_file
            && let Some(fault) = fault_of_login_file(file.get_ref())
        {
            let (span, key) = (Some(file.span()), key("proxy_auth_file"));
            return Err(self.error(span, &key, fault.to_owned()));
        }
        self.path(raw.proxy_auth_file.take(), &key("proxy_auth_file"))
    }

    fn tokens(
        &self,
        raw: &RawClient,
        client: &Range<usize>,
        key: &str,
    ) -> Result<Vec<ScopeSet>, ConfigError> {
        let mut sets = Vec::new();
        for written in &raw.tokens {
            let set = scope_set(written.get_ref())
                .map_err(|problem| self.error(Some(written.span()), key, problem))?;
            sets.push(set);
        }
        if sets.is_empty() {
            let problem =
                "missing: the scope sets to keep a token for, like [\"data\", \"data user\"]";
            return Err(self.error(Some(client.clone()), key, problem.to_owned()));
        }
        sets.sort();
        sets.dedup();
        Ok(sets)
    }

    /// A path as it counts: relative ones start beside the config.
    fn path(
        &self,
        written: Option<Spanned<PathBuf>>,
        key: &str,
    ) -> Result<Option<NamedPath>, ConfigError> {
        let Some(written) = written else {
            return Ok(None);
        };
        if let Some(fault) = fault_of_path(written.get_ref()) {
            return Err(self.error(Some(written.span()), key, fault.to_owned()));
        }
        Ok(Some(self.resolve(written.get_ref())))
    }

    /// The path of what the daemon makes. A secret in its place would become a file's name.
    fn path_to_make(
        &self,
        written: Option<Spanned<PathBuf>>,
        key: &str,
    ) -> Result<Option<PathBuf>, ConfigError> {
        let span = written.as_ref().map(Spanned::span);
        let path = self.path(written, key)?;
        if path.as_ref().is_some_and(NamedPath::is_secret) {
            let problem =
                format!("looks like a secret ({HINT}); write the whole path if it is one");
            return Err(self.error(span, key, problem));
        }
        Ok(path.map(|path| path.path().to_owned()))
    }

    fn resolve(&self, path: &Path) -> NamedPath {
        NamedPath::new(path, self.path.parent().unwrap_or(Path::new("")))
    }

    fn error(&self, span: Option<Range<usize>>, key: &str, problem: String) -> ConfigError {
        ConfigError {
            path: Some(self.path.to_owned()),
            place: span.map(|span| line_and_column(self.text, span.start)),
            key: Some(key.to_owned()),
            problem,
        }
    }
}

/// Scope sets that an access table leaves out, which may be meant.
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
                "clients.{name}.access has no entry for {sets}: nobody may have that"
            ));
        }
    }
    notices
}

/// Names for a person, as many as fit a line.
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

/// Line and column of a byte, both from 1; the column counts characters.
pub(super) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}
