//! Writes the token file on Windows: a new file, renamed over the old one.

use std::fs::{self, File, FileType};
use std::io::{self, Write};
use std::os::windows::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Found, Kind, temporary_name};
use crate::retry::pause;

/// `ERROR_ACCESS_DENIED` and `ERROR_SHARING_VIOLATION`: the codes for a file in use.
const IN_USE: [i32; 2] = [5, 32];

/// The maximum number of attempts to replace a file in use: one second in all, which is long for a reader.
const TRIES: u32 = 100;

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// A file that this process has put in place, identified by its time of writing. It is not kept open,
/// because not every file system could replace it then.
pub(super) struct PlacedFile {
    path: PathBuf,
    written: u64,
}

impl PlacedFile {
    pub(super) fn find(&self, path: &Path) -> Found {
        match fs::symlink_metadata(path) {
            Ok(found) if found.last_write_time() == self.written => Found::Placed,
            Ok(_) => Found::Other,
            Err(_) => Found::Nothing,
        }
    }

    /// Returns false: no file is kept open.
    #[expect(clippy::unused_self, reason = "the same interface everywhere")]
    pub(super) fn is_deleted(&self) -> bool {
        false
    }

    /// Removes the file, unless another file has replaced it.
    pub(super) fn remove(&self) -> io::Result<()> {
        if self.find(&self.path) != Found::Placed {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

pub(super) fn kind_at(path: &Path) -> io::Result<Option<Kind>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(kind(found.file_type()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn kind(found: FileType) -> Kind {
    if found.is_symlink() {
        Kind::Symlink
    } else if found.is_dir() {
        Kind::Directory
    } else if found.is_file() {
        Kind::Regular
    } else {
        Kind::Other("a device")
    }
}

/// Writes `text` to a new file and renames it: a reader finds either the old token or the new one, complete.
/// Files have no mode on Windows: they inherit the access list of their directory.
pub(super) fn put(path: &Path, text: &[u8], _mode: u32) -> io::Result<PlacedFile> {
    replaceable(path)?;
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let temporary = path.with_file_name(temporary_name(name));
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .open(&temporary)?;
    let written = file
        .write_all(text)
        .and_then(|()| file.sync_all())
        .and_then(|()| file.metadata());
    // Before the rename: not every file system can rename an open file.
    drop(file);
    let placed = written.and_then(|written| move_to(&temporary, path).map(|()| written));
    match placed {
        Ok(written) => Ok(PlacedFile {
            path: path.to_owned(),
            written: written.last_write_time(),
        }),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

fn replaceable(path: &Path) -> io::Result<()> {
    match kind_at(path)? {
        None | Some(Kind::Regular) => Ok(()),
        Some(other) => Err(other.error()),
    }
}

/// Renames the new file. Retries while a program reads the old one, which prevents that on some file systems.
fn move_to(new: &Path, path: &Path) -> io::Result<()> {
    let mut left = TRIES;
    loop {
        replaceable(path)?;
        let renamed = fs::rename(new, path);
        let code = renamed.as_ref().err().and_then(io::Error::raw_os_error);
        left -= 1;
        if left == 0 || !code.is_some_and(|code| IN_USE.contains(&code)) {
            return renamed;
        }
        pause(PAUSE);
    }
}
