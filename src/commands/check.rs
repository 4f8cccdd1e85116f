//! `domo-tokend check`: validates config and credentials without running on them.

mod fleet;
mod gateway;
#[cfg(unix)]
mod host;
pub(crate) mod online;
mod warnings;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::audit;
#[cfg(unix)]
use crate::config;
use crate::config::named_path::shown_path;
use crate::config::{ClientConfig, Config, CredentialsSource, Env, SecretSource};
use crate::credentials::CredentialsError;
#[cfg(unix)]
use crate::credentials::{SERVICE_USER, is_hosts};
use crate::daemon::{DaemonError, Options, check_socket};
use crate::load::{
    ConfigLoadError, LoadError, LoadedClient, load_clients, load_config, parse_config,
};
#[cfg(unix)]
use crate::platform::users;
use crate::server::Callers;
use crate::source::SourceError;
use domo_token_core::masking::{ShownName, looks_like_secret};

/// Returns the group id of the service's user, if this process is root and the config is the service's.
#[must_use]
#[cfg(unix)]
pub fn service_group(config: &Path) -> Option<u32> {
    let is_services = is_root() && is_hosts(config);
    users::ids(SERVICE_USER)
        .filter(|_| is_services)
        .map(|(_, group)| group)
}

/// Returns nothing: on Windows the service has no dedicated user.
#[must_use]
#[cfg(windows)]
pub fn service_group(_: &Path) -> Option<u32> {
    None
}

/// Becomes the service's user if we are root and the config is one of the service's: root can read
/// what the service can't. Returns the user's name if so.
///
/// # Errors
///
/// The message, if the system does not permit it.
#[cfg(unix)]
pub fn become_service_user(options: &Options, env: Env) -> Result<Option<&'static str>, String> {
    let config = config::locate(options.config.clone(), env);
    if config.is_none_or(|config| service_group(&config).is_none()) {
        return Ok(None);
    }
    match users::become_user(SERVICE_USER) {
        Ok(()) => Ok(Some(SERVICE_USER)),
        Err(error) => Err(format!(
            "cannot check as the service's user {SERVICE_USER}: {error}"
        )),
    }
}

/// Does nothing: on Windows the check runs as the user that starts it.
///
/// # Errors
///
/// None.
#[cfg(windows)]
pub fn become_service_user(_: &Options, _: Env) -> Result<Option<&'static str>, String> {
    Ok(None)
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a check includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The config's text alone.
    Syntax,
    /// And the files that it names.
    Files,
    /// And one request to Domo for each scope set.
    Online,
}

#[derive(Debug, Default)]
pub struct Report {
    /// What is right, or wasn't checked.
    pub good: Vec<String>,
    /// What works and may not be meant.
    pub warnings: Vec<String>,
    pub wrong: Vec<String>,
    /// Whether the operator has to fix any of it: more than Domo out of reach or a secret command
    /// that failed.
    denied: bool,
}

impl Report {
    /// 0 if nothing is wrong, 75 if Domo couldn't be reached or a secret command failed, else 78.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.wrong.is_empty(), self.denied) {
            (true, _) => 0,
            (false, false) => 75,
            (false, true) => 78,
        }
    }

    /// Returns how many errors and warnings there are, if there are any.
    #[must_use]
    pub fn verdict(&self) -> Option<String> {
        let counted = [
            (self.wrong.len(), "error"),
            (self.warnings.len(), "warning"),
        ];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = counted
            .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn fail(&mut self, message: String) {
        self.wrong.push(message);
        self.denied = true;
    }
}

