//! Writes the token file on Linux: a new file, renamed over the old one.

mod stale_files;

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, fstat, openat, renameat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::{Found, Kind, temporary_name};

/// The maximum number of attempts if the path changes at the same moment.
const ATTEMPTS: u32 = 3;

/// A file that this process has put in place. Both descriptors are `O_PATH`, which allows a read-only
/// remount. While the file is open, no other file can get its inode number.
pub(super) struct PlacedFile {
    file: OwnedFd,
    id: FileId,
    directory: OwnedFd,
    name: OsString,
}

/// Device and inode number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    fn of(stat: &Stat) -> Self {
        Self(stat.st_dev, stat.st_ino)
    }
}

impl PlacedFile {
    pub(super) fn find(&self, path: &Path) -> Found {
        match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileId::of(&stat) == self.id => Found::Placed,
            Ok(_) => Found::Other,
            Err(_) => Found::Nothing,
        }
    }

    pub(super) fn is_deleted(&self) -> bool {
        fstat(&self.file).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Removes the file from its directory, even if that was moved, unless another file has replaced it.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove_file(&self.directory, &self.name, self.id)?;
        sync(&self.directory);
        Ok(())
    }
}

pub(super) fn kind_at(path: &Path) -> io::Result<Option<Kind>> {
    kind_in(CWD, path.as_os_str())
}

/// Writes `text` to a new file and renames it: a reader finds either the old token or the new one,
/// complete, also after a power failure. All steps are relative to one open directory, which may be
/// moved meanwhile.
pub(super) fn put(path: &Path, text: &[u8], mode: u32) -> io::Result<PlacedFile> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, parent.unwrap_or(Path::new(".")), flags, Mode::empty())?;
    replaceable(kind_in(&directory, name)?)?;
    stale_files::remove(&directory, name)?;
    let (mut new, temporary) = create(&directory, name)?;
    let placed = fill(&mut new, text, mode)
        .and_then(|()| reopen(&new, &directory, &temporary))
        .and_then(|(file, id)| move_to(&directory, &temporary, name).map(|()| (file, id)));
    match placed {
        Ok((file, id)) => {
            sync(&directory);
            let name = name.to_owned();
            Ok(PlacedFile {
                file,
                id,
                directory,
                name,
            })
        }
        Err(error) => {
            discard(&new, &directory, &temporary);
            Err(error)
        }
    }
}

/// Creates a new file for a target of that name. Another process that keeps the same target does not
/// remove it.
fn create(directory: &OwnedFd, target: &OsStr) -> io::Result<(File, OsString)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..ATTEMPTS {
        let name = temporary_name(target);
        let new = openat(directory, &name, flags, Mode::RUSR | Mode::WUSR)?;
        let new = File::from(new);
        if stale_files::mark(&new)? {
            return Ok((new, name));
        }
    }
    Err(Errno::BUSY.into())
}

fn kind_in(directory: impl AsFd, name: &OsStr) -> io::Result<Option<Kind>> {
    let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::Regular,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Other("a FIFO"),
        FileType::Socket => Kind::Other("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            Kind::Other("a device")
        }
    }))
}

/// Returns how to rename a file to a path with a file of this kind.
fn replaceable(kind: Option<Kind>) -> io::Result<RenameFlags> {
    match kind {
        None => Ok(RenameFlags::NOREPLACE),
        Some(Kind::Regular) => Ok(RenameFlags::EXCHANGE),
        Some(other) => Err(other.error()),
    }
}

fn fill(new: &mut File, text: &[u8], mode: u32) -> io::Result<()> {
    new.write_all(text)?;
    new.set_permissions(Permissions::from_mode(mode))?;
    new.sync_all()
}

/// Opens the new file again, without write access.
fn reopen(new: &File, directory: &OwnedFd, name: &OsStr) -> io::Result<(OwnedFd, FileId)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty())?;
    let id = FileId::of(&fstat(new)?);
    if FileId::of(&fstat(&file)?) != id {
        return Err(io::Error::other("another process replaced the new file"));
    }
    Ok((file, id))
}

