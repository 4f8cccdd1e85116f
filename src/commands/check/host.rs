//! The host's config: what its service cannot see, and who can check it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::geteuid;

use super::fleet::check_fleet;
use super::{Depth, Report, become_service_user, check_clients};
use crate::config::{
    self, ClientConfig, Config, CredentialsSource, Env, FleetConfig, GatewayConfig, SecretSource,
};
use crate::credentials::{
    CredentialsError, SERVICE_USER, hidden_by_unit, is_hosts, shell_quoted, user_name,
};
use crate::daemon::{DaemonError, Options};
use crate::load::{ConfigLoadError, load_config};
use crate::platform::users;
use domo_token_core::masking::masked;

/// Where to put what the unit hides.
const MOVE: &str = "move it to /etc/domo-token";

/// Returns a warning for each path of the config that the service's unit hides from it.
pub(super) fn hidden_paths(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(path) = &config.path {
        warnings.extend(hidden("config", path, MOVE));
    }
    if let Some(path) = &config.audit.file {
        let advice = "choose a file in /var/log/domo-token";
        warnings.extend(hidden("audit.file", path, advice));
    }
    for path in config.fleet.iter().flat_map(FleetConfig::files) {
        warnings.extend(hidden("fleet", &path, MOVE));
    }
    for path in config.gateway.iter().flat_map(GatewayConfig::files) {
        warnings.extend(hidden("gateway", &path, MOVE));
    }
    for (name, client) in &config.clients {
        let what = format!("client \"{name}\"");
        let secret = secret_file(client);
        for path in client.files() {
            let is_secret = secret.as_deref() == Some(&path);
            let or = ", or use client_secret_credential";
            let advice = format!("{MOVE}{}", if is_secret { or } else { "" });
            warnings.extend(hidden(&what, &path, &advice));
        }
        let command = client.secret_command();
        let argv = command.map(|(_, command)| command.argv.iter());
        for (index, argument) in argv.into_iter().flatten().enumerate() {
            let path = Path::new(argument);
            let advice = if index == 0 {
                "move it to /usr/local/bin"
            } else {
                MOVE
            };
            if path.is_absolute() {
                warnings.extend(hidden(&what, path, advice));
            }
        }
    }
    warnings
}

/// Returns what keeps the service from using the files that a config of its own names. If this process
/// is root, it becomes one of the service's user for good.
#[must_use]
pub async fn problems_of_service(config: &Path, env: Env<'static>) -> Vec<String> {
    let options = Options {
        config: Some(config.to_owned()),
        ..Options::default()
    };
    match become_service_user(&options, env) {
        Ok(None) => return Vec::new(),
        Ok(Some(_)) => {}
        Err(error) => return vec![error],
    }
    let config = match load_config(Some(config), env) {
        Ok(config) => Arc::new(config),
        Err(error) => return vec![error.to_string()],
    };
    // Also of a file that could be read now, or after a chmod.
    let hidden = hidden_paths(&config);
    if !hidden.is_empty() {
        return hidden;
    }
    let mut report = Report::default();
    let clients = check_clients(&config, env, None, &mut report).await;
    check_fleet(&config, env, &clients, None, &mut report).await;
    report.wrong
}

fn hidden(what: &str, path: &Path, advice: &str) -> Option<String> {
    let found = hidden_by_unit(path)?;
    let path = path.display().to_string();
    let path = masked(&path).replace(char::is_control, "\u{fffd}");
    Some(format!("{what}: {path}: {found}; {advice}"))
}

fn secret_file(client: &ClientConfig) -> Option<PathBuf> {
    match &client.credentials {
        CredentialsSource::Pair {
            secret: SecretSource::File(file),
            ..
        } => Some(file.path().to_owned()),
        CredentialsSource::Pair { .. } | CredentialsSource::ConnectionFile(_) => None,
    }
}

/// Returns the command that checks the host's config as its service, if this process is neither root
/// nor the service's user.
pub(super) fn sudo_command(options: &Options, env: Env, depth: Depth) -> Option<String> {
    let config = config::locate(options.config.clone(), env)?;
    let (us, service) = (geteuid(), users::ids(SERVICE_USER));
    let is_service = service.is_some_and(|(uid, _)| uid == us.as_raw());
    if us.is_root() || is_service || !is_hosts(&config) {
        return None;
    }
    let is_named = config::explicit_config_path(options.config.clone(), env).is_some();
    Some(command("sudo", Some(config).filter(|_| is_named), depth))
}

/// Returns the message of an error about a config of another user's that root checks, with the command
/// that checks it as that user.
pub(super) fn foreign_config(
    error: &DaemonError,
    options: &Options,
    env: Env,
    depth: Depth,
) -> Option<String> {
    let DaemonError::Config(ConfigLoadError::Access(CredentialsError::Unsafe { .. })) = error
    else {
        return None;
    };
    let config = config::locate(options.config.clone(), env)?;
    let (user, sudo) = foreign_owner(&config)?;
    let shown = config.display().to_string();
    let command = command(&sudo, Some(config), depth);
    Some(format!(
        "config {shown}: belongs to the broker of user {user}; check it as that user: {command}"
    ))
}

/// Returns the user whose broker a config belongs to, and how to run a command as that user, if this process is root
/// and the user is not.
pub(crate) fn foreign_owner(config: &Path) -> Option<(String, String)> {
    let owner = config.metadata().ok()?.uid();
    let directory = std::path::absolute(config)
        .ok()?
        .parent()?
        .metadata()
        .ok()?;
    if owner == 0 || directory.uid() != owner || !geteuid().is_root() {
        return None;
    }
    let user = user_name(owner);
    // sudo(8): a number is a user after a "#".
    let name = if user == owner.to_string() {
        format!("'#{user}'")
    } else {
        user.clone()
    };
    Some((user, format!("sudo -u {name}")))
}

/// Returns whether only root can write the files of a config, and this process is another user's.
pub(crate) fn needs_root(config: &Path) -> bool {
    is_hosts(config) && !geteuid().is_root()
}

fn command(sudo: &str, config: Option<PathBuf>, depth: Depth) -> String {
    let mut command = format!("{sudo} domo-tokend check");
    if depth == Depth::Online {
        command.push_str(" --online");
    }
    if let Some(config) = config {
        let config = std::path::absolute(&config).unwrap_or(config);
        let config = shell_quoted(&config.display().to_string());
        command.push_str(" --config ");
        command.push_str(&config);
    }
    command
}
