//! The socket's life: lock, bind, remove.
//!
//! Whoever holds the lock file is the broker of that path. The socket is bound inside a directory
//! that only we can enter, given its mode, and then renamed into place, so that it is never wider
//! than its mode.

mod listener;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::bind::{BindError, path_error};
use crate::config::{Config, Env, SOCKET_MODE, path_in};
use crate::file_mode;
use crate::policy::Principal;
use crate::users;

pub(super) use listener::{Listener, Stream};

/// The name of the socket in whichever directory it is.
const SOCKET_NAME: &str = "broker.sock";

/// Where a daemon listens when nobody names a place: the usual one of its user.
pub fn usual_place(env: Env) -> Option<PathBuf> {
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
        let runtime = path_in(env, "XDG_RUNTIME_DIR")?;
        Some(runtime.join("domo-token").join(SOCKET_NAME))
    };
    runtime().or_else(root).or_else(user)
}

/// Who may open the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    /// The socket's permission bits.
    pub mode: u32,
    /// The group that it is given to.
    pub group: Option<u32>,
}

impl Default for Callers {
    fn default() -> Self {
        let mode = SOCKET_MODE;
        Self { mode, group: None }
    }
}

impl Callers {
    /// As the config says. Blocks: on the user database.
    ///
    /// # Errors
    ///
    /// In words, if there is no such group, or it is our own.
    pub fn of(config: &Config) -> Result<Self, &'static str> {
        let mode = config.socket_mode;
        let group = match &config.socket_group {
            None => return Ok(Self { mode, group: None }),
            Some(Principal::Id(id)) => *id,
            Some(Principal::Name(name)) => {
                let unknown = "socket_group: there is no such group; add it, or name another";
                users::group(name).ok_or(unknown)?
            }
        };
        if group == rustix::process::getegid().as_raw() {
            let own = "socket_group: this is the daemon's own group, which its files may be open to; name another";
            return Err(own);
        }
        let group = Some(group);
        Ok(Self { mode, group })
    }
}

/// The right to serve a path, and, once it listens, the socket there. Dropping it removes the
/// socket, if it is still ours.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Device and inode of our socket.
    ours: Option<(u64, u64)>,
    /// Held as long as this is open. The file stays: removing it would let two daemons hold two
    /// locks of one name. `None` if the socket isn't ours.
    _lock: Option<File>,
    /// A socket that another process has bound, and will remove.
    inherited: Option<UnixListener>,
}

impl Socket {
    /// The socket that the service manager has bound: its path, mode and group are its own affair,
    /// and so is that nobody else serves it.
    #[must_use]
    pub fn inherited(listener: UnixListener) -> Self {
        let address = listener.local_addr().ok();
        let path = address.and_then(|address| address.as_pathname().map(Path::to_owned));
        Self {
            path: path.unwrap_or_default(),
            ours: None,
            _lock: None,
            inherited: Some(listener),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the service manager has bound it.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.inherited.is_some()
    }

    /// Takes the lock of `path`. A missing directory is made, for us alone; as root, so that all
    /// may pass through it.
    ///
    /// With `shared`, others may write to the directory.
    ///
    /// # Errors
    ///
    /// [`BindError::Taken`] if another daemon holds the lock, else [`BindError::Path`].
    pub fn lock(path: &Path, shared: bool) -> Result<Self, BindError> {
        let directory = directory_of(path);
        make_directory(directory).map_err(|error| system_error(directory, &error))?;
        if !shared {
            check_directory(directory)?;
        }
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
                _lock: Some(lock),
                inherited: None,
            }),
            Err(Errno::WOULDBLOCK) => Err(BindError::Taken(path.to_owned())),
            Err(error) => Err(system_error(&lock_path, &error.into())),
        }
    }

    /// Binds the socket, open to `callers`. A dead socket in its place is replaced.
    ///
    /// # Errors
    ///
    /// [`BindError::Taken`] if a living one is in its place, else [`BindError::Path`].
    pub fn listen(&mut self, callers: &Callers) -> Result<Listener, BindError> {
        if let Some(listener) = self.inherited.take() {
            let adopted = Listener::of(listener);
            return adopted.map_err(|error| system_error(&self.path, &error));
        }
        self.check_place()?;
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

    fn bind_in(&mut self, private: &Path, callers: &Callers) -> Result<Listener, BindError> {
        let place = private.join("s");
        let fail = |error: io::Error| system_error(&self.path, &error);
        // Of the place where it is bound, and of the one where callers look for it.
        if [&place, &self.path]
            .map(SocketAddrUnix::new)
            .iter()
            .any(Result::is_err)
        {
            let problem = "the path is too long for a socket; choose a shorter one";
            return Err(path_error(&self.path, problem));
        }
        let listener = UnixListener::bind(&place).map_err(fail)?;
        let listener = Listener::of(listener).map_err(fail)?;
        chown(&place, None, callers.group).map_err(|error| {
            let problem = format!("the socket can't be given to its group: {error}; make the daemon's user a member of it");
            path_error(&self.path, &problem)
        })?;
        fs::set_permissions(&place, Permissions::from_mode(callers.mode)).map_err(fail)?;
        let stat = fs::symlink_metadata(&place).map_err(fail)?;
        fs::rename(&place, &self.path).map_err(fail)?;
        self.ours = Some((stat.dev(), stat.ino()));
        Ok(listener)
    }

    /// Nothing that isn't a dead socket of ours is replaced.
    fn check_place(&self) -> Result<(), BindError> {
        let stat = match fs::symlink_metadata(&self.path) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(system_error(&self.path, &error)),
        };
        if !stat.file_type().is_socket() {
            let problem =
                "there is something that is no socket; move it away or choose another path";
            return Err(path_error(&self.path, problem));
        }
        if stat.uid() != rustix::process::geteuid().as_raw() {
            let problem = format!(
                "this socket belongs to user {}; choose another path",
                stat.uid()
            );
            return Err(path_error(&self.path, &problem));
        }
        match is_alive(&self.path) {
            Ok(false) => Ok(()),
            Ok(true) => Err(BindError::Taken(self.path.clone())),
            Err(error) => Err(system_error(&self.path, &error)),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let stat = fs::symlink_metadata(&self.path).ok();
        let there = stat.map(|stat| (stat.dev(), stat.ino()));
        if self.ours.is_some() && self.ours == there {
            // It will be found dead and replaced if it can't be removed now.
            let _removed = fs::remove_file(&self.path);
        }
    }
}

