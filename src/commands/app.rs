//! `domo-tokend app`: creates and removes the secrets of the gateway's applications.
//!
//! The config is only read. What is written are the hash file of an application and this host's key.

mod error;
mod list;
mod secret;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::slice;

use zeroize::Zeroizing;

use super::check;
use super::new_file::{FileAccess, PendingFile};
use crate::config::named_path::{NamedPath, shown_path};
use crate::config::{self, Config, Env, HASH_FILE_END, HOST_KEY, Naming, validate_name};
use crate::credentials::{
    self, CredentialsError, HOST_KEY_BYTES, MAX_HASHES, SecretHash, shell_quoted,
};
use crate::flags::AppVerb;
use crate::load::load_config;

pub use error::AppError;
use secret::{deliver, fill_random, new_secret, unique_name};

/// Writes a text to standard output.
pub type Print<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// Carries out a command, and returns its messages for standard error. A secret goes to `print`, or to a file.
///
/// # Errors
///
/// [`AppError`]; then no application has changed.
pub fn run(
    verb: &AppVerb,
    flag: Option<&Path>,
    env: Env,
    print: Print,
) -> Result<String, AppError> {
    let apps = Apps::load(flag, env, verb)?;
    match verb {
        AppVerb::Add { name, secret_file } => apps.add(name, secret_file.as_deref(), print),
        AppVerb::List => apps.list(print),
        AppVerb::Rotate {
            name, finish: true, ..
        } => apps.finish(name),
        AppVerb::Rotate {
            name, secret_file, ..
        } => apps.rotate(name, secret_file.as_deref(), print),
        AppVerb::Remove { name } => apps.remove(name),
    }
}

/// The config, and where the files of its applications are.
struct Apps<'a> {
    config: Config,
    path: PathBuf,
    /// The config that a flag names.
    flag: Option<&'a Path>,
}

impl<'a> Apps<'a> {
    fn load(flag: Option<&'a Path>, env: Env, verb: &AppVerb) -> Result<Self, AppError> {
        let located = config::locate(flag.map(Path::to_owned), env);
        let path = located.ok_or(AppError::NoConfig)?;
        let config = load_config(flag, env)
            .map_err(|error| AppError::of_config(&error, &path, &words(verb, flag)))?;
        let apps = Self { config, path, flag };
        match verb {
            AppVerb::Add { name, .. } | AppVerb::Rotate { name, .. } | AppVerb::Remove { name } => {
                if let Some(fault) = validate_name(name) {
                    return Err(AppError::Name(fault));
                }
            }
            AppVerb::List => {}
        }
        Ok(apps)
    }

    fn add(
        &self,
        name: &str,
        secret_file: Option<&Path>,
        print: Print,
    ) -> Result<String, AppError> {
        let file = self.hash_file(name);
        let known = read_secrets(&file, name)?;
        if known.as_ref().is_some_and(|known| !known.is_empty()) {
            let rotate = self.command(&format!("rotate {name}"));
            return Err(AppError::Exists(file.shown(), rotate));
        }
        let mut notes = self.ensure_key()?;
        let secret = new_secret()?;
        let hashes = [SecretHash::of(secret.as_bytes())];
        notes.extend(self.store(name, &file, &hashes, || {
            deliver(&secret, secret_file, print)
        })?);
        notes.push(self.next_steps(name, secret_file));
        Ok(notes.concat())
    }

    fn rotate(
        &self,
        name: &str,
        secret_file: Option<&Path>,
        print: Print,
    ) -> Result<String, AppError> {
        let file = self.hash_file(name);
        let known = read_secrets(&file, name)?.unwrap_or_default();
        let Some(newest) = known.last() else {
            return Err(self.without_secret(name));
        };
        let mut notes = self.ensure_key()?;
        let secret = new_secret()?;
        let hashes = [newest.clone(), SecretHash::of(secret.as_bytes())];
        notes.extend(self.store(name, &file, &hashes, || {
            deliver(&secret, secret_file, print)
        })?);
        let finish = self.command(&format!("rotate --finish {name}"));
        if known.len() == MAX_HASHES {
            notes.push("the oldest of the three secrets is no longer valid\n".to_owned());
        }
        notes.push(format!(
            "the previous secret stays valid; once the application uses the new one, end the rotation: {finish}\n"
        ));
        Ok(notes.concat())
    }

    fn finish(&self, name: &str) -> Result<String, AppError> {
        let file = self.hash_file(name);
        match read_secrets(&file, name)?.unwrap_or_default().as_slice() {
            [] => Err(self.without_secret(name)),
            [_] => Ok(format!("application \"{name}\" has one secret already\n")),
            [.., newest] => {
                let mut notes = self.store(name, &file, slice::from_ref(newest), || Ok(None))?;
                notes.push("the older secret is no longer valid\n".to_owned());
                Ok(notes.concat())
            }
        }
    }

