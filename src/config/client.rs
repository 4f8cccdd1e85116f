//! `[clients.NAME]`: its keys, defaults and rules.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use domo_token_core::access_policy::Access;
use domo_token_protocol::scope::ScopeSet;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use toml::Spanned;
use url::Url;

use super::named_path::NamedPath;
use super::parse::RawRule;
use super::validate::{
    Validator, login_without_proxy, proxy_url, refuse_proxy_over_http, scope_set, token_url,
    validate_login_file,
};
use super::{
    ConfigError, CredentialsSource, IdSource, Naming, SecretCommand, SecretSource, TOKEN_URL,
};

const METHODS: [&str; 2] = ["post", "get"];

#[derive(Debug)]
pub struct ClientConfig {
    pub credentials: CredentialsSource,
    /// The scope sets to keep a token for; never empty.
    pub tokens: Vec<ScopeSet>,
    pub endpoint: Endpoint,
    /// Whether secret files may be readable by all.
    pub allow_world_readable_secret: bool,
    /// Whether its URLs may be plain http to this machine.
    pub allow_http_loopback: bool,
    /// Whether its tokens are shared with the fleet, if there is one.
    pub shares: bool,
    /// The callers that may have each set; `None` if every caller that can open the socket may have all.
    pub access: Option<Access>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its URL: https, or http to a loopback address if that was allowed.
    pub url: Url,
    pub method: TokenMethod,
    /// CA certificates trusted in addition to the system's, in PEM.
    pub ca_file: Option<NamedPath>,
    /// The proxy to connect through.
    pub proxy: Option<Url>,
    /// The file with the login for the proxy.
    pub proxy_auth_file: Option<NamedPath>,
    /// How messages name its settings.
    pub naming: Naming,
}

/// How token requests are sent. Domo accepts both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenMethod {
    /// Parameters in a form body (RFC 6749 §4.4.2).
    #[default]
    Post,
    /// Parameters in the query, as in Domo's own documentation.
    Get,
}

impl ClientConfig {
    /// Returns a client of a config file with the defaults of the other keys.
    pub(super) fn new(
        credentials: CredentialsSource,
        tokens: Vec<ScopeSet>,
        endpoint: Endpoint,
    ) -> Self {
        Self {
            credentials,
            tokens,
            endpoint,
            allow_world_readable_secret: false,
            allow_http_loopback: false,
            shares: true,
            access: None,
        }
    }

    /// Returns whether the config file itself contains the secret.
    #[must_use]
    pub fn holds_a_secret(&self) -> bool {
        match &self.credentials {
            CredentialsSource::Pair { secret, .. } => matches!(secret, SecretSource::Inline(_)),
            CredentialsSource::ConnectionFile(_) => false,
        }
    }

    /// Returns the source of the id and the command that prints the secret, if one does.
    #[must_use]
    pub fn secret_command(&self) -> Option<(&IdSource, &SecretCommand)> {
        match &self.credentials {
            CredentialsSource::Pair {
                id,
                secret: SecretSource::Command(command),
            } => Some((id, command)),
            CredentialsSource::Pair { .. } | CredentialsSource::ConnectionFile(_) => None,
        }
    }

    /// Returns the files that it refers to: id, secret, certificates, the login for its proxy.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let endpoint = &self.endpoint;
        let of_endpoint = endpoint.ca_file.iter().chain(&endpoint.proxy_auth_file);
        let (id, secret) = match &self.credentials {
            CredentialsSource::ConnectionFile(file) => (None, Some(file)),
            CredentialsSource::Pair { id, secret } => {
                let id = match id {
                    IdSource::File(file) => Some(file),
                    IdSource::Inline(_) => None,
                };
                let secret = match secret {
                    SecretSource::File(file) => Some(file),
                    SecretSource::Inline(_)
                    | SecretSource::Env(_)
                    | SecretSource::Credential(_)
                    | SecretSource::Command(_) => None,
                };
                (id, secret)
            }
        };
        let files = of_endpoint.chain(id).chain(secret);
        files.map(|file| file.path().to_owned()).collect()
    }
}

impl Endpoint {
    /// Returns the endpoint at this URL with the defaults of the other keys.
    pub(crate) fn new(url: Url) -> Self {
        Self {
            url,
            method: TokenMethod::default(),
            ca_file: None,
            proxy: None,
            proxy_auth_file: None,
            naming: Naming::default(),
        }
    }
}

