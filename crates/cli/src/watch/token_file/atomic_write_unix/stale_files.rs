//! Removes new files that a killed process left behind. They may contain a token.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, openat, statat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::{FileId, remove_file};
use crate::watch::token_file::is_temporary_name;

/// Marks the new file as being written, by a lock. Returns whether it still exists: another process may
/// remove it before it is marked. On file systems without locks, nothing is marked or removed.
pub(super) fn mark(new: &File) -> io::Result<bool> {
    let is_removed = flock(new, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK);
    Ok(!is_removed && fstat(new)?.st_nlink > 0)
}

/// Removes the new files for a target of that name that belong to this user and that no process writes.
/// In a directory that cannot be listed, they stay.
///
/// # Errors
///
/// If a file cannot be removed: then another one must not be created.
pub(super) fn remove(directory: &OwnedFd, target: &OsStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let entries = openat(directory, ".", flags, Mode::empty()).and_then(Dir::new);
    for entry in entries.into_iter().flatten().flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if is_temporary_name(name, target) {
            remove_one(directory, name)?;
        }
    }
    Ok(())
}

fn remove_one(directory: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let is_ours = |stat: &Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == geteuid().as_raw()
    };
    // Opening a device may have side effects.
    if !statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_ours(&stat)) {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(directory, name, flags, Mode::empty()) else {
        return Ok(());
    };
    match fstat(&file) {
        Ok(stat)
            if is_ours(&stat) && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() =>
        {
            remove_file(directory, name, FileId::of(&stat))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::fs::CWD;

    use super::*;

    fn open(folder: &Path) -> OwnedFd {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, folder, flags, Mode::empty()).unwrap()
    }

    #[test]
    fn remove_takes_only_regular_files_of_that_target_that_no_process_writes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let kept = [
            "token",
            ".token.0123",
            ".token.0123456789ABCDEF",
            ".token.0123456789abcdef0",
            ".token.more.0123456789abcdef",
            ".other.0123456789abcdef",
            "token.0123456789abcdef",
        ];
        for name in kept {
            fs::write(at(name), "kept").unwrap();
        }
        symlink("token", at(".token.000000000000000a")).unwrap();
        fs::create_dir(at(".token.000000000000000b")).unwrap();
        let written = File::create(at(".token.000000000000000c")).unwrap();
        assert!(mark(&written).unwrap());
        fs::write(at(".token.000000000000000d"), "left behind").unwrap();
        let count = || fs::read_dir(folder.path()).unwrap().count();
        remove(&open(folder.path()), "token".as_ref()).unwrap();
        assert_eq!(count(), kept.len() + 3);
        assert!(!at(".token.000000000000000d").exists());
        // A process that another test starts may hold the descriptor for a moment.
        flock(&written, FlockOperation::Unlock).unwrap();
        remove(&open(folder.path()), "token".as_ref()).unwrap();
        assert_eq!(count(), kept.len() + 2);
    }

    #[test]
    fn mark_fails_for_a_file_that_another_process_removes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".token.000000000000000a");
        let new = File::create(&path).unwrap();
        let other = File::open(&path).unwrap();
        flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(!mark(&new).unwrap());
        flock(&other, FlockOperation::Unlock).unwrap();
        assert!(mark(&new).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!mark(&new).unwrap());
    }
}
