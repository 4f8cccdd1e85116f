//! Creates files and directories with a given mode, independent of the umask.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Creates a directory with exactly that mode.
///
/// # Errors
///
/// What `mkdir(2)` returns, [`io::ErrorKind::AlreadyExists`] if anything is there, and what setting
/// the mode returns.
pub fn create_directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    let given = fs::symlink_metadata(path)?.mode();
    if given & 0o777 == mode {
        return Ok(());
    }
    // A set-group-ID bit comes from the directory above.
    set_directory_mode(path, mode | given & 0o7000)
}

/// Creates a directory and those above it that are missing, each with exactly that mode.
///
/// # Errors
///
/// As [`create_directory`]; a directory that is there is none.
pub fn create_directories(path: &Path, mode: u32) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_directories(parent, mode)?;
    }
    match create_directory(path, mode) {
        Err(_) if path.is_dir() => Ok(()),
        created => created,
    }
}

/// Sets the mode by a descriptor that follows no symlink: in a directory that others can write to, the name may lead
/// elsewhere now. `O_PATH` also opens a directory without any permission.
#[cfg(target_os = "linux")]
fn set_directory_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = open(path, flags, Mode::empty())?;
    let own = format!("/proc/self/fd/{}", directory.as_raw_fd());
    fs::set_permissions(own, Permissions::from_mode(mode))
}

#[cfg(not(target_os = "linux"))]
fn set_directory_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Sets the mode of an open file if the umask has removed permissions of its owner: the next start could not open it.
///
/// # Errors
///
/// What `fstat(2)` and `fchmod(2)` return.
pub fn restore_owner(file: &File, mode: u32) -> io::Result<()> {
    let stat = file.metadata()?;
    let is_ours = stat.uid() == rustix::process::geteuid().as_raw();
    if stat.is_file() && is_ours && stat.mode() & mode & 0o700 != mode & 0o700 {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}