/// Checks everything and does not stop at an error. With `as_service` this process runs as the service's user
/// ([`become_service_user`]).
pub async fn run(options: &Options, env: Env<'static>, depth: Depth, as_service: bool) -> Report {
    let mut report = Report::default();
    let sudo = sudo_command(options, env, depth);
    let sudo = sudo.as_deref();
    let flag = options.config.as_deref();
    let config = match depth {
        Depth::Syntax => parse_config(flag, env),
        Depth::Files | Depth::Online => load_config(flag, env),
    };
    let config = match config {
        Ok(config) => Arc::new(config),
        Err(error) => {
            let error = DaemonError::from(error);
            let foreign = foreign_config(&error, options, env, depth);
            report.fail(foreign.unwrap_or_else(|| with_sudo(&error, sudo)));
            return report;
        }
    };
    let unknown = config.unresolved_principals();
    let notices = config
        .notices
        .iter()
        .filter(|notice| !unknown.contains(notice));
    report.warnings.extend(notices.cloned());
    report.warnings.extend(gateway::covered_rules(&config));
    if as_service && depth != Depth::Syntax {
        report.warnings.extend(hidden_paths(&config));
    }
    if depth != Depth::Syntax {
        check_system(&config, unknown, sudo, &mut report);
        if let Err(error) = check_socket(options, &config, env) {
            report.fail(error.to_string());
        }
    }
    if report.wrong.is_empty() {
        let source = config.path.as_ref();
        let source = source.map_or("the environment".to_owned(), |p| shown_path(p));
        report.good.push(format!("config {source}: ok"));
    }
    if depth != Depth::Syntax {
        let loaded = check_clients(&config, env, sudo, &mut report).await;
        if depth == Depth::Online {
            let store = fleet::check_fleet(&config, env, &loaded, sudo, &mut report).await;
            if let Some(store) = store {
                fleet::probe(&store, &mut report).await;
            }
            online::request_tokens(loaded, &mut report).await;
        } else {
            let good = loaded.iter().map(|client| client.good("ok"));
            report.good.extend(good);
            fleet::check_fleet(&config, env, &loaded, sudo, &mut report).await;
        }
        gateway::check_gateway(&config, sudo, &mut report);
    }
    report
}

#[cfg(unix)]
pub use host::problems_of_service;
#[cfg(unix)]
use host::{foreign_config, hidden_paths, sudo_command};
#[cfg(unix)]
pub(crate) use host::{foreign_owner, needs_root};

/// Returns nothing: on Windows the service has no dedicated user.
#[must_use]
#[cfg(windows)]
#[expect(clippy::unused_async, reason = "the same signature everywhere")]
pub async fn problems_of_service(_: &Path, _: Env<'static>) -> Vec<String> {
    Vec::new()
}

#[cfg(windows)]
pub(crate) fn foreign_owner(_: &Path) -> Option<(String, String)> {
    None
}

#[cfg(windows)]
pub(crate) fn needs_root(_: &Path) -> bool {
    false
}

#[cfg(windows)]
fn hidden_paths(_: &Config) -> Vec<String> {
    Vec::new()
}

#[cfg(windows)]
fn foreign_config(_: &DaemonError, _: &Options, _: Env, _: Depth) -> Option<String> {
    None
}

#[cfg(windows)]
fn sudo_command(_: &Options, _: Env, _: Depth) -> Option<String> {
    None
}

/// Returns the message of an error about the config's file, with the command that can check it.
fn with_sudo(error: &DaemonError, sudo: Option<&str>) -> String {
    match (error, sudo) {
        (DaemonError::Config(ConfigLoadError::Read { path, source, .. }), Some(sudo))
            if is_denied(source) =>
        {
            let path = shown_path(path);
            format!("config {path}: {source}; run with sudo: {sudo}")
        }
        (DaemonError::Audit { path, source }, Some(sudo)) if is_denied(source) => {
            let path = path.display();
            format!("audit.file {path}: {source}; run with sudo: {sudo}")
        }
        (DaemonError::Config(ConfigLoadError::Access(error)), sudo) => file_error(error, sudo),
        _ => error.to_string(),
    }
}

