//! The config that the environment alone makes, where there is no file.

use std::collections::BTreeMap;
use std::path::Path;

use domo_token_client::scope::ScopeSet;

use super::check::{fault_of_path, proxy_url, scope_set, token_url};
use super::{
    ClientConfig, Config, ConfigError, CredentialsSource, ENV_CLIENT, ENV_PROXY, ENV_SCOPE,
    ENV_SECRET, Endpoint, Env, IdSource, Limits, SOCKET_MODE, SecretSource, TOKEN_URL, TokenMethod,
};
use crate::secret_masking::NamedPath;
use crate::watch::Stamp;

impl Config {
    /// The config that the environment alone makes: one client named [`ENV_CLIENT`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the variable that is missing or wrong.
    pub fn from_env(env: Env) -> Result<Self, ConfigError> {
        let client_id = env_text(env, "DOMO_CLIENT_ID")?.ok_or_else(|| {
            let looked = "no config file was found, and the environment names no client";
            let problem = format!("{looked}: run domo-tokend init, or set it");
            env_error("DOMO_CLIENT_ID", &problem)
        })?;
        let client_secret = env_secret(env)?;
        let tokens = env_scopes(env)?;
        let url = env_text(env, "DOMO_TOKEN_URL")?.unwrap_or_else(|| TOKEN_URL.to_owned());
        let proxy = env_text(env, ENV_PROXY)?;
        let endpoint = Endpoint {
            // Loopback is allowed here without a key: there is no file to put one in.
            url: token_url(&url, true).map_err(|e| env_error("DOMO_TOKEN_URL", &e))?,
            method: TokenMethod::default(),
            ca_file: env_path(env, "DOMO_CA_FILE")?,
            proxy: proxy
                .map(|url| proxy_url(&url).map_err(|e| env_error(ENV_PROXY, &e)))
                .transpose()?,
            proxy_auth_file: None,
        };
        let client = ClientConfig {
            credentials: CredentialsSource::Pair {
                id: IdSource::Inline(client_id),
                secret: client_secret,
            },
            tokens,
            endpoint,
            allow_world_readable_secret: false,
            access: None,
        };
        Ok(Self {
            path: None,
            socket: None,
            socket_mode: SOCKET_MODE,
            socket_group: None,
            pipe_group: None,
            shared_directory: false,
            limits: Limits::default(),
            default_client: Some(ENV_CLIENT.to_owned()),
            keep_over_restart: true,
            metrics_listen: None,
            audit_file: None,
            log_level: None,
            clients: BTreeMap::from([(ENV_CLIENT.to_owned(), client)]),
            notices: Vec::new(),
            stamp: Stamp::default(),
            digest: 0,
        })
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
    let written = env_text(env, "DOMO_SCOPE")?.unwrap_or_else(|| ENV_SCOPE.to_owned());
    let parsed = written
        .split(';')
        .map(scope_set)
        .collect::<Result<Vec<_>, _>>();
    let mut sets = parsed.map_err(|problem| env_error("DOMO_SCOPE", &problem))?;
    sets.sort();
    sets.dedup();
    Ok(sets)
}

/// The path of a file, judged like one in a config file.
fn env_path(env: Env, name: &str) -> Result<Option<NamedPath>, ConfigError> {
    let Some(text) = env_text(env, name)? else {
        return Ok(None);
    };
    match fault_of_path(Path::new(&text)) {
        Some(fault) => Err(env_error(name, fault)),
        None => Ok(Some(text.into())),
    }
}

fn env_text(env: Env, name: &str) -> Result<Option<String>, ConfigError> {
    let value = env(name).filter(|value| !value.is_empty());
    let text = value.map(|value| {
        value
            .into_string()
            .map_err(|_| env_error(name, "not UTF-8"))
    });
    text.transpose()
}

fn env_error(name: &str, problem: &str) -> ConfigError {
    ConfigError {
        path: None,
        place: None,
        key: Some(name.to_owned()),
        problem: problem.to_owned(),
    }
}
