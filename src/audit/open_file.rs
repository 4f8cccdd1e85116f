//! The file of the audit: its owner, how it is opened, and whether it was rotated.

#[cfg(unix)]
use std::fs;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

#[cfg(unix)]
use crate::credentials::{CredentialsError, check_audit, check_audit_directories};
#[cfg(unix)]
use crate::platform::file_mode;
#[cfg(unix)]
use rustix::fs::{Access, OFlags, access, fcntl_setfl};
#[cfg(unix)]
use rustix::io::Errno;

/// Opens or creates the file at `path`.
///
/// # Errors
///
/// What the system returns, or why the file isn't safe to write to.
#[cfg(unix)]
pub(super) fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(stream) = own_stream(path) {
        return stream;
    }
    // Checked before the file can be created there.
    check_audit_directories(path).map_err(|error| without_path(error, path))?;
    check_existing(path)?;
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // Opening a pipe does not wait for its reader.
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    options.mode(0o600).custom_flags(flags.bits().cast_signed());
    let file = options
        .open(path)
        .map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NXIO) => {
                io::Error::new(io::ErrorKind::NotConnected, "nobody reads this pipe")
            }
            Some(_) | None => error,
        })?;
    // The open file counts, whatever was at the path a moment ago.
    check_audit(&file.metadata()?, path).map_err(|error| without_path(error, path))?;
    fcntl_setfl(&file, OFlags::APPEND)?;
    file_mode::restore_owner(&file, 0o600)?;
    Ok(file)
}

/// Opens or creates the file at `path`, which inherits the access list of its directory.
#[cfg(windows)]
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Checks whether [`super::Audit::open`] would succeed, without creating the file or waiting for a pipe's
/// reader.
///
/// # Errors
///
/// As there.
#[cfg(unix)]
pub fn check(path: &Path) -> io::Result<()> {
    if let Some(stream) = own_stream(path) {
        return stream.map(drop);
    }
    check_audit_directories(path).map_err(|error| without_path(error, path))?;
    if check_existing(path)? {
        return Ok(access(path, Access::WRITE_OK)?);
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Checks nothing: on Windows only opening the file shows whether that succeeds.
///
/// # Errors
///
/// None.
#[cfg(windows)]
pub fn check(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Standard output or standard error, if `path` names one of them. The user that started the daemon
/// chose where they lead, so nothing is checked; a socket such as the journal's can't be opened again.
#[cfg(unix)]
fn own_stream(path: &Path) -> Option<io::Result<File>> {
    use std::os::fd::AsFd;
    let stream = match path.to_str()? {
        "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => {
            io::stdout().as_fd().try_clone_to_owned()
        }
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => {
            io::stderr().as_fd().try_clone_to_owned()
        }
        _ => return None,
    };
    Some(stream.map(File::from))
}

/// Checks the file at `path`. Returns whether there is one.
#[cfg(unix)]
fn check_existing(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(stat) => {
            check_audit(&stat, path).map_err(|error| without_path(error, path))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the error without the path if it is that of the file, because the caller adds it.
#[cfg(unix)]
fn without_path(error: CredentialsError, path: &Path) -> io::Error {
    match error {
        CredentialsError::Read { source, .. } => source,
        CredentialsError::Unsafe {
            path: at, problem, ..
        } if at == path.display().to_string() => io::Error::other(problem),
        CredentialsError::Unsafe { .. }
        | CredentialsError::Unusable { .. }
        | CredentialsError::Command { .. } => io::Error::other(error.to_string()),
    }
}

/// Whether the file at `path`, as an earlier process may have left it, ends within a line.
pub(super) fn is_torn(file: &File, path: &Path) -> bool {
    // Opening a pipe for reading can block.
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let last = File::open(path).and_then(|mut file| {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(last != *b"\n")
    });
    // An empty file has no last byte.
    last.unwrap_or(false)
}

/// Whether `path` still leads to that file, which log rotation renames.
#[cfg(unix)]
pub(super) fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |stat: fs::Metadata| (stat.dev(), stat.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(found)) => id(open) == id(found),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

/// Whether `path` still leads to that file; Windows identifies a file only while it is open.
#[cfg(windows)]
pub(super) fn same_file(file: &File, path: &Path) -> bool {
    use same_file::Handle;
    match (
        file.try_clone().and_then(Handle::from_file),
        Handle::from_path(path),
    ) {
        (Ok(open), Ok(found)) => open == found,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}
