//! The Unix socket: locks its path, binds and removes it.
//!
//! The process that holds the lock file is the broker of that path. The socket is bound in a directory that only this
//! process can enter, gets its mode, and is then renamed, so that its permissions are never wider.

mod checks;
mod listener;
mod rebind;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::{BindError, path_error};
use crate::config::{Config, DEFAULT_SOCKET_MODE, Env, path_in, xdg_path_in};
use crate::platform::file_mode;
use crate::platform::users;
use domo_token_core::access_policy::Principal;

use checks::{
    check_kind, check_lock, directory_of, is_alive, prepare_directory, remove_private,
    system_error, with_suffix,
};

pub(super) use listener::{Listener, Stream};

/// The file name of the socket.
const SOCKET_NAME: &str = "broker.sock";

/// Returns the default path of the socket, by the user.
pub fn default_path(env: Env) -> Option<PathBuf> {
    let runtime = || {
        let directories = path_in(env, "RUNTIME_DIRECTORY")?;
        let first = std::env::split_paths(&directories).next()?;
        Some(first.join(SOCKET_NAME))
    };
    let root = || {
        let root = rustix::process::geteuid().is_root();
        root.then(|| Path::new("/run/domo-token").join(SOCKET_NAME))
    };
    let user = || {
        let runtime = xdg_path_in(env, "XDG_RUNTIME_DIR")?;
        Some(runtime.join("domo-token").join(SOCKET_NAME))
    };
    runtime().or_else(root).or_else(user)
}

/// The callers that may open the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    /// The socket's permission bits.
    pub mode: u32,
    /// The group that owns it.
    pub group: Option<u32>,
}

impl Default for Callers {
    fn default() -> Self {
        let mode = DEFAULT_SOCKET_MODE;
        Self { mode, group: None }
    }
}

impl Callers {
    /// Returns what the config allows. Blocks on the user database.
    ///
    /// # Errors
    ///
    /// If there is no such group, or it is the daemon's own.
    pub fn of(config: &Config) -> Result<Self, &'static str> {
        let mode = config.broker.socket_mode;
        let group = match &config.broker.socket_group {
            None => return Ok(Self { mode, group: None }),
            Some(Principal::Id(id)) => *id,
            Some(Principal::Name(name)) => {
                let unknown = "socket_group: no such group; create it, or choose another group";
                users::group(name).ok_or(unknown)?
            }
        };
        if group == rustix::process::getegid().as_raw() {
            let own = "socket_group: this is the daemon's own group, which may have access to its \
                       files; choose another group";
            return Err(own);
        }
        let group = Some(group);
        Ok(Self { mode, group })
    }
}

/// The lock on a path, and the socket there once it listens. Dropping it removes the socket, if it is still ours.
#[derive(Debug)]
pub struct Socket {
    /// The path; of several inherited sockets the first one's.
    path: PathBuf,
    /// Device and inode of our socket.
    ours: Option<Id>,
    /// The lock is held while this is open. The file stays: if it were removed, two daemons could lock two files of
    /// one name. `None` if the socket is inherited.
    lock: Option<File>,
    /// Whether others may write to the directory.
    shared: bool,
    /// Sockets that another process has bound, and will remove.
    inherited: Vec<Inherited>,
    /// Receives sockets that are bound again while the daemon serves.
    added: Option<mpsc::Sender<AsyncFd<UnixListener>>>,
}

/// Device and inode.
type Id = (u64, u64);

#[derive(Debug)]
struct Inherited {
    /// `None` once it is listened on.
    listener: Option<UnixListener>,
    /// `None` if the socket is not in the file system.
    path: Option<PathBuf>,
    id: Option<Id>,
}

impl Inherited {
    fn of(listener: UnixListener) -> Self {
        let address = listener.local_addr().ok();
        let path = address.and_then(|address| address.as_pathname().map(Path::to_owned));
        Self {
            listener: Some(listener),
            id: path.as_deref().and_then(id_at),
            path,
        }
    }
}

fn id_at(path: &Path) -> Option<Id> {
    let stat = fs::symlink_metadata(path).ok()?;
    Some((stat.dev(), stat.ino()))
}

impl Socket {
    /// Returns the sockets that the service manager has bound, which also sets their modes and groups and
    /// prevents two services of one path.
    #[must_use]
    pub fn inherited(first: UnixListener, others: Vec<UnixListener>) -> Self {
        let listeners = [first].into_iter().chain(others);
        let inherited: Vec<Inherited> = listeners.map(Inherited::of).collect();
        let path = inherited.iter().find_map(|socket| socket.path.clone());
        Self {
            path: path.unwrap_or_default(),
            ours: None,
            lock: None,
            shared: false,
            inherited,
            added: None,
        }
    }