/// Whoever owns the lock file may hold it, and keep every daemon out.
fn check_lock(path: &Path, stat: &fs::Metadata) -> Result<(), BindError> {
    if !stat.is_file() {
        return Err(path_error(
            path,
            "the lock must be a plain file; remove this",
        ));
    }
    let (owner, us) = (stat.uid(), rustix::process::geteuid().as_raw());
    if owner != us {
        let problem =
            format!("the lock file belongs to user {owner}, who could keep us out; remove it");
        return Err(path_error(path, &problem));
    }
    Ok(())
}

/// Whether anyone listens there. Never waits: a backlog that is full is one of somebody alive.
fn is_alive(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes the directory that binding used, or one that a killed daemon of our process id left.
fn remove_private(private: &Path) {
    let us = rustix::process::geteuid().as_raw();
    if fs::symlink_metadata(private).is_ok_and(|stat| stat.is_dir() && stat.uid() == us) {
        // What can't be removed makes binding fail, and that says why.
        let _removed = fs::remove_file(private.join("s"));
        let _removed = fs::remove_dir(private);
    }
}

fn directory_of(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// What the system said, and what to do where that isn't plain.
fn system_error(path: &Path, error: &io::Error) -> BindError {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    let kind = error.kind();
    let to_do = if kind == NotFound {
        "; make the directory that it is to be in"
    } else if matches!(kind, PermissionDenied | ReadOnlyFilesystem) {
        "; choose a place where the daemon's user may write, see socket in the config"
    } else {
        ""
    };
    path_error(path, &format!("{error}{to_do}"))
}

fn make_directory(directory: &Path) -> io::Result<()> {
    let mode = if rustix::process::geteuid().is_root() {
        0o755
    } else {
        0o700
    };
    match file_mode::create_directory(directory, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

/// In a directory that others can write to, they could put their own socket in our place.
fn check_directory(directory: &Path) -> Result<(), BindError> {
    let failed = |error: io::Error| system_error(directory, &error);
    let link = fs::symlink_metadata(directory).map_err(failed)?;
    if link.is_symlink() && link.uid() != 0 {
        let target = fs::canonicalize(directory).map_err(failed)?;
        let problem = format!(
            "the socket's directory is a symlink, which can be turned elsewhere; name what it leads to: {}",
            target.display()
        );
        return Err(path_error(directory, &problem));
    }
    let stat = fs::metadata(directory).map_err(failed)?;
    let us = rustix::process::geteuid().as_raw();
    let shown = directory.display();
    if stat.uid() != us && stat.uid() != 0 {
        let problem = format!(
            "the socket's directory belongs to user {}, who could replace the socket; choose another path",
            stat.uid()
        );
        return Err(path_error(directory, &problem));
    }
    let (open, sticky) = (stat.mode() & 0o022 != 0, stat.mode() & 0o1000 != 0);
    if open && !sticky {
        let problem = format!(
            "others can write to the socket's directory; run: chmod go-w {shown}, or set shared_directory = true where that can't be"
        );
        return Err(path_error(directory, &problem));
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = OsString::from(path);
    text.push(suffix);
    PathBuf::from(text)
}