/// Renames the new file to `name`, and replaces only a regular file.
///
/// A plain rename replaces any file that is there at that moment, which may have changed since the check.
/// Therefore the new file is either renamed to a free name, or exchanged with the existing file, and
/// exchanged back if that is not a regular file.
fn move_to(directory: &OwnedFd, new: &OsStr, name: &OsStr) -> io::Result<()> {
    let mut changed = Errno::BUSY;
    for _ in 0..ATTEMPTS {
        let flags = replaceable(kind_in(directory, name)?)?;
        match renameat_with(directory, new, directory, name, flags) {
            Ok(()) if flags == RenameFlags::EXCHANGE => {
                return remove_or_return(directory, new, name);
            }
            Ok(()) => return Ok(()),
            Err(error @ (Errno::EXIST | Errno::NOENT)) => changed = error,
            // Network file systems have no such renames, and some sandboxes deny them.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                replaceable(kind_in(directory, name)?)?;
                return Ok(renameat(directory, new, directory, name)?);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(changed.into())
}

/// Removes the file that the new file was exchanged with, or puts it back if it is not a regular file.
fn remove_or_return(directory: &OwnedFd, new: &OsStr, name: &OsStr) -> io::Result<()> {
    let Err(not_regular) = replaceable(kind_in(directory, new)?) else {
        // The new file is in place in any case.
        let _ = unlinkat(directory, new, AtFlags::empty());
        return Ok(());
    };
    renameat_with(directory, new, directory, name, RenameFlags::EXCHANGE)?;
    Err(not_regular)
}

/// Removes the new file after an error, or at least its token.
fn discard(new: &File, directory: &OwnedFd, name: &OsStr) {
    let removed = fstat(new)
        .map_err(io::Error::from)
        .and_then(|stat| remove_file(directory, name, FileId::of(&stat)));
    if removed.is_err() {
        let _ = new.set_len(0);
    }
}

/// Removes a file if it has that inode number. A rename to a temporary name would close the race between
/// check and removal, but it can fail on a full disk.
fn remove_file(directory: &OwnedFd, name: &OsStr, id: FileId) -> io::Result<()> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileId::of(&stat) == id => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes a rename survive a power failure. The rename itself is done, also if the directory cannot be read
/// or the file system does not support this.
fn sync(directory: &OwnedFd) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(readable) = openat(directory, ".", flags, Mode::empty()) {
        let _ = rustix::fs::fsync(readable);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn open(folder: &Path) -> OwnedFd {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, folder, flags, Mode::empty()).unwrap()
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn put_replaces_a_regular_file_alone_and_leaves_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let first = put(&path, b"first", 0o600).unwrap();
        assert_eq!(first.find(&path), Found::Placed);
        let second = put(&path, b"second", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(
            (first.find(&path), second.find(&path)),
            (Found::Other, Found::Placed)
        );
        assert!(first.is_deleted() && !second.is_deleted());
        first.remove().unwrap();
        assert_eq!(names(folder.path()), ["token"], "foreign file stays");
        second.remove().unwrap();
        second.remove().unwrap();
        symlink("elsewhere", &path).unwrap();
        let error = put(&path, b"third", 0o600).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "it is a symbolic link");
        assert_eq!(names(folder.path()), ["token"]);
    }

    #[test]
    fn put_restores_what_replaced_the_path_after_the_check_unless_it_is_a_regular_file() {
        let folder = tempfile::tempdir().unwrap();
        let directory = open(folder.path());
        let [new, name] = ["new", "token"].map(|name| folder.path().join(name));
        // As after the exchange.
        symlink("elsewhere", &new).unwrap();
        fs::write(&name, "token").unwrap();
        let returned = remove_or_return(&directory, "new".as_ref(), "token".as_ref());
        assert_eq!(returned.unwrap_err().to_string(), "it is a symbolic link");
        assert_eq!(fs::read_link(&name).unwrap(), Path::new("elsewhere"));
        let ours = File::open(&new).unwrap();
        discard(&ours, &directory, "new".as_ref());
        assert_eq!(names(folder.path()), ["token"]);
        fs::write(&new, "token").unwrap();
        fs::remove_file(&name).unwrap();
        fs::write(&name, "another's").unwrap();
        let kept = remove_or_return(&directory, "token".as_ref(), "new".as_ref());
        kept.unwrap();
        assert_eq!(names(folder.path()), ["new"]);
    }

    #[test]
    fn discard_leaves_files_of_other_processes() {
        let folder = tempfile::tempdir().unwrap();
        let directory = open(folder.path());
        let [new, other] = ["new", "other"].map(|name| folder.path().join(name));
        let ours = File::create(&other).unwrap();
        fs::write(&new, "another's").unwrap();
        discard(&ours, &directory, "new".as_ref());
        assert_eq!(fs::read(&new).unwrap(), b"another's");
    }
}