    /// Returns its path for messages, or all paths of inherited sockets.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.inherited.is_empty() {
            return self.path.display().to_string();
        }
        let shown = |socket: &Inherited| match &socket.path {
            Some(path) => path.display().to_string(),
            None => "a socket without a path".to_owned(),
        };
        let all: Vec<String> = self.inherited.iter().map(shown).collect();
        all.join(", ")
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the service manager has bound it.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        !self.inherited.is_empty()
    }

    /// Checks that nothing but a socket is at `path`.
    ///
    /// # Errors
    ///
    /// [`BindError::Path`] if something else is.
    pub fn check_kind(path: &Path) -> Result<(), BindError> {
        check_kind(path)
    }

    /// Locks `path`. Creates a missing directory for this user alone; for root, one that all users may enter. With
    /// `shared`, other users may write to the directory.
    ///
    /// # Errors
    ///
    /// [`BindError::InUse`] if another daemon holds the lock, else [`BindError::Path`].
    pub fn lock(path: &Path, shared: bool) -> Result<Self, BindError> {
        check_kind(path)?;
        prepare_directory(path, shared)?;
        let lock_path = with_suffix(path, ".lock");
        if let Ok(stat) = fs::symlink_metadata(&lock_path) {
            check_lock(&lock_path, &stat)?;
        }
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0))
            .open(&lock_path)
            .map_err(|error| system_error(&lock_path, &error))?;
        let stat = lock.metadata();
        let stat = stat.map_err(|error| system_error(&lock_path, &error))?;
        check_lock(&lock_path, &stat)?;
        file_mode::restore_owner(&lock, 0o600).map_err(|error| system_error(&lock_path, &error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                ours: None,
                lock: Some(lock),
                shared,
                inherited: Vec::new(),
                added: None,
            }),
            Err(Errno::WOULDBLOCK) => Err(BindError::InUse(path.to_owned())),
            Err(error) => Err(system_error(&lock_path, &error.into())),
        }
    }

    /// Binds the socket for `callers`. Replaces a socket that is not served.
    ///
    /// # Errors
    ///
    /// [`BindError::InUse`] if a socket that is served is at the path, else [`BindError::Path`].
    pub fn listen(&mut self, callers: &Callers) -> Result<Listener, BindError> {
        let mut sockets = Vec::new();
        for inherited in &mut self.inherited {
            if let Some(listener) = inherited.listener.take() {
                let socket = listener::prepare(listener);
                sockets.push(socket.map_err(|error| system_error(&self.path, &error))?);
            }
        }
        if self.inherited.is_empty() {
            sockets.push(self.bind(callers)?);
        }
        let (added, more) = mpsc::channel(1);
        self.added = Some(added);
        Ok(Listener::new(sockets, more))
    }

    fn bind(&mut self, callers: &Callers) -> Result<AsyncFd<UnixListener>, BindError> {
        self.check_path()?;
        let private = with_suffix(
            &directory_of(&self.path).join("."),
            &format!("d{}", std::process::id()),
        );
        remove_private(&private);
        let created = file_mode::create_directory(&private, 0o700);
        created.map_err(|error| system_error(&private, &error))?;
        let bound = self.bind_in(&private, callers);
        remove_private(&private);
        bound
    }

    fn bind_in(
        &mut self,
        private: &Path,
        callers: &Callers,
    ) -> Result<AsyncFd<UnixListener>, BindError> {
        let bound = private.join("s");
        let fail = |error: io::Error| system_error(&self.path, &error);
        if [&bound, &self.path]
            .map(SocketAddrUnix::new)
            .iter()
            .any(Result::is_err)
        {
            let problem = "the path is too long for a socket; choose a shorter path";
            return Err(path_error(&self.path, problem));
        }
        let listener = UnixListener::bind(&bound).map_err(fail)?;
        listener::shorten_queue(&listener).map_err(fail)?;
        let listener = listener::prepare(listener).map_err(fail)?;
        chown(&bound, None, callers.group).map_err(|error| {
            let problem = format!(
                "cannot give the socket to its group: {error}; make the daemon's \
                                   user a member of it"
            );
            path_error(&self.path, &problem)
        })?;
        fs::set_permissions(&bound, Permissions::from_mode(callers.mode)).map_err(fail)?;
        let ours = id_at(&bound);
        fs::rename(&bound, &self.path).map_err(fail)?;
        self.ours = ours;
        Ok(listener)
    }

    /// Checks that nothing is at the path but a socket of ours that is not served.
    fn check_path(&self) -> Result<(), BindError> {
        let stat = match fs::symlink_metadata(&self.path) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(system_error(&self.path, &error)),
        };
        check_kind(&self.path)?;
        if stat.uid() != rustix::process::geteuid().as_raw() {
            let problem = format!(
                "this socket belongs to user {}; choose another path",
                stat.uid()
            );
            return Err(path_error(&self.path, &problem));
        }
        match is_alive(&self.path) {
            Ok(false) => Ok(()),
            Ok(true) => Err(BindError::InUse(self.path.clone())),
            Err(error) => Err(system_error(&self.path, &error)),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.ours.is_some() && self.ours == id_at(&self.path) {
            // If this fails, the next daemon replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