/// Returns the message of an error about a file that the config names. Its required owner depends on the reader.
fn file_error(error: &CredentialsError, sudo: Option<&str>) -> String {
    match (error, sudo) {
        (
            CredentialsError::Read {
                what, path, source, ..
            },
            Some(sudo),
        ) if is_denied(source) => {
            format!("{what} {path}: {source}; run with sudo: {sudo}")
        }
        (CredentialsError::Unsafe { what, path, .. }, Some(sudo)) => {
            format!("{what} {path}: this user cannot check it; run with sudo: {sudo}")
        }
        _ => error.to_string(),
    }
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Checks what depends on this system: names of users and groups, and the audit file.
fn check_system(config: &Config, unknown: Vec<String>, sudo: Option<&str>, report: &mut Report) {
    for message in unknown {
        report.fail(message);
    }
    if let Err(message) = Callers::of(config) {
        report.fail(DaemonError::Group(message).to_string());
    }
    if let Some(path) = &config.audit.file
        && let Err(source) = audit::check(path)
    {
        let path = path.clone();
        report.fail(with_sudo(&DaemonError::Audit { path, source }, sudo));
    }
}

/// A client whose files are as they must be.
struct Checked<'a> {
    name: &'a str,
    client: &'a ClientConfig,
    loaded: LoadedClient,
}

impl Checked<'_> {
    fn good(&self, what: &str) -> String {
        format!(
            "client \"{}\" ({}): {what}",
            self.name, self.loaded.shown_id
        )
    }
}

/// Returns the clients whose files are as they must be.
async fn check_clients<'a>(
    config: &'a Arc<Config>,
    env: Env<'static>,
    sudo: Option<&str>,
    report: &mut Report,
) -> Vec<Checked<'a>> {
    let mut checked = Vec::new();
    let mut results = load_clients(config, env).await;
    for (name, client) in &config.clients {
        let secret = match &client.credentials {
            CredentialsSource::Pair { secret, .. } => Some(secret),
            CredentialsSource::ConnectionFile(_) => None,
        };
        if let Some(credential) = credential_out_of_reach(secret, env) {
            let subject = format!("client \"{name}\"");
            skip_credential(&subject, "client_secret_credential", credential, report);
            continue;
        }
        match results.remove(name).unwrap_or(Err(LoadError::Bug)) {
            Ok(loaded) => {
                report
                    .warnings
                    .extend(warnings::of_client(name, client, &loaded));
                checked.push(Checked {
                    name,
                    client,
                    loaded,
                });
            }
            Err(error) => {
                let message = match &error {
                    LoadError::Credentials(error)
                    | LoadError::Source(SourceError::CaFile(error)) => file_error(error, sudo),
                    LoadError::Source(_) | LoadError::NoThread(_) | LoadError::Bug => {
                        error.to_string()
                    }
                };
                report.wrong.push(format!("client \"{name}\": {message}"));
                report.denied |= !error.is_temporary();
            }
        }
    }
    checked
}

/// Returns the systemd credential of a secret if this process cannot read it.
fn credential_out_of_reach<'a>(secret: Option<&'a SecretSource>, env: Env) -> Option<&'a str> {
    match secret {
        Some(SecretSource::Credential(name)) if env("CREDENTIALS_DIRECTORY").is_none() => {
            Some(name)
        }
        Some(_) | None => None,
    }
}

/// Reports that a credential is not checked, or that the key has something else.
fn skip_credential(subject: &str, key: &str, credential: &str, report: &mut Report) {
    let (is_secret, credential) = (looks_like_secret(credential), ShownName(credential));
    if is_secret {
        let message = "must be the name of a systemd credential";
        report.fail(format!("{subject}: {key} {message}: \"{credential}\""));
        return;
    }
    let why = "exists only while its unit runs";
    let line = format!("{subject}: not checked: credential \"{credential}\" {why}");
    report.good.push(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_counts_errors_and_warnings() {
        let messages = |count| vec![String::new(); count];
        for (wrong, warnings, verdict) in [
            (0, 0, None),
            (1, 0, Some("1 error")),
            (2, 1, Some("2 errors, 1 warning")),
            (0, 2, Some("2 warnings")),
        ] {
            let report = Report {
                wrong: messages(wrong),
                warnings: messages(warnings),
                ..Report::default()
            };
            assert_eq!(report.verdict().as_deref(), verdict);
        }
    }
}