/// One Domo API client, with exactly one of the keys `client_secret*`, or with `client_file` alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Client")]
pub(super) struct RawClient {
    /// The client id (Admin > Authentication > API clients).
    #[schemars(with = "Option<String>")]
    pub(super) client_id: Option<Spanned<String>>,
    /// A file that contains the client id, so that id and secret can be rotated in the same way.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) client_id_file: Option<Spanned<PathBuf>>,
    /// The secret itself. A file is safer.
    #[schemars(with = "Option<String>")]
    pub(super) client_secret: Option<Spanned<SecretString>>,
    /// A file that contains the secret, mode 0600.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) client_secret_file: Option<Spanned<PathBuf>>,
    /// An environment variable of the daemon that contains the secret.
    #[schemars(with = "Option<String>")]
    pub(super) client_secret_env: Option<Spanned<String>>,
    /// A systemd credential (`LoadCredential=`) that contains the secret.
    #[schemars(with = "Option<String>")]
    pub(super) client_secret_credential: Option<Spanned<String>>,
    /// A program and its arguments that print the secret, like `["pass", "show", "domo"]`.
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) client_secret_command: Option<Spanned<Vec<String>>>,
    /// A pydomo connection file, which contains id and secret.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) client_file: Option<Spanned<PathBuf>>,
    /// The scope sets to keep a token for, like `["data", "data user"]`.
    #[serde(default)]
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub(super) tokens: Vec<Spanned<String>>,
    /// The token endpoint; Domo's own by default.
    #[schemars(with = "Option<String>")]
    pub(super) token_url: Option<Spanned<String>>,
    /// The HTTP method of token requests: "post" (default) or "get".
    #[schemars(with = "Option<String>", extend("enum" = METHODS))]
    pub(super) token_method: Option<Spanned<String>>,
    /// CA certificates in PEM that are trusted in addition to the system's.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) ca_file: Option<Spanned<PathBuf>>,
    /// The HTTP proxy to connect through; proxy variables of the environment are not used.
    #[schemars(with = "Option<String>")]
    pub(super) proxy: Option<Spanned<String>>,
    /// A file that contains USER:PASSWORD for the proxy, mode 0600.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) proxy_auth_file: Option<Spanned<PathBuf>>,
    /// The callers that may have each scope set. Without this table, every caller that can open the socket
    /// may have every set; with it, a set without an entry is denied to everyone, including root.
    #[schemars(with = "Option<BTreeMap<String, RawRule>>")]
    pub(super) access: Option<BTreeMap<Spanned<String>, Spanned<RawRule>>>,
    /// false: its tokens are not shared with the hosts of `[fleet]` [default: true].
    pub(super) fleet: Option<bool>,
    /// Permits a `token_url`, and an `upstream` of `[gateway]`, with plain http to this machine, for tests and the sandbox.
    #[serde(default)]
    pub(super) allow_http_loopback: bool,
    /// Permits secret files that all users can read (Docker, Kubernetes).
    #[serde(default)]
    pub(super) allow_world_readable_secret: bool,
}

impl Validator<'_> {
    pub(super) fn client(
        &self,
        name: &str,
        raw: Spanned<RawClient>,
    ) -> Result<ClientConfig, ConfigError> {
        let span = raw.span();
        let mut raw = raw.into_inner();
        let key = |key: &str| format!("clients.{name}.{key}");
        self.name(name, &span, "clients", "a client's name")?;
        let endpoint = self.endpoint(&mut raw, &key)?;
        let tokens = self.tokens(&raw, &span, &key("tokens"))?;
        let allow_world_readable_secret = raw.allow_world_readable_secret;
        let allow_http_loopback = raw.allow_http_loopback;
        let shares = raw.fleet.unwrap_or(true);
        let access = raw.access.take();
        let access = access.map(|access| self.access(access, &tokens, &key("access")));
        let credentials = self.credentials(raw, &span, &key)?;
        Ok(ClientConfig {
            access: access.transpose()?,
            allow_world_readable_secret,
            allow_http_loopback,
            shares,
            ..ClientConfig::new(credentials, tokens, endpoint)
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
            proxy_url(url.get_ref(), self.naming)
                .and_then(|proxy| refuse_proxy_over_http(&token_url, proxy, self.naming))
                .map_err(|problem| self.error(Some(url.span()), &key("proxy"), problem))
        });
        Ok(Endpoint {
            url: token_url,
            method,
            ca_file: self.path(raw.ca_file.take(), &key("ca_file"))?,
            proxy: proxy.transpose()?,
            proxy_auth_file: self.proxy_login(raw, key)?,
            naming: self.naming,
        })
    }

    fn proxy_login(
        &self,
        raw: &mut RawClient,
        key: &dyn Fn(&str) -> String,
    ) -> Result<Option<NamedPath>, ConfigError> {
        if let (Some(file), None) = (&raw.proxy_auth_file, &raw.proxy) {
            let problem = login_without_proxy(self.naming).to_owned();
            return Err(self.error(Some(file.span()), &key("proxy_auth_file"), problem));
        }
        if let Some(file) = &raw.proxy_auth_file
            && let Some(fault) = validate_login_file(file.get_ref())
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
            let set = scope_set(written.get_ref(), self.naming)
                .map_err(|problem| self.error(Some(written.span()), key, problem))?;
            sets.push(set);
        }
        if sets.is_empty() {
            let problem =
                "missing: list the scope sets to keep a token for, like [\"data\", \"data user\"]";
            return Err(self.error(Some(client.clone()), key, problem.to_owned()));
        }
        sets.sort();
        sets.dedup();
        Ok(sets)
    }
}
