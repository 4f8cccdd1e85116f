//! `[gateway]`: its keys, defaults and rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use domo_token_core::api_rules::{ApiRule, InvalidPattern, Methods};
use domo_token_protocol::scope::ScopeSet;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;
use url::Url;

use super::named_path::NamedPath;
use super::validate::{Validator, listed, refuse_upstream_over_proxy, upstream_url};
use super::{ClientConfig, ConfigError};

/// The server of Domo's API, one host for all instances.
pub const UPSTREAM: &str = "https://api.domo.com";

/// The file with this host's key, beside the config.
pub const HOST_KEY: &str = "gateway.key";

/// What the name of the file with the hashes of an application ends with, beside the config.
pub const HASH_FILE_END: &str = ".hash";

/// Usual addresses of the listeners, for messages and for new tables.
pub const LISTEN_LIKE: &str = "127.0.0.1:8640";
const TLS_LISTEN_LIKE: &str = "127.0.0.1:8641";

/// The longest method in a rule, in bytes.
const MAX_METHOD: usize = 32;

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

impl GatewayConfig {
    /// Returns the files that it refers to.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let tls = self.tls.iter();
        let tls = tls.flat_map(|tls| [&tls.certificate_file, &tls.key_file]);
        let apps = self.apps.values().map(|app| &app.secret_hash_file);
        let files = std::iter::once(&self.key_file).chain(tls).chain(apps);
        files.map(|file| file.path().to_owned()).collect()
    }

    /// Returns where it listens with TLS.
    #[must_use]
    pub fn tls_listen(&self) -> Option<SocketAddr> {
        self.tls.as_ref().map(|tls| tls.listen)
    }

    /// Returns the warning about a gateway that nothing can use.
    pub(super) fn notice(&self) -> Option<String> {
        let notice = "gateway.apps: no application, so every request is denied; add one: \
                      domo-tokend app add NAME";
        self.apps.is_empty().then(|| notice.to_owned())
    }
}

/// The local reverse proxy for Domo's SDKs. It requires `listen` or `tls_listen`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Gateway")]
pub(super) struct RawGateway {
    /// A loopback address and port for HTTP, like "127.0.0.1:8640" [default: none].
    #[schemars(with = "Option<String>")]
    listen: Option<Spanned<String>>,
    /// A loopback address and port for HTTPS, for SDKs that cannot use HTTP, like "127.0.0.1:8641"
    /// [default: none].
    #[schemars(with = "Option<String>")]
    tls_listen: Option<Spanned<String>>,
    /// The certificate for `tls_listen`, and those that certify it, in PEM.
    #[schemars(with = "Option<PathBuf>")]
    tls_cert_file: Option<Spanned<PathBuf>>,
    /// The private key of that certificate in PEM, mode 0600.
    #[schemars(with = "Option<PathBuf>")]
    tls_key_file: Option<Spanned<PathBuf>>,
    /// This host's key, 32 random bytes that the first `domo-tokend app add` creates, mode 0600
    /// [default: "gateway.key"].
    #[schemars(with = "Option<PathBuf>")]
    key_file: Option<Spanned<PathBuf>>,
    /// Applications by name: letters, digits, '.', '_' and '-'.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawApp>")]
    apps: BTreeMap<String, Spanned<RawApp>>,
}

/// One application that uses Domo's API through the gateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "App")]
struct RawApp {
    /// The hashes of its secrets, which `domo-tokend app add NAME` writes [default: "NAME.hash"].
    #[schemars(with = "Option<PathBuf>")]
    secret_hash_file: Option<Spanned<PathBuf>>,
    /// The client whose tokens are sent.
    #[schemars(with = "String")]
    client: Option<Spanned<String>>,
    /// The server of Domo's API: scheme, host and port [default: `https://api.domo.com`].
    #[schemars(with = "Option<String>")]
    upstream: Option<Spanned<String>>,
    /// What it may request: the first rule that matches a request decides; without one it is denied.
    #[serde(default)]
    #[schemars(with = "Vec<RawApiRule>", length(min = 1))]
    allow: Vec<Spanned<RawApiRule>>,
    /// false: large bodies are sent without `Expect: 100-continue` [default: true].
    expect: Option<bool>,
}

/// Requests that are allowed, and the scopes of the token that is sent with them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApiRule")]
struct RawApiRule {
    /// Methods in upper case, like `["GET", "HEAD"]`; `["*"]` stands for all.
    #[serde(default)]
    #[schemars(with = "Vec<String>", length(min = 1))]
    methods: Vec<Spanned<String>>,
    /// A path below /v1/. The segment `*` stands for one segment, `**` at the end for any number of them.
    #[schemars(with = "String")]
    path: Option<Spanned<String>>,
    /// The scope set, one of the client's `tokens`.
    #[schemars(with = "String")]
    scopes: Option<Spanned<String>>,
}

