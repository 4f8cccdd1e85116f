//! Finds client id and secret: inline, file, environment, systemd credential.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::config::{ClientConfig, Env, IdSource, SecretSource, usable_id};

/// The longest secret file that is read, in bytes. Domo's secrets have 64.
pub const MAX_SECRET: usize = 4096;

/// A Domo API client's id and secret.
#[derive(Clone)]
pub struct Credentials {
    /// The client id.
    pub client_id: String,
    /// The client secret.
    pub client_secret: SecretString,
}

impl Credentials {
    /// The start of the client id: enough to tell it from another, too little to use.
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

/// Why credentials can't be used. Says what to do, never what was read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file can't be opened or read.
    #[error("{what} {path}: {source}", path = .path.display())]
    Read {
        /// Which credential.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is open to others.
    #[error("{what} {path}: {problem}", path = .path.display())]
    Unsafe {
        /// Which credential.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, and what to run.
        problem: String,
    },
    /// There is something, but it can't be a credential.
    #[error("{what} from {from}: {problem}")]
    Unusable {
        /// Which credential.
        what: &'static str,
        /// Where it was looked for.
        from: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Reads a client's credentials.
///
/// # Errors
///
/// [`CredentialsError`] if either can't be read, is open to others, or can't be one.
pub fn load(client: &ClientConfig, env: Env) -> Result<Credentials, CredentialsError> {
    let shared = client.allow_world_readable_secret;
    let client_id = match &client.client_id {
        IdSource::Inline(id) => id.clone(),
        IdSource::File(path) => read_id(path)?,
    };
    let client_secret = match &client.client_secret {
        SecretSource::Inline(secret) => secret.clone(),
        SecretSource::File(path) => from_file(path, shared)?,
        SecretSource::Env(name) => from_env(name, env)?,
        SecretSource::Credential(name) => from_systemd(name, env)?,
    };
    Ok(Credentials {
        client_id,
        client_secret,
    })
}

const SECRET: &str = "client secret";

fn from_env(name: &str, env: Env) -> Result<SecretString, CredentialsError> {
    let unusable = |problem| CredentialsError::Unusable {
        what: SECRET,
        from: format!("${name}"),
        problem,
    };
    let value = env(name).ok_or_else(|| unusable("the variable is not set"))?;
    let text = value.into_string().map_err(|_| unusable("not UTF-8"))?;
    let text = Zeroizing::new(text);
    check_secret(text.as_bytes(), &format!("${name}"))
}

/// systemd made the file for this service alone, under a directory only it can enter, so its
/// owner and mode are not judged.
fn from_systemd(name: &str, env: Env) -> Result<SecretString, CredentialsError> {
    let directory = env("CREDENTIALS_DIRECTORY").ok_or_else(|| CredentialsError::Unusable {
        what: SECRET,
        from: format!("systemd credential \"{name}\""),
        problem: "$CREDENTIALS_DIRECTORY is not set: add LoadCredential= to the unit",
    })?;
    let path = PathBuf::from(directory).join(name);
    let bytes = open(&path).and_then(|mut file| read_all(&mut file));
    let bytes = bytes.map_err(|source| read_error(SECRET, &path, source))?;
    check_secret(&bytes, &path.display().to_string())
}

fn from_file(path: &Path, shared: bool) -> Result<SecretString, CredentialsError> {
    let mut file = open(path).map_err(|source| read_error(SECRET, path, source))?;
    check_access(&file, path, shared)?;
    let bytes = read_all(&mut file).map_err(|source| read_error(SECRET, path, source))?;
    check_secret(&bytes, &path.display().to_string())
}

fn read_id(path: &Path) -> Result<String, CredentialsError> {
    const ID: &str = "client id";
    let bytes = open(path).and_then(|mut file| read_all(&mut file));
    let bytes = bytes.map_err(|source| read_error(ID, path, source))?;
    let text = std::str::from_utf8(&bytes).map(str::trim).ok();
    let id = text.filter(|id| usable_id(id));
    id.map(str::to_owned)
        .ok_or_else(|| CredentialsError::Unusable {
            what: ID,
            from: path.display().to_string(),
            problem: "empty, or more than one word",
        })
}

fn check_secret(bytes: &[u8], from: &str) -> Result<SecretString, CredentialsError> {
    let unusable = |problem| CredentialsError::Unusable {
        what: SECRET,
        from: from.to_owned(),
        problem,
    };
    let text = std::str::from_utf8(bytes).map_err(|_| unusable("not UTF-8"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(unusable("empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(unusable("has a line break or control character in it"));
    }
    Ok(text.into())
}

/// Opens without blocking, so that a FIFO in the file's place can't hold the daemon up.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::other("not a regular file"))
}

/// Reads into one buffer that never grows, so that no copy is left behind in freed memory.
fn read_all(file: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; MAX_SECRET + 1]);
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if filled > MAX_SECRET {
        return Err(io::Error::other(format!("longer than {MAX_SECRET} bytes")));
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn read_error(what: &'static str, path: &Path, source: io::Error) -> CredentialsError {
    CredentialsError::Read {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Judges the open descriptor, so that what was judged is what is read.
#[cfg(unix)]
fn check_access(file: &File, path: &Path, shared: bool) -> Result<(), CredentialsError> {
    use std::os::unix::fs::MetadataExt;
    let refuse = |path: &Path, problem: String| CredentialsError::Unsafe {
        what: SECRET,
        path: path.to_owned(),
        problem,
    };
    let stat = file
        .metadata()
        .map_err(|source| read_error(SECRET, path, source))?;
    let us = rustix::process::geteuid().as_raw();
    let mode = stat.mode() & 0o7777;
    let run = format!("run: chmod 600 {}", path.display());
    if stat.uid() != 0 && stat.uid() != us {
        let owner = stat.uid();
        let problem = format!("belongs to user {owner}, must be root's or user {us}'s");
        return Err(refuse(
            path,
            format!("{problem}; run: chown {us} {}", path.display()),
        ));
    }
    if mode & 0o022 != 0 {
        return Err(refuse(
            path,
            format!("mode {mode:04o} lets others write it; {run}"),
        ));
    }
    let group_may_read = stat.uid() == 0 || shared;
    if (mode & 0o004 != 0 && !shared) || (mode & 0o040 != 0 && !group_may_read) {
        let key = "or set allow_world_readable_secret = true where the mode can't be changed";
        return Err(refuse(
            path,
            format!("mode {mode:04o} lets others read it; {run}, {key}"),
        ));
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    let stat = directory
        .metadata()
        .map_err(|source| read_error(SECRET, directory, source))?;
    let mode = stat.mode() & 0o7777;
    if mode & 0o022 != 0 && mode & 0o1000 == 0 && !is_read_only(directory) {
        let directory_text = directory.display();
        let problem = format!("mode {mode:04o} lets others replace files in it");
        return Err(refuse(
            directory,
            format!("{problem}; run: chmod go-w {directory_text}"),
        ));
    }
    Ok(())
}

#[cfg(unix)]
fn is_read_only(directory: &Path) -> bool {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    statvfs(directory).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Windows has no mode bits; the file's access list is the administrator's.
#[cfg(not(unix))]
fn check_access(_: &File, _: &Path, _: bool) -> Result<(), CredentialsError> {
    Ok(())
}
