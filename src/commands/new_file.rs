//! Creates files that other users cannot read for an instant, and replaces files as a whole.

use std::fs::{self, File};
#[cfg(unix)]
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Who may use a new file: its mode, and its user and group if they are not this process's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileAccess {
    pub(super) mode: u32,
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
}

impl FileAccess {
    /// Returns the access of this user alone.
    pub(super) fn private() -> Self {
        Self {
            mode: 0o600,
            user: None,
            group: None,
        }
    }

    /// Returns the access to a file that is there.
    #[cfg(unix)]
    pub(super) fn of(stat: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let is_other = |id: u32, own: u32| Some(id).filter(|_| id != own);
        Self {
            mode: stat.mode() & 0o777,
            user: is_other(stat.uid(), rustix::process::geteuid().as_raw()),
            group: Some(stat.gid()),
        }
    }
}

/// Creates a file of these parts that only this user can use at first; never replaces a file.
pub(super) fn create(path: &Path, parts: &[&[u8]], access: FileAccess) -> io::Result<()> {
    let mut file = create_closed(path)?;
    let written = fill(&mut file, parts, access);
    if written.is_err() {
        // Half a file would prevent the next run.
        let _ = fs::remove_file(path);
    }
    written
}

#[cfg(unix)]
fn create_closed(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    options.open(path)
}

#[cfg(windows)]
use crate::platform::acl::create_closed;

#[cfg_attr(windows, expect(unused_variables, reason = "modes are Unix's"))]
fn fill(file: &mut File, parts: &[&[u8]], access: FileAccess) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{PermissionsExt, fchown};
        if access.user.is_some() || access.group.is_some() {
            fchown(&*file, access.user, access.group)?;
        }
        file.set_permissions(fs::Permissions::from_mode(access.mode))?;
    }
    parts.iter().try_for_each(|part| file.write_all(part))
}

/// A file that is complete, but not yet in its place. Without [`Self::create`] or [`Self::replace`] it is removed.
pub(super) struct PendingFile {
    path: PathBuf,
    temporary: PathBuf,
}

impl PendingFile {
    /// Writes it beside its place. `unique` is a part of its name for now.
    pub(super) fn write(
        path: &Path,
        parts: &[&[u8]],
        access: FileAccess,
        unique: &str,
    ) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{unique}"));
        create(&temporary, parts, access)?;
        let file = Self {
            path: path.to_owned(),
            temporary,
        };
        // After a crash of the system its place would have an empty file.
        File::options()
            .write(true)
            .open(&file.temporary)?
            .sync_all()?;
        Ok(file)
    }

    /// Puts it in its place, where there is no file.
    pub(super) fn create(self) -> io::Result<()> {
        fs::hard_link(&self.temporary, &self.path)
    }

    /// Puts it in its place, instead of the file there.
    pub(super) fn replace(self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        // After a rename there is none.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const ACCESS: FileAccess = FileAccess {
        mode: 0o640,
        user: None,
        group: None,
    };

    fn pending(path: &Path, content: &str) -> PendingFile {
        PendingFile::write(path, &[content.as_bytes(), b"\n"], ACCESS, "7").unwrap()
    }

    #[test]
    fn file_is_in_its_place_only_after_it_is_put_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etl.hash");
        let names = || fs::read_dir(folder.path()).unwrap().count();
        drop(pending(&path, "dropped"));
        assert_eq!(names(), 0);
        pending(&path, "first").create().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        let error = pending(&path, "second").create().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\n");
        pending(&path, "third").replace().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "third\n");
        assert_eq!(names(), 1);
    }
}