    fn remove(&self, name: &str) -> Result<String, AppError> {
        let file = self.hash_file(name);
        let Some(known) = read_secrets(&file, name)? else {
            return Err(self.without_secret(name));
        };
        let mut notes = Vec::new();
        if known.is_empty() {
            notes.push(format!("application \"{name}\" is removed already\n"));
        } else {
            notes = self.store(name, &file, &[], || Ok(None))?;
            notes.push(
                "its secrets, and the local tokens for them, are no longer valid\n".to_owned(),
            );
        }
        if self.is_configured(name) {
            notes.push(format!(
                "its table [gateway.apps.{name}] in {} can be removed as well\n",
                shown_path(&self.path)
            ));
        }
        Ok(notes.concat())
    }

    /// Replaces the hashes of an application after `deliver`, which returns the file that it has created.
    fn store(
        &self,
        name: &str,
        file: &NamedPath,
        hashes: &[SecretHash],
        deliver: impl FnOnce() -> Result<Option<PathBuf>, AppError>,
    ) -> Result<Vec<String>, AppError> {
        let failed = |source| self.cannot_write(file.path(), source);
        // Behind a symlink is another file, which is replaced.
        let existing = match file.path().canonicalize() {
            Ok(existing) => Some(existing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let path = existing.as_deref().unwrap_or(file.path());
        let access = match &existing {
            Some(path) => access_of(path).map_err(failed)?,
            None => self.access(0o640),
        };
        let lines: Vec<String> = hashes.iter().map(|hash| format!("{hash}\n")).collect();
        let text = lines.concat();
        let unique = unique_name()?;
        let pending =
            PendingFile::write(path, &[text.as_bytes()], access, &unique).map_err(failed)?;
        let secret_file = deliver()?;
        let stored = if existing.is_some() {
            pending.replace()
        } else {
            pending.create()
        };
        if let Err(error) = stored {
            // A secret that is not valid.
            if let Some(secret_file) = secret_file {
                let _ = fs::remove_file(secret_file);
            }
            return Err(failed(error));
        }
        let mut notes = Vec::new();
        notes.extend(secret_file.map(|path| written(&path, FileAccess::private())));
        notes.push(written(path, access));
        if self.is_configured(name) {
            notes.push("a running daemon applies this by itself\n".to_owned());
        }
        Ok(notes)
    }

    /// Creates this host's key if it is missing.
    fn ensure_key(&self) -> Result<Vec<String>, AppError> {
        let file = self.key_file();
        match credentials::read_host_key(&file) {
            Ok(_) => return Ok(Vec::new()),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let mut key = Zeroizing::new([0; HOST_KEY_BYTES]);
        fill_random(key.as_mut_slice())?;
        let access = self.access(0o600);
        let unique = unique_name()?;
        let created = PendingFile::write(file.path(), &[key.as_slice()], access, &unique)
            .and_then(PendingFile::create);
        match created {
            Ok(()) => {
                let mut notes = vec![written(file.path(), access)];
                if is_root() && access.group.is_none() {
                    let file = shell_quoted(&file.shown());
                    notes.push(format!(
                        "only root can read this key; for a daemon of another user, run: chgrp GROUP {file} && \
                         chmod 640 {file}\n"
                    ));
                }
                Ok(notes)
            }
            // Another run has created it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Vec::new()),
            Err(error) => Err(self.cannot_write(file.path(), error)),
        }
    }

    fn next_steps(&self, name: &str, secret_file: Option<&Path>) -> String {
        let table = table::missing(&self.config, name);
        let table = table.map_or(String::new(), |table| {
            let then = if self.config.gateway.is_some() {
                "a running daemon reloads it by itself"
            } else {
                "then restart the daemon, because a new listener needs it"
            };
            let path = shown_path(&self.path);
            format!("add this to {path}; {then}:\n\n{table}\n")
        });
        let secret = match secret_file {
            Some(file) => format!("the secret in {}", shown_path(file)),
            None => "this secret".to_owned(),
        };
        let host = table::host(&self.config);
        format!("{table}the application uses the id \"{name}\", {secret}, and the host {host}\n")
    }

    fn is_configured(&self, name: &str) -> bool {
        let gateway = self.config.gateway.as_ref();
        gateway.is_some_and(|gateway| gateway.apps.contains_key(name))
    }

    fn hash_file(&self, name: &str) -> NamedPath {
        let gateway = self.config.gateway.as_ref();
        let app = gateway.and_then(|gateway| gateway.apps.get(name));
        let usual = || self.beside(&format!("{name}{HASH_FILE_END}"));
        app.map_or_else(usual, |app| app.secret_hash_file.clone())
    }

    fn key_file(&self) -> NamedPath {
        let gateway = self.config.gateway.as_ref();
        let usual = || self.beside(HOST_KEY);
        gateway.map_or_else(usual, |gateway| gateway.key_file.clone())
    }

    fn beside(&self, name: &str) -> NamedPath {
        NamedPath::new(Path::new(name), self.directory(), Naming::Keys)
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Returns the access to a new file: with a group, that can read it.
    fn access(&self, mode: u32) -> FileAccess {
        let group = check::service_group(&self.path).or_else(|| daemons_group(&self.path));
        FileAccess {
            mode: if group.is_some() { 0o640 } else { mode },
            user: None,
            group,
        }
    }

    fn without_secret(&self, name: &str) -> AppError {
        let add = self.command(&format!("add {name}"));
        AppError::NoSecret(name.to_owned(), add)
    }

    fn cannot_write(&self, path: &Path, source: io::Error) -> AppError {
        AppError::write(path, source, &self.path)
    }

    /// Returns a command as a user types it for this config.
    fn command(&self, words: &str) -> String {
        with_config(&format!("domo-tokend app {words}"), self.flag)
    }
}

fn with_config(command: &str, flag: Option<&Path>) -> String {
    let config = flag.map(|config| shell_quoted(&config.display().to_string()));
    let config = config.map_or(String::new(), |config| format!(" --config {config}"));
    format!("{command}{config}")
}

/// Returns the command line of a command.
fn words(verb: &AppVerb, flag: Option<&Path>) -> String {
    let words = match verb {
        AppVerb::Add { name, .. } => format!("add {name}"),
        AppVerb::List => "list".to_owned(),
        AppVerb::Rotate { name, .. } => format!("rotate {name}"),
        AppVerb::Remove { name } => format!("remove {name}"),
    };
    with_config(&format!("domo-tokend app {words}"), flag)
}

/// Returns the group by which the daemon of a config reads files of root, if this process is root: that of the config's
/// directory, or that of the config, unless all users can enter the one or read the other.
#[cfg(unix)]
fn daemons_group(config: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    if !is_root() {
        return None;
    }
    let directory = config.parent().filter(|path| !path.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let group = |path: &Path, bits: u32| {
        let stat = path.metadata().ok()?;
        let is_groups = stat.mode() & (bits << 3) == bits << 3 && stat.mode() & bits == 0;
        Some(stat.gid()).filter(|gid| is_groups && *gid != 0)
    };
    group(directory, 0o1).or_else(|| group(config, 0o4))
}

#[cfg(windows)]
fn daemons_group(_: &Path) -> Option<u32> {
    None
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(windows)]
fn is_root() -> bool {
    false
}

#[cfg(unix)]
fn access_of(path: &Path) -> io::Result<FileAccess> {
    Ok(FileAccess::of(&path.metadata()?))
}

#[cfg(windows)]
fn access_of(path: &Path) -> io::Result<FileAccess> {
    path.metadata().map(|_| FileAccess::private())
}

/// Returns the hashes of an application's secrets, the older one first; `None` without a file.
fn read_secrets(file: &NamedPath, name: &str) -> Result<Option<Vec<SecretHash>>, AppError> {
    match credentials::read_hash_file(file, name) {
        Ok(hashes) => Ok(Some(hashes)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_missing(error: &CredentialsError) -> bool {
    matches!(error, CredentialsError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// Returns the message about a file that was written.
fn written(path: &Path, access: FileAccess) -> String {
    let group = access.group.and_then(group_name);
    let group = group.map_or(String::new(), |group| format!(", group {group}"));
    let mode = access.mode;
    let mode = if cfg!(windows) {
        String::new()
    } else {
        format!(" (mode {mode:04o}{group})")
    };
    format!("wrote {}{mode}\n", shown_path(path))
}

/// Returns the name of a group, or its number, unless it is this process's.
#[cfg(unix)]
fn group_name(group: u32) -> Option<String> {
    use crate::platform::users;
    if group == rustix::process::getegid().as_raw() {
        return None;
    }
    let service = users::ids(credentials::SERVICE_USER);
    let is_services = service.is_some_and(|(_, number)| number == group);
    Some(if is_services {
        credentials::SERVICE_USER.to_owned()
    } else {
        group.to_string()
    })
}

#[cfg(windows)]
fn group_name(_: u32) -> Option<String> {
    None
}
