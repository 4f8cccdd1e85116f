//! The config that the environment alone defines, without a file.

use std::collections::BTreeMap;
use std::path::Path;

use domo_token_protocol::scope::ScopeSet;

use super::validate::{
    fleet_url, login_without_proxy, proxy_url, refuse_proxy_over_http, scope_set, token_url,
    validate_login_file, validate_path,
};
use super::{
    AuditSettings, BrokerSettings, ClientConfig, Config, ConfigError, CredentialsSource,
    ENV_CLIENT, ENV_SECRET, Endpoint, Env, FLEET_CA_FILE, FLEET_PASSWORD_FILE, FLEET_URL,
    FleetConfig, FleetServers, IN_QUOTES, IdSource, Limits, LogSettings, MetricsSettings, Naming,
    SecretSource, Setting, TOKEN_URL, is_quoted, validate_id, without_mark,
};
use crate::config::named_path::NamedPath;
use crate::platform::file_watch::Stamp;

/// The variables that configure a client without a config file, as the help lists them.
pub const VARIABLES: &str = "  \
  DOMO_CLIENT_ID, DOMO_CLIENT_SECRET or DOMO_CLIENT_SECRET_FILE,
  DOMO_SCOPE (scope sets separated by ';') [default: data],
  DOMO_TOKEN_URL, DOMO_CA_FILE, DOMO_PROXY, DOMO_PROXY_AUTH_FILE,
  DOMO_ALLOW_WORLD_READABLE_SECRET=1 (permits secret files that all users can read),
  DOMO_FLEET_URL, DOMO_FLEET_PASSWORD_FILE, DOMO_FLEET_CA_FILE
";

impl Config {
    /// Returns the config that the environment alone defines: one client named [`ENV_CLIENT`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the variable that is missing or wrong.
    pub fn from_env(env: Env) -> Result<Self, ConfigError> {
        let credentials = CredentialsSource::Pair {
            id: IdSource::Inline(env_id(env)?),
            secret: env_secret(env)?,
        };
        let mut client = ClientConfig::new(credentials, env_scopes(env)?, env_endpoint(env)?);
        client.allow_world_readable_secret = env_consent(env)?;
        client.allow_http_loopback = true;
        let fleet = env_fleet(env)?;
        Ok(Self {
            path: None,
            broker: BrokerSettings::default(),
            limits: Limits::default(),
            default_client: Some(ENV_CLIENT.to_owned()),
            log: LogSettings::default(),
            metrics: MetricsSettings::default(),
            audit: AuditSettings::default(),
            notices: fleet.iter().filter_map(FleetConfig::notice).collect(),
            fleet,
            gateway: None,
            clients: BTreeMap::from([(ENV_CLIENT.to_owned(), client)]),
            stamp: Stamp::default(),
            digest: 0,
        })
    }
}

fn env_id(env: Env) -> Result<String, ConfigError> {
    const NAME: &str = "DOMO_CLIENT_ID";
    let text = env_text(env, NAME)?.ok_or_else(|| {
        let looked = "not set, and there is no config file";
        env_error(
            NAME,
            &format!("{looked}; set it, or write a config: domo-tokend init"),
        )
    })?;
    // As that of a file.
    let id = without_mark(&text).trim();
    match validate_id(id) {
        Some(fault) => Err(env_error(NAME, fault)),
        None => Ok(id.to_owned()),
    }
}

fn env_endpoint(env: Env) -> Result<Endpoint, ConfigError> {
    const NAMING: Naming = Naming::Variables;
    const URL: &str = Setting::TOKEN_URL.variable;
    const PROXY: &str = Setting::PROXY.variable;
    const LOGIN: &str = Setting::PROXY_LOGIN.variable;
    let url = env_text(env, URL)?.unwrap_or_else(|| TOKEN_URL.to_owned());
    // Loopback is allowed here without a key: there is no file to put one in.
    let url = token_url(&url, true).map_err(|e| env_error(URL, &e))?;
    let proxy = env_text(env, PROXY)?.map(|text| {
        proxy_url(&text, NAMING)
            .and_then(|proxy| refuse_proxy_over_http(&url, proxy, NAMING))
            .map_err(|e| env_error(PROXY, &e))
    });
    let proxy = proxy.transpose()?;
    let proxy_auth_file = env_path(env, LOGIN)?;
    if proxy.is_none() && proxy_auth_file.is_some() {
        return Err(env_error(LOGIN, login_without_proxy(NAMING)));
    }
    let login_file = proxy_auth_file.as_ref().map(NamedPath::path);
    if let Some(fault) = login_file.and_then(validate_login_file) {
        return Err(env_error(LOGIN, fault));
    }
    Ok(Endpoint {
        ca_file: env_path(env, Setting::CA_FILE.variable)?,
        proxy,
        proxy_auth_file,
        naming: NAMING,
        ..Endpoint::new(url)
    })
}