fn key(name: &str) -> String {
    format!("gateway.{name}")
}

impl Validator<'_> {
    pub(super) fn gateway(
        &self,
        raw: Option<Spanned<RawGateway>>,
        clients: &BTreeMap<String, ClientConfig>,
        metrics: Option<SocketAddr>,
    ) -> Result<Option<GatewayConfig>, ConfigError> {
        let Some(raw) = raw else {
            return Ok(None);
        };
        let span = raw.span();
        let mut raw = raw.into_inner();
        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        taken.extend(metrics.map(|metrics| ("metrics.listen", metrics)));
        let listen = self.listen(raw.listen.take(), "listen", LISTEN_LIKE, &taken)?;
        taken.extend(listen.map(|listen| ("gateway.listen", listen)));
        let tls = self.tls(&mut raw, &taken)?;
        if listen.is_none() && tls.is_none() {
            let problem =
                format!("missing: a loopback address with a port, like \"{LISTEN_LIKE}\"");
            return Err(self.error(Some(span), &key("listen"), problem));
        }
        let key_file = self.path_to_make(raw.key_file.take(), &key("key_file"))?;
        let key_file = key_file.unwrap_or_else(|| self.resolve(Path::new(HOST_KEY)));
        let mut apps: BTreeMap<String, AppConfig> = BTreeMap::new();
        for (name, app) in raw.apps {
            let span = app.span();
            self.name(&name, &span, &key("apps"), "an application's name")?;
            let app = self.app(&name, app, clients)?;
            let file = &app.secret_hash_file;
            let other = apps.iter().find(|(_, app)| app.secret_hash_file == *file);
            if let Some((other, _)) = other {
                let problem = format!("is also that of \"{other}\"; use another file");
                let key = key(&format!("apps.{name}.secret_hash_file"));
                return Err(self.error(Some(span), &key, problem));
            }
            apps.insert(name, app);
        }
        Ok(Some(GatewayConfig {
            listen,
            tls,
            key_file,
            apps,
        }))
    }

    /// Returns a loopback address that is none of those that are `taken`.
    fn listen(
        &self,
        raw: Option<Spanned<String>>,
        name: &str,
        like: &str,
        taken: &[(&str, SocketAddr)],
    ) -> Result<Option<SocketAddr>, ConfigError> {
        let Some(written) = raw else {
            return Ok(None);
        };
        let fail = |problem: String| Err(self.error(Some(written.span()), &key(name), problem));
        let parsed: Option<SocketAddr> = written.get_ref().parse().ok();
        let Some(address) = parsed.filter(|address| address.ip().is_loopback()) else {
            return fail(format!(
                "must be a loopback address with a port, like \"{like}\""
            ));
        };
        // The system chooses another port for each 0.
        let same = |(_, other): &&(&str, SocketAddr)| *other == address && address.port() != 0;
        match taken.iter().find(same) {
            Some((other, _)) => fail(format!("is the address of {other}; choose another port")),
            None => Ok(Some(address)),
        }
    }

    fn tls(
        &self,
        raw: &mut RawGateway,
        taken: &[(&str, SocketAddr)],
    ) -> Result<Option<GatewayTls>, ConfigError> {
        let (certificate, private_key) = ("tls_cert_file", "tls_key_file");
        let span = raw.tls_listen.as_ref().map(Spanned::span);
        let listen = self.listen(raw.tls_listen.take(), "tls_listen", TLS_LISTEN_LIKE, taken)?;
        let files = [
            (raw.tls_cert_file.take(), certificate),
            (raw.tls_key_file.take(), private_key),
        ];
        if listen.is_none() {
            for (file, name) in files {
                if let Some(file) = file {
                    let problem = "valid only with tls_listen; set tls_listen, or remove it";
                    return Err(self.error(Some(file.span()), &key(name), problem.to_owned()));
                }
            }
            return Ok(None);
        }
        let [certificate_file, key_file] = files.map(|(file, name)| self.path(file, &key(name)));
        match (listen, certificate_file?, key_file?) {
            (Some(listen), Some(certificate_file), Some(key_file)) => Ok(Some(GatewayTls {
                listen,
                certificate_file,
                key_file,
            })),
            (_, certificate_file, _) => {
                let missing = if certificate_file.is_none() {
                    certificate
                } else {
                    private_key
                };
                let problem = format!("{missing} is missing; set {certificate} and {private_key}");
                Err(self.error(span, &key("tls_listen"), problem))
            }
        }
    }

    fn app(
        &self,
        name: &str,
        raw: Spanned<RawApp>,
        clients: &BTreeMap<String, ClientConfig>,
    ) -> Result<AppConfig, ConfigError> {
        let key = |key: &str| format!("gateway.apps.{name}.{key}");
        let span = raw.span();
        let raw = raw.into_inner();
        let names: Vec<&str> = clients.keys().map(String::as_str).collect();
        let names = listed(&names);
        let Some(written) = raw.client else {
            let problem =
                format!("missing: the client whose tokens are sent; configured clients: {names}");
            return Err(self.error(Some(span), &key("client"), problem));
        };
        let Some(client) = clients.get(written.get_ref()) else {
            let problem = format!("no such client; configured clients: {names}");
            return Err(self.error(Some(written.span()), &key("client"), problem));
        };
        let upstream = self.upstream(raw.upstream.as_ref(), client, &key("upstream"))?;
        let file = self.path_to_make(raw.secret_hash_file, &key("secret_hash_file"))?;
        let usual = || self.resolve(Path::new(&format!("{name}{HASH_FILE_END}")));
        if raw.allow.is_empty() {
            let problem = "missing: list what it may request, like [{ methods = [\"GET\"], path = \
                           \"/v1/datasets/**\", scopes = \"data\" }]";
            return Err(self.error(Some(span), &key("allow"), problem.to_owned()));
        }
        let rules = raw.allow.into_iter().enumerate();
        let rules = rules.map(|(index, rule)| {
            let key = key(&format!("allow[{index}]"));
            self.api_rule(rule, &client.tokens, &key)
        });
        Ok(AppConfig {
            secret_hash_file: file.unwrap_or_else(usual),
            client: written.into_inner(),
            upstream,
            allow: rules.collect::<Result<_, _>>()?,
            expect: raw.expect.unwrap_or(true),
        })
    }

    fn upstream(
        &self,
        raw: Option<&Spanned<String>>,
        client: &ClientConfig,
        key: &str,
    ) -> Result<Url, ConfigError> {
        let (text, span) = match raw {
            Some(url) => (url.get_ref().as_str(), Some(url.span())),
            None => (UPSTREAM, None),
        };
        let upstream = upstream_url(text, client.allow_http_loopback);
        upstream
            .and_then(|url| refuse_upstream_over_proxy(url, client.endpoint.proxy.as_ref()))
            .map_err(|problem| self.error(span, key, problem))
    }

    fn api_rule(
        &self,
        raw: Spanned<RawApiRule>,
        tokens: &[ScopeSet],
        key: &str,
    ) -> Result<ApiRule, ConfigError> {
        let rule = raw.span();
        let raw = raw.into_inner();
        let fail = |span: Range<usize>, name: &str, problem: String| {
            self.error(Some(span), &format!("{key}.{name}"), problem)
        };
        let methods = self.methods(raw.methods, &rule, &format!("{key}.methods"))?;
        let path = raw.path.ok_or_else(|| {
            let problem = "missing: set it, like \"/v1/datasets/**\"".to_owned();
            fail(rule.clone(), "path", problem)
        })?;
        let pattern = path.get_ref().parse();
        let pattern = pattern
            .map_err(|error: InvalidPattern| fail(path.span(), "path", error.to_string()))?;
        let known: Vec<&str> = tokens.iter().map(ScopeSet::as_str).collect();
        let known = listed(&known);
        let written = raw.scopes.ok_or_else(|| {
            let problem = format!("missing: set it to one of the tokens of the client: {known}");
            fail(rule.clone(), "scopes", problem)
        })?;
        let scopes = ScopeSet::parse(written.get_ref())
            .map_err(|error| fail(written.span(), "scopes", error.to_string()))?;
        if !tokens.contains(&scopes) {
            let problem = format!("must be one of the tokens of the client: {known}");
            return Err(fail(written.span(), "scopes", problem));
        }
        Ok(ApiRule {
            methods,
            path: pattern,
            scopes,
        })
    }

    fn methods(
        &self,
        raw: Vec<Spanned<String>>,
        rule: &Range<usize>,
        key: &str,
    ) -> Result<Methods, ConfigError> {
        let fail = |span: Range<usize>, problem: &str| {
            Err(self.error(Some(span), key, problem.to_owned()))
        };
        if raw.is_empty() {
            let problem = "missing: set them, like [\"GET\"], or [\"*\"] for all";
            return fail(rule.clone(), problem);
        }
        let is_any = |method: &Spanned<String>| method.get_ref() == "*";
        if let Some(any) = raw.iter().find(|method| is_any(method)) {
            if raw.len() > 1 {
                return fail(
                    any.span(),
                    "\"*\" stands for all methods; remove the others",
                );
            }
            return Ok(Methods::Any);
        }
        let mut methods = Vec::new();
        for method in raw {
            let name = method.get_ref();
            let allowed = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
            if name.is_empty() || name.len() > MAX_METHOD || !name.bytes().all(allowed) {
                return fail(
                    method.span(),
                    "must be in upper case, like \"GET\", or \"*\" for all",
                );
            }
            methods.push(method.into_inner());
        }
        Ok(Methods::These(methods))
    }
}
