//! Validates credentials: one id, and one source of the secret.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use secrecy::ExposeSecret;
use toml::Spanned;

use super::{Validator, validate_path};
use crate::config::client::RawClient;
use crate::config::{
    ClientConfig, ConfigError, CredentialsSource, ENV_SECRET, FLEET_PASSWORD_FILE, FLEET_URL,
    FleetConfig, IdSource, SecretCommand, SecretSource, Setting, is_valid_secret, validate_id,
    without_mark,
};

/// The keys of which a client has one.
const SECRET_KEYS: &str = "client_secret_file, client_secret_credential, client_secret_env, \
                           client_secret_command, client_secret";

/// A source of the secret, as it was written.
pub(in crate::config) struct Written {
    key: &'static str,
    span: Range<usize>,
    source: SecretSource,
}

impl Validator<'_> {
    pub(in crate::config) fn credentials(
        &self,
        mut raw: RawClient,
        client: &Range<usize>,
        key: &dyn Fn(&str) -> String,
    ) -> Result<CredentialsSource, ConfigError> {
        let id = self.id(&mut raw, key)?;
        let span = raw.client_file.as_ref().map(Spanned::span);
        let file = self.path(raw.client_file.take(), &key("client_file"))?;
        let secret = self.secret(raw, key)?;
        match (id, secret, file) {
            (Some(id), Some(secret), None) => Ok(CredentialsSource::Pair { id, secret }),
            (None, None, Some(file)) => Ok(CredentialsSource::ConnectionFile(file)),
            (_, _, Some(_)) => {
                let problem =
                    "contains the id and the secret: remove the other keys for them".to_owned();
                Err(self.error(span, &key("client_file"), problem))
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
        raw: &mut RawClient,
        key: &dyn Fn(&str) -> String,
    ) -> Result<Option<IdSource>, ConfigError> {
        match (raw.client_id.take(), raw.client_id_file.take()) {
            (Some(id), None) => match validate_id(without_mark(id.get_ref())) {
                None => Ok(Some(IdSource::Inline(
                    without_mark(id.get_ref()).to_owned(),
                ))),
                Some(fault) => {
                    Err(self.error(Some(id.span()), &key("client_id"), fault.to_owned()))
                }
            },
            (None, file) => {
                let file = self.path(file, &key("client_id_file"))?;
                Ok(file.map(IdSource::File))
            }
            (Some(id), Some(_)) => {
                let problem = "set this or client_id_file, not both".to_owned();
                Err(self.error(Some(id.span()), &key("client_id"), problem))
            }
        }
    }

    fn secret(
        &self,
        raw: RawClient,
        key: &dyn Fn(&str) -> String,
    ) -> Result<Option<SecretSource>, ConfigError> {
        let inline = written("client_secret", raw.client_secret, SecretSource::Inline);
        let others = written_sources(
            [
                "client_secret_file",
                "client_secret_credential",
                "client_secret_env",
                "client_secret_command",
            ],
            raw.client_secret_file,
            raw.client_secret_credential,
            raw.client_secret_env,
            raw.client_secret_command,
        );
        self.secret_source(inline.into_iter().chain(others), SECRET_KEYS, key)
    }

    /// Returns the source of a secret, of which there is at most one. `keys` are all that there can be.
    pub(in crate::config) fn secret_source(
        &self,
        mut sources: impl Iterator<Item = Written>,
        keys: &str,
        key: &dyn Fn(&str) -> String,
    ) -> Result<Option<SecretSource>, ConfigError> {
        let Some(Written {
            key: name,
            span,
            source,
        }) = sources.next()
        else {
            return Ok(None);
        };
        if let Some(other) = sources.next() {
            let problem = format!("more than one source: keep one of {keys}");
            return Err(self.error(Some(other.span), &key(other.key), problem));
        }
        if let Some(fault) = validate_source(&source) {
            return Err(self.error(Some(span), &key(name), fault.to_owned()));
        }
        Ok(Some(match source {
            SecretSource::File(path) => SecretSource::File(self.resolve(path.path())),
            other @ (SecretSource::Inline(_)
            | SecretSource::Env(_)
            | SecretSource::Credential(_)
            | SecretSource::Command(_)) => other,
        }))
    }
}

/// Keeps every secret that the environment holds from the commands that print one.
pub(super) fn withhold_secrets(
    clients: &mut BTreeMap<String, ClientConfig>,
    mut fleet: Option<&mut FleetConfig>,
) {
    let mut withheld = [
        ENV_SECRET,
        Setting::PROXY.variable,
        Setting::PROXY_LOGIN.variable,
        FLEET_URL,
        FLEET_PASSWORD_FILE,
    ]
    .map(str::to_owned)
    .to_vec();
    for client in clients.values() {
        if let CredentialsSource::Pair {
            secret: SecretSource::Env(name),
            ..
        } = &client.credentials
        {
            withheld.push(name.clone());
        }
    }
    if let Some(SecretSource::Env(name)) = fleet.as_ref().and_then(|fleet| fleet.password.as_ref())
    {
        withheld.push(name.clone());
    }
    if let Some(SecretSource::Command(command)) =
        fleet.as_mut().and_then(|fleet| fleet.password.as_mut())
    {
        command.withheld.clone_from(&withheld);
    }
    for client in clients.values_mut() {
        if let CredentialsSource::Pair {
            secret: SecretSource::Command(command),
            ..
        } = &mut client.credentials
        {
            command.withheld.clone_from(&withheld);
        }
    }
}

/// Returns the sources outside of the config that are written. `keys` are those of a file, a systemd credential, a
/// variable and a command.
pub(in crate::config) fn written_sources(
    keys: [&'static str; 4],
    file: Option<Spanned<PathBuf>>,
    credential: Option<Spanned<String>>,
    variable: Option<Spanned<String>>,
    command: Option<Spanned<Vec<String>>>,
) -> impl Iterator<Item = Written> {
    let [file_key, credential_key, variable_key, command_key] = keys;
    let sources = [
        written(file_key, file, |path| SecretSource::File(path.into())),
        written(credential_key, credential, SecretSource::Credential),
        written(variable_key, variable, SecretSource::Env),
        written(command_key, command, |argv| {
            let withheld = Vec::new();
            SecretSource::Command(SecretCommand { argv, withheld })
        }),
    ];
    sources.into_iter().flatten()
}

fn written<T>(
    key: &'static str,
    value: Option<Spanned<T>>,
    source: fn(T) -> SecretSource,
) -> Option<Written> {
    let value = value?;
    Some(Written {
        key,
        span: value.span(),
        source: source(value.into_inner()),
    })
}

fn validate_source(source: &SecretSource) -> Option<&'static str> {
    let (is_right, fault) = match source {
        SecretSource::Inline(secret) => (
            is_valid_secret(without_mark(secret.expose_secret())),
            "must not be empty, nor contain a line break or control character",
        ),
        SecretSource::File(path) => return validate_path(path.path()),
        SecretSource::Env(name) => (
            !name.is_empty() && !name.contains(['=', '\0']),
            "must be the name of an environment variable",
        ),
        SecretSource::Credential(name) => (
            is_file_name(name),
            "must be the name of a systemd credential, not a path",
        ),
        SecretSource::Command(SecretCommand { argv, .. }) => (
            argv.first().is_some_and(|program| !program.is_empty())
                && !argv.iter().any(|argument| argument.contains('\0')),
            "must be a program and its arguments, like [\"pass\", \"show\", \"domo\"]",
        ),
    };
    (!is_right).then_some(fault)
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}