/// Returns the server through which hosts share tokens.
fn env_fleet(env: Env) -> Result<Option<FleetConfig>, ConfigError> {
    let password = env_path(env, FLEET_PASSWORD_FILE)?;
    let ca_file = env_path(env, FLEET_CA_FILE)?;
    let Some(text) = env_text(env, FLEET_URL)? else {
        let first = password.map(|_| FLEET_PASSWORD_FILE);
        return match first.or(ca_file.map(|_| FLEET_CA_FILE)) {
            None => Ok(None),
            Some(name) => {
                let problem =
                    "there is no server for it; set DOMO_FLEET_URL, or unset this variable";
                Err(env_error(name, problem))
            }
        };
    };
    let url = fleet_url(&text, false, Naming::Variables).map_err(|e| env_error(FLEET_URL, &e))?;
    if ca_file.is_some() && !url.is_tls {
        let problem = "valid only with TLS; begin DOMO_FLEET_URL with rediss://, or unset this \
                       variable";
        return Err(env_error(FLEET_CA_FILE, problem));
    }
    let servers = url.server.map(FleetServers::Server);
    let fleet = servers.map(|servers| FleetConfig::new(servers, url.database, url.is_tls));
    let allow_world_readable_secret = env_consent(env)?;
    Ok(fleet.map(|fleet| FleetConfig {
        password: password.map(SecretSource::File),
        ca_file,
        allow_world_readable_secret,
        naming: Naming::Variables,
        ..fleet
    }))
}

/// Returns whether secret files may be readable by all.
fn env_consent(env: Env) -> Result<bool, ConfigError> {
    const NAME: &str = "DOMO_ALLOW_WORLD_READABLE_SECRET";
    match env_text(env, NAME)?.as_deref() {
        None => Ok(false),
        Some("1") => Ok(true),
        Some(_) => Err(env_error(
            NAME,
            "must be 1 to permit secret files that all users can read; otherwise unset it",
        )),
    }
}

fn env_secret(env: Env) -> Result<SecretSource, ConfigError> {
    match (
        env_text(env, ENV_SECRET)?,
        env_path(env, "DOMO_CLIENT_SECRET_FILE")?,
    ) {
        (Some(_), None) => Ok(SecretSource::Env(ENV_SECRET.to_owned())),
        (None, Some(file)) => Ok(SecretSource::File(file)),
        (Some(_), Some(_)) => Err(env_error(
            ENV_SECRET,
            "set this or DOMO_CLIENT_SECRET_FILE, not both",
        )),
        (None, None) => Err(env_error(
            ENV_SECRET,
            "missing: set this or DOMO_CLIENT_SECRET_FILE",
        )),
    }
}

fn env_scopes(env: Env) -> Result<Vec<ScopeSet>, ConfigError> {
    const NAME: &str = Setting::TOKENS.variable;
    let written = env_text(env, NAME)?.unwrap_or_else(|| "data".to_owned());
    let parsed = written
        .split(';')
        .map(|set| scope_set(set, Naming::Variables))
        .collect::<Result<Vec<_>, _>>();
    let mut sets = parsed.map_err(|problem| env_error(NAME, &problem))?;
    sets.sort();
    sets.dedup();
    Ok(sets)
}

/// Returns the path of a file, validated like one in a config file.
fn env_path(env: Env, name: &str) -> Result<Option<NamedPath>, ConfigError> {
    let Some(text) = env_text(env, name)? else {
        return Ok(None);
    };
    if let Some(fault) = validate_path(Path::new(&text)) {
        return Err(env_error(name, fault));
    }
    let path = NamedPath::new(Path::new(&text), Path::new(""), Naming::Variables);
    Ok(Some(path))
}

/// Returns a variable's text, without quotes around it and without the line breaks that a file of variables, or what
/// is pasted, leaves at its end. Empty counts as not set.
fn env_text(env: Env, name: &str) -> Result<Option<String>, ConfigError> {
    let text = env(name).map(|value| {
        let text = value.into_string();
        text.map_err(|_| env_error(name, "not UTF-8"))
    });
    let mut text = text.transpose()?.unwrap_or_default();
    // It may be a secret, of which no copy is made.
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    // A secret may be any text.
    if name != ENV_SECRET && is_quoted(&text) {
        return Err(env_error(name, IN_QUOTES));
    }
    Ok((!text.is_empty()).then_some(text))
}

fn env_error(name: &str, problem: &str) -> ConfigError {
    ConfigError {
        path: None,
        position: None,
        key: Some(name.to_owned()),
        problem: problem.to_owned(),
    }
}
