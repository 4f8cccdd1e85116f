//! What is true: each rule, its bounds, and the words for breaking it.

mod callers;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use domo_token_client::scope::ScopeSet;
use toml::Spanned;
use url::Url;

use super::raw::{RawClient, RawConfig};
use super::{
    ClientConfig, Config, ConfigError, CredentialsSource, Endpoint, IdSource, MAX_NAME,
    SOCKET_MODE, SecretSource, TOKEN_URL, TokenMethod, usable_id,
};
use crate::watch::Stamp;

/// The keys of which a client has one.
const SECRET_KEYS: &str = "client_secret_file, client_secret_credential, client_secret_env, \
                           client_secret_command, client_secret";

/// Turns what was written into what is true, knowing where to point.
pub(super) struct Checker<'a> {
    pub(super) text: &'a str,
    pub(super) path: &'a Path,
}

impl Checker<'_> {
    pub(super) fn config(&self, raw: RawConfig) -> Result<Config, ConfigError> {
        let names: Vec<String> = raw.clients.keys().cloned().collect();
        let mut clients = BTreeMap::new();
        for (name, client) in raw.clients {
            clients.insert(name.clone(), self.client(&name, client)?);
        }
        if clients.is_empty() {
            let problem = "no client: add a [clients.NAME] table with client_id, a client secret \
                           and tokens";
            return Err(self.error(None, "clients", problem.to_owned()));
        }
        let default_client = match raw.broker.default_client {
            Some(default) if !clients.contains_key(default.get_ref()) => {
                let problem = format!("no such client; there is {}", names.join(", "));
                return Err(self.error(Some(default.span()), "broker.default_client", problem));
            }
            Some(default) => Some(default.into_inner()),
            None if clients.len() == 1 => names.into_iter().next(),
            None => None,
        };
        Ok(Config {
            path: Some(self.path.to_owned()),
            socket: raw.broker.socket.map(|path| self.resolve(&path)),
            socket_mode: self.socket_mode(raw.broker.socket_mode)?,
            socket_group: self.socket_group(raw.broker.socket_group)?,
            shared_directory: raw.broker.shared_directory,
            limits: self.limits(raw.limits)?,
            default_client,
            keep_over_restart: raw.broker.keep_over_restart.unwrap_or(true),
            metrics_listen: self.metrics_listen(raw.metrics.listen)?,
            audit_file: raw.audit.file.map(|path| self.resolve(&path)),
            log_level: self.log_level(raw.log.level)?,
            clients,
            notices: Vec::new(),
            stamp: Stamp::default(),
            digest: digest(self.text),
        })
    }

    fn socket_mode(&self, written: Option<Spanned<String>>) -> Result<u32, ConfigError> {
        let Some(written) = written else {
            return Ok(SOCKET_MODE);
        };
        let parsed = u32::from_str_radix(written.get_ref(), 8).ok();
        // Execute bits mean nothing on a socket, and a socket its owner can't use is a mistake.
        parsed
            .filter(|mode| mode & !0o666 == 0 && mode & 0o600 == 0o600)
            .ok_or_else(|| {
                let problem = "an octal mode as a string, from \"0600\" to \"0666\"".to_owned();
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
            let problem = "an address of this machine alone with a port, like \"127.0.0.1:9347\"";
            self.error(Some(written.span()), "metrics.listen", problem.to_owned())
        };
        loopback.map(Some).ok_or_else(problem)
    }

    fn log_level(&self, written: Option<Spanned<String>>) -> Result<Option<String>, ConfigError> {
        let Some(written) = written else {
            return Ok(None);
        };
        let levels = ["error", "warn", "info", "debug", "trace"];
        if levels.contains(&written.get_ref().as_str()) {
            return Ok(Some(written.into_inner()));
        }
        let problem = format!("one of {}", levels.join(", "));
        Err(self.error(Some(written.span()), "log.level", problem))
    }

    fn client(&self, name: &str, raw: Spanned<RawClient>) -> Result<ClientConfig, ConfigError> {
        let span = raw.span();
        let mut raw = raw.into_inner();
        let key = |key: &str| format!("clients.{name}.{key}");
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
            let problem = "a client's name has 1 to 64 letters, digits, '.', '_' or '-'";
            return Err(self.error(Some(span), "clients", problem.to_owned()));
        }
        let endpoint = self.endpoint(&raw, &key)?;
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
        })
    }

    fn endpoint(
        &self,
        raw: &RawClient,
        key: &dyn Fn(&str) -> String,
    ) -> Result<Endpoint, ConfigError> {
        let (text, span) = match &raw.token_url {
            Some(url) => (url.get_ref().as_str(), Some(url.span())),
            None => (TOKEN_URL, None),
        };
        let url = token_url(text, raw.allow_http_loopback)
            .map_err(|problem| self.error(span, &key("token_url"), problem))?;
        let method = match raw
            .token_method
            .as_ref()
            .map(|m| (m.get_ref().as_str(), m.span()))
        {
            None | Some(("post", _)) => TokenMethod::Post,
            Some(("get", _)) => TokenMethod::Get,
            Some((_, span)) => {
                let problem = "\"post\" or \"get\"".to_owned();
                return Err(self.error(Some(span), &key("token_method"), problem));
            }
        };
        let proxy = raw.proxy.as_ref().map(|url| {
            proxy_url(url.get_ref())
                .map_err(|problem| self.error(Some(url.span()), &key("proxy"), problem))
        });
        Ok(Endpoint {
            url,
            method,
            ca_file: raw.ca_file.as_deref().map(|file| self.resolve(file)),
            proxy: proxy.transpose()?,
            proxy_auth_file: self.proxy_login(raw, key)?,
        })
    }

    fn proxy_login(
        &self,
        raw: &RawClient,
        key: &dyn Fn(&str) -> String,
    ) -> Result<Option<PathBuf>, ConfigError> {
        let Some(file) = &raw.proxy_auth_file else {
            return Ok(None);
        };
        if raw.proxy.is_none() {
            let problem = "a login for no proxy: set proxy, or remove this".to_owned();
            return Err(self.error(Some(file.span()), &key("proxy_auth_file"), problem));
        }
        Ok(Some(self.resolve(file.get_ref())))
    }

    fn tokens(
        &self,
        raw: &RawClient,
        client: &Range<usize>,
        key: &str,
    ) -> Result<Vec<ScopeSet>, ConfigError> {
        let mut sets = Vec::new();
        for written in &raw.tokens {
            let set = ScopeSet::parse(written.get_ref())
                .map_err(|error| self.error(Some(written.span()), key, error.to_string()))?;
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

    fn credentials(
        &self,
        raw: RawClient,
        client: &Range<usize>,
        key: &dyn Fn(&str) -> String,
    ) -> Result<CredentialsSource, ConfigError> {
        let id = self.id(&raw, client, key)?;
        let file = raw.client_file.as_deref().map(|file| self.resolve(file));
        let secret = self.secret(raw, client, key)?;
        match (id, secret, file) {
            (Some(id), Some(secret), None) => Ok(CredentialsSource::Pair { id, secret }),
            (None, None, Some(file)) => Ok(CredentialsSource::ConnectionFile(file)),
            (_, _, Some(_)) => {
                let problem = "has the id and the secret: set neither besides it".to_owned();
                Err(self.error(Some(client.clone()), &key("client_file"), problem))
            }
            (None, _, None) => {
                let problem = "missing: the id of a Domo API client (Admin > Authentication > \
                               API clients)";
                Err(self.error(Some(client.clone()), &key("client_id"), problem.to_owned()))
            }
            (Some(_), None, None) => {
                let problem = format!("missing: set one of {SECRET_KEYS}");
                Err(self.error(Some(client.clone()), &key("client_secret"), problem))
            }
        }
    }

    fn id(
        &self,
        raw: &RawClient,
        client: &Range<usize>,
        key: &dyn Fn(&str) -> String,
    ) -> Result<Option<IdSource>, ConfigError> {
        match (&raw.client_id, &raw.client_id_file) {
            (Some(id), None) if usable_id(id.get_ref()) => {
                Ok(Some(IdSource::Inline(id.get_ref().clone())))
            }
            (Some(id), None) => {
                let problem = "empty, or with a space or control character".to_owned();
                Err(self.error(Some(id.span()), &key("client_id"), problem))
            }
            (None, Some(file)) => Ok(Some(IdSource::File(self.resolve(file)))),
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                let problem = "set this or client_id_file, not both".to_owned();
                Err(self.error(Some(client.clone()), &key("client_id"), problem))
            }
        }
    }

    fn secret(
        &self,
        raw: RawClient,
        client: &Range<usize>,
        key: &dyn Fn(&str) -> String,
    ) -> Result<Option<SecretSource>, ConfigError> {
        let file = raw
            .client_secret_file
            .map(|file| SecretSource::File(self.resolve(&file)));
        let sources = [
            raw.client_secret.map(SecretSource::Inline),
            file,
            raw.client_secret_env.map(SecretSource::Env),
            raw.client_secret_credential.map(SecretSource::Credential),
            raw.client_secret_command.map(SecretSource::Command),
        ];
        let fail = |name: &str, problem: &str| {
            Err(self.error(Some(client.clone()), &key(name), problem.to_owned()))
        };
        let mut named = sources.into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(SecretSource::Credential(name)), None) if !is_file_name(&name) => fail(
                "client_secret_credential",
                "the name of a systemd credential, not a path",
            ),
            (Some(SecretSource::Command(argv)), None) if argv.is_empty() => fail(
                "client_secret_command",
                "empty: the program and its arguments, like [\"pass\", \"show\", \"domo\"]",
            ),
            (Some(SecretSource::Env(name)), None) if name.is_empty() || name.contains('=') => {
                fail("client_secret_env", "the name of an environment variable")
            }
            (source, None) => Ok(source),
            (_, Some(_)) => fail(
                "client_secret",
                &format!("more than one source: keep one of {SECRET_KEYS}"),
            ),
        }
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
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

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn not_a_url(error: url::ParseError) -> String {
    if error == url::ParseError::RelativeUrlWithoutBase {
        return "not a URL: begin it with https://".to_owned();
    }
    format!("not a URL: {error}")
}

/// A URL that a client secret may be sent to.
pub(super) fn token_url(text: &str, allow_http_loopback: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(not_a_url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("no user or password belongs in this URL".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("no query or fragment belongs in this URL".to_owned());
    }
    match url.scheme() {
        "http" if !is_loopback(&url) => {
            Err("https only: over http everyone on the way could read the secret".to_owned())
        }
        "http" if !allow_http_loopback => {
            Err("https only; http to this machine needs allow_http_loopback = true".to_owned())
        }
        "http" | "https" => Ok(url),
        _ => Err("https only".to_owned()),
    }
}

pub(super) fn proxy_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(not_a_url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("no user or password belongs in this URL".to_owned());
    }
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("an http or https URL with a host, like http://proxy.example:3128".to_owned());
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains('/')
}

/// Line and column of a byte, both from 1; the column counts characters.
pub(super) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}
