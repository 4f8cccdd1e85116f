//! Reads client id and secret: inline, file, environment, systemd credential, command, pydomo's connection file.

#[cfg(unix)]
mod audit_file_conflict;
mod checked_file;
mod command;
mod command_program;
mod fleet;
mod gateway;
mod ini;
mod paste_mistake;
#[cfg_attr(windows, path = "credentials/permission_advice_windows.rs")]
mod permission_advice;
mod proxy_login;
mod pydomo_file;
mod secret_text;

pub(crate) use command_program::paste_mistake as command_mistake;
pub use fleet::{FleetFiles, MIN_FLEET_KEY, fleet_files};
pub use gateway::{
    GatewayCertificate, HOST_KEY_BYTES, MAX_HASHES, SecretHash, read_gateway_certificate,
    read_hash_file, read_host_key,
};
pub use paste_mistake::PasteMistake;
pub use proxy_login::{ProxyLogin, proxy_login};

pub use crate::config::InvisibleChar;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::config::{
    ClientConfig, Config, CredentialsSource, Env, IdSource, Naming, SecretSource, Setting,
    validate_id, without_mark,
};

use crate::config::named_path::NamedPath;
use crate::platform::descriptors;
use domo_token_core::masking::ShownName;

use checked_file::{Readers, Subject};
#[cfg(unix)]
pub(crate) use checked_file::{check_audit, check_audit_directories};
#[cfg(unix)]
pub(crate) use permission_advice::{SERVICE_USER, hidden_by_unit, is_hosts, user_name};
pub(crate) use permission_advice::{on_unreadable, shell_quoted};
use secret_text::{check_secret, utf8};

/// The longest secret file that is read, in bytes. Domo's secrets have 64.
pub const MAX_SECRET: usize = 4096;

/// The longest config file that is read, in bytes. One of a thousand clients has 300 KiB.
pub const MAX_CONFIG: usize = 16 * 1024 * 1024;

/// The longest file of certificates that is read, in bytes. All that browsers trust have 250 KiB.
pub const MAX_CERTIFICATES: usize = 4 * 1024 * 1024;

/// The longest private key that is read, in bytes. One of RSA with 16384 bits has 13 KiB.
const MAX_PRIVATE_KEY: usize = 64 * 1024;

/// A Domo API client's id and secret.
#[derive(Clone)]
pub struct Credentials {
    pub client_id: String,
    pub client_secret: SecretString,
}

impl Credentials {
    /// Returns what is unusual about the secret, if anything: most likely why Domo rejects it.
    #[must_use]
    pub fn paste_mistake(&self) -> Option<PasteMistake> {
        let secret = self.client_secret.expose_secret();
        PasteMistake::of(secret).or_else(|| PasteMistake::possible(secret))
    }

    /// Returns the start of the client id: enough to distinguish it, too little to use it.
    #[must_use]
    pub fn masked_id(&self) -> String {
        let shown: String = self.client_id.chars().take(8).collect();
        if shown.len() < self.client_id.len() {
            return format!("{shown}…");
        }
        shown
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.client_id == other.client_id
            && self.client_secret.expose_secret() == other.client_secret.expose_secret()
    }
}

impl Eq for Credentials {}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("client_id", &self.masked_id())
            .finish_non_exhaustive()
    }
}

/// Why credentials cannot be used, and what to do. Contains nothing that was read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file can't be opened or read.
    #[error("{what} {path}: {source}{advice}")]
    Read {
        /// Which credential.
        what: &'static str,
        /// The file, as messages show it.
        path: String,
        source: io::Error,
        /// What to do, as the end of the message.
        advice: String,
    },
    /// Other users may read or change the file.
    #[error("{what} {path}: {problem}")]
    Unsafe {
        /// Which credential.
        what: &'static str,
        /// The file or directory, as messages show it.
        path: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// What was read cannot be a credential.
    #[error("{what} from {from}: {problem}")]
    Unusable {
        /// Which credential.
        what: &'static str,
        /// Its source, as messages show it.
        from: String,
        problem: String,
    },
    /// The command that prints the secret failed or timed out. Another run may succeed.
    #[error("{what} from the command {program}: {problem}")]
    Command {
        /// Which credential.
        what: &'static str,
        /// The program, as messages show it.
        program: String,
        problem: String,
    },
}

impl CredentialsError {
    /// Returns whether a secret command failed or timed out, which alone may be temporary.
    #[must_use]
    pub fn is_command_failure(&self) -> bool {
        matches!(self, Self::Command { .. })
    }

    /// Returns whether no descriptor was left to read a file.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        matches!(self, Self::Read { source, .. } if descriptors::is_exhausted(source))
    }
}

/// Reads a client's credentials. Blocks on files and on the command.
///
/// # Errors
///
/// [`CredentialsError`] if one of both cannot be used.
pub fn load(client: &ClientConfig, env: Env) -> Result<Credentials, CredentialsError> {
    let readers = readers(client);
    let (id, secret) = match &client.credentials {
        CredentialsSource::Pair { id, secret } => (id, secret),
        CredentialsSource::ConnectionFile(path) => {
            return pydomo_file::read(path, readers, &client.endpoint);
        }
    };
    let client_id = match id {
        IdSource::Inline(id) => id.clone(),
        IdSource::File(path) => read_id(path)?,
    };
    Ok(Credentials {
        client_id,
        client_secret: read_secret(secret, SECRET, readers, env)?,
    })
}

