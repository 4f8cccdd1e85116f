//! Checks of the socket's directory, its lock, and what is at its path.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::SOCKET_NAME;
use crate::platform::descriptors;
use crate::platform::file_mode;
use crate::server::{BindError, path_error};

/// Creates the directory of `path` if it is missing: for this user alone; for root, one that all users may enter.
/// Without `shared`, an existing one must not be writable to others.
pub(super) fn prepare_directory(path: &Path, shared: bool) -> Result<(), BindError> {
    let directory = directory_of(path);
    create_directory(directory).map_err(|error| system_error(directory, &error))?;
    if shared {
        return Ok(());
    }
    check_directory(directory)
}

/// Checks that nothing but a socket is at `path`. What cannot be examined passes.
pub(super) fn check_kind(path: &Path) -> Result<(), BindError> {
    let Ok(stat) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    // If the socket that it is to mount is missing, a container engine creates a directory of its name.
    let is_named_so = path.extension().is_some_and(|end| end == "sock");
    if path.is_dir() && !is_named_so {
        let inside = path.join(SOCKET_NAME);
        let inside = inside.display();
        let problem =
            format!("is a directory and not a socket; use a path in it, such as {inside}");
        return Err(path_error(path, &problem));
    }
    if !stat.file_type().is_socket() {
        let problem = "the file there is not a socket; move it away or choose another path";
        return Err(path_error(path, problem));
    }
    Ok(())
}

/// Checks the owner of the lock file, which could hold the lock against every daemon.
pub(super) fn check_lock(path: &Path, stat: &fs::Metadata) -> Result<(), BindError> {
    if !stat.is_file() {
        return Err(path_error(
            path,
            "the lock must be a regular file; remove it",
        ));
    }
    let (owner, us) = (stat.uid(), rustix::process::geteuid().as_raw());
    if owner != us {
        let problem =
            format!("the lock file belongs to user {owner}, who could block the daemon; remove it");
        return Err(path_error(path, &problem));
    }
    Ok(())
}

/// Returns whether a process listens there. Never waits: only a socket that is listened on has a full backlog.
pub(super) fn is_alive(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes the directory that binding used, or one left by a killed daemon with our process id.
pub(super) fn remove_private(private: &Path) {
    let us = rustix::process::geteuid().as_raw();
    if fs::symlink_metadata(private).is_ok_and(|stat| stat.is_dir() && stat.uid() == us) {
        // If one of them cannot be removed, binding fails with the reason.
        let _ = fs::remove_file(private.join("s"));
        let _ = fs::remove_dir(private);
    }
}

pub(super) fn directory_of(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Returns the system's error with what to do.
pub(super) fn system_error(path: &Path, error: &io::Error) -> BindError {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    if descriptors::is_exhausted(error) {
        return BindError::Path {
            path: path.to_owned(),
            problem: format!("{error}{}", descriptors::RAISE_LIMIT),
            is_exhausted: true,
        };
    }
    let kind = error.kind();
    let to_do = if kind == NotFound {
        "; create its directory"
    } else if matches!(kind, PermissionDenied | ReadOnlyFilesystem) {
        "; choose a directory in which the daemon's user can write, with broker.socket in the config"
    } else {
        ""
    };
    path_error(path, &format!("{error}{to_do}"))
}

fn create_directory(directory: &Path) -> io::Result<()> {
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

/// Checks that other users cannot replace the socket in its directory.
fn check_directory(directory: &Path) -> Result<(), BindError> {
    let failed = |error: io::Error| system_error(directory, &error);
    let link = fs::symlink_metadata(directory).map_err(failed)?;
    if link.is_symlink() && link.uid() != 0 {
        let target = fs::canonicalize(directory).map_err(failed)?;
        let problem = format!(
            "the socket's directory is a symlink, which can be redirected; use its target: {}",
            target.display()
        );
        return Err(path_error(directory, &problem));
    }
    let stat = fs::metadata(directory).map_err(failed)?;
    let us = rustix::process::geteuid().as_raw();
    let shown = directory.display();
    if stat.uid() != us && stat.uid() != 0 {
        let problem = format!(
            "the socket's directory belongs to user {}, who could replace the socket; choose another \
             path",
            stat.uid()
        );
        return Err(path_error(directory, &problem));
    }
    let (open, sticky) = (stat.mode() & 0o022 != 0, stat.mode() & 0o1000 != 0);
    if open && !sticky {
        let problem = format!(
            "others can write to the socket's directory; set shared_directory = true if that is \
             intended, or run: chmod go-w {shown}"
        );
        return Err(path_error(directory, &problem));
    }
    Ok(())
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = OsString::from(path);
    text.push(suffix);
    PathBuf::from(text)
}