/// Reads a secret from its source.
fn read_secret(
    source: &SecretSource,
    what: &'static str,
    readers: Readers,
    env: Env,
) -> Result<SecretString, CredentialsError> {
    match source {
        SecretSource::Inline(secret) => Ok(without_mark(secret.expose_secret()).into()),
        SecretSource::File(path) => {
            let bytes = checked_file::read(path, what, readers, MAX_SECRET)?;
            check_secret(&bytes, what, &path.shown())
        }
        SecretSource::Env(name) => {
            command::withhold(name);
            from_env(name, what, env)
        }
        SecretSource::Credential(name) => from_systemd(name, what, env),
        SecretSource::Command(command) => command::run(command, what, env),
    }
}

/// Opens and reads a config file.
///
/// # Errors
///
/// The system's error, or that it is not a regular file of at most [`MAX_CONFIG`] bytes.
pub fn read_config(path: &Path) -> io::Result<(File, Zeroizing<Vec<u8>>)> {
    checked_file::read_unchecked(path, MAX_CONFIG)
}

/// Checks by the open descriptor that no other user may write a config file, or read one with a secret in it: a user that
/// writes it can have the secret sent elsewhere.
///
/// # Errors
///
/// [`CredentialsError::Unsafe`], with the command that fixes it.
pub fn check_config(file: &File, path: &Path, config: &Config) -> Result<(), CredentialsError> {
    checked_file::check_access(file, &Subject::new("config", path), Readers::All)?;
    let clients = config.clients.values();
    for client in clients.filter(|client| client.holds_a_secret()) {
        let subject = Subject::new("config that contains a secret,", path);
        checked_file::check_access(file, &subject, readers(client))?;
    }
    #[cfg(unix)]
    audit_file_conflict::check_is_apart(config)?;
    Ok(())
}

/// Reads a file of certificates to trust, which no other user may write.
///
/// # Errors
///
/// [`CredentialsError`], with the command that fixes it.
pub fn read_certificates(path: &NamedPath) -> Result<Vec<u8>, CredentialsError> {
    let what = path.naming().name(Setting::CA_FILE);
    let content = checked_file::read(path, what, Readers::All, MAX_CERTIFICATES)?;
    Ok(content.to_vec())
}

fn readers(client: &ClientConfig) -> Readers {
    Readers::of_secret(client.allow_world_readable_secret)
}

const SECRET: &str = "client secret";

fn unusable(what: &'static str, from: &str, problem: &str) -> CredentialsError {
    CredentialsError::Unusable {
        what,
        from: from.to_owned(),
        problem: problem.to_owned(),
    }
}

fn from_env(name: &str, what: &'static str, env: Env) -> Result<SecretString, CredentialsError> {
    let from = format!("${}", ShownName(name));
    let unset = || {
        let problem = "the variable is not set in this environment; export it, or set it in a file of \
                       EnvironmentFile= in the unit";
        unusable(what, &from, problem)
    };
    let value = env(name).ok_or_else(unset)?;
    let text = value
        .into_string()
        .map_err(|_| unusable(what, &from, "not UTF-8"))?;
    let text = Zeroizing::new(text);
    check_secret(text.as_bytes(), what, &from)
}

/// Reads a systemd credential. Its owner and mode are not checked, because systemd creates it for this service in a
/// directory that no other one can enter.
fn from_systemd(
    name: &str,
    what: &'static str,
    env: Env,
) -> Result<SecretString, CredentialsError> {
    let directory = env("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        let from = format!("systemd credential \"{}\"", ShownName(name));
        let problem = "$CREDENTIALS_DIRECTORY is not set: add LoadCredential= to the unit";
        unusable(what, &from, problem)
    })?;
    let directory = PathBuf::from(directory);
    let (path, name) = (directory.join(name), ShownName(name));
    let shown = directory.join(name.to_string()).display().to_string();
    if matches!(path.try_exists(), Ok(false)) {
        let problem = format!(
            "no such credential: add LoadCredential={name}: and its source to the \
                               unit"
        );
        return Err(unusable(what, &shown, &problem));
    }
    let read = checked_file::read_unchecked(&path, MAX_SECRET);
    let (_, bytes) = read.map_err(|source| CredentialsError::Read {
        what,
        advice: on_unreadable(&path, &shown, &source, Naming::Keys),
        path: shown.clone(),
        source,
    })?;
    check_secret(&bytes, what, &shown)
}

/// Reads a client id from a file. All users may read it, but one that could write it would decide which tokens are
/// requested.
fn read_id(path: &NamedPath) -> Result<String, CredentialsError> {
    const ID: &str = "client id";
    let bytes = checked_file::read(path, ID, Readers::All, MAX_SECRET)?;
    let wrong = |problem| unusable(ID, &path.shown(), problem);
    let id = utf8(&bytes).map_err(wrong)?.trim();
    match validate_id(id) {
        Some(fault) => Err(wrong(fault)),
        None => Ok(id.to_owned()),
    }
}

#[cfg(test)]
#[cfg(unix)]
mod leak_tests;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn missing_systemd_credential_is_reported_as_missing_in_the_unit() {
        let folder = tempfile::tempdir().unwrap();
        let variable = |_: &str| Some(folder.path().into());
        let error = from_systemd("domo", SECRET, &variable)
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("add LoadCredential=domo: and its source to the unit"),
            "{error}"
        );
    }
}
