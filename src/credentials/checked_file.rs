//! Checks owner and permissions of the files that the daemon reads, runs or writes. Files that it reads are opened once,
//! checked by the open descriptor, and read into a buffer that is wiped.

#[cfg(unix)]
use std::fs::Metadata;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
#[cfg(unix)]
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

#[cfg(unix)]
use super::permission_advice::{
    HOST_DIRECTORY, RequiredMode, on_foreign, on_hidden, on_open_directory, on_unsafe, user_name,
};
use super::{CredentialsError, on_unreadable};
use crate::config::Naming;
use crate::config::named_path::NamedPath;
#[cfg(unix)]
use crate::platform::symlink_chain::symlink_chain;

/// The users that may read a file. Only its owner may write it in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Its owner, and its group if it is root's, unless the config allows others.
    Owner,
    /// Its owner, and its group if it is root's.
    OwnerAlways,
    /// All users, as the config allows: in containers the mode may not be configurable.
    AllAsConfigured,
    /// All users: it contains no secret.
    All,
}

impl Readers {
    /// Returns the users that may read a secret file.
    pub(super) fn of_secret(allow_world_readable: bool) -> Self {
        if allow_world_readable {
            Self::AllAsConfigured
        } else {
            Self::Owner
        }
    }
}

/// A file that is checked.
pub(super) struct Subject<'a> {
    pub(super) what: &'static str,
    pub(super) path: &'a Path,
    /// The path as messages show it.
    pub(super) shown: String,
    pub(super) naming: Naming,
}

impl<'a> Subject<'a> {
    pub(super) fn new(what: &'static str, path: &'a Path) -> Self {
        Self {
            what,
            path,
            shown: path.display().to_string(),
            naming: Naming::Keys,
        }
    }

    pub(super) fn named(what: &'static str, path: &'a NamedPath) -> Self {
        Self {
            what,
            path: path.path(),
            shown: path.shown(),
            naming: path.naming(),
        }
    }

    pub(super) fn unreadable(&self, source: io::Error) -> CredentialsError {
        CredentialsError::Read {
            what: self.what,
            path: self.shown.clone(),
            advice: on_unreadable(self.path, &self.shown, &source, self.naming),
            source,
        }
    }

    pub(super) fn unsafe_for(&self, problem: String) -> CredentialsError {
        CredentialsError::Unsafe {
            what: self.what,
            path: self.shown.clone(),
            problem,
        }
    }
}

#[cfg(unix)]
impl Subject<'_> {
    /// Returns the error about a file with the wrong owner or mode, with what to do. `instead`, the key that may be set
    /// instead, precedes a command.
    fn unsafe_until(
        &self,
        problem: &str,
        stat: &Metadata,
        required: RequiredMode,
        instead: &str,
    ) -> CredentialsError {
        self.hidden().unwrap_or_else(|| {
            let advice = on_unsafe(self.path, &self.shown, stat, required, self.place());
            let instead = if advice.starts_with("run") {
                instead
            } else {
                ""
            };
            self.unsafe_for(format!("{problem}; {instead}{advice}"))
        })
    }

    /// Returns the error about a file that the unit hides, which no command makes usable.
    fn hidden(&self) -> Option<CredentialsError> {
        on_hidden(self.path, self.place()).map(|problem| self.unsafe_for(problem))
    }

    /// Returns the directory for such files.
    fn place(&self) -> &'static str {
        match self.what {
            PROGRAM => "/usr/local/bin",
            AUDIT => "/var/log/domo-token",
            _ => HOST_DIRECTORY,
        }
    }
}

/// Reads a file of `most` bytes at most, after checking the open descriptor.
pub(super) fn read(
    path: &NamedPath,
    what: &'static str,
    readers: Readers,
    most: usize,
) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let subject = Subject::named(what, path);
    let failed = |source| subject.unreadable(source);
    let mut file = open(subject.path, subject.naming).map_err(failed)?;
    check_access(&file, &subject, readers)?;
    read_all(&mut file, most).map_err(failed)
}

/// Reads a file without checking it: a config, whose content decides who may read it, or a file that systemd has created
/// for the service.
pub(super) fn read_unchecked(path: &Path, most: usize) -> io::Result<(File, Zeroizing<Vec<u8>>)> {
    let mut file = open(path, Naming::Keys)?;
    let content = read_all(&mut file, most)?;
    Ok((file, content))
}

/// Opens without blocking, so that a FIFO cannot block the daemon.
fn open(path: &Path, naming: Naming) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    }
    let file = options.open(path)?;
    let stat = file.metadata()?;
    if stat.is_file() {
        return Ok(file);
    }
    Err(io::Error::other(if stat.is_dir() {
        "it is a directory and not a regular file; use a file in it".to_owned()
    } else {
        format!("not a regular file; {}", naming.change_path())
    }))
}

/// Reads into a buffer that never grows, so that no copy is left in freed memory.
fn read_all(file: &mut File, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let known = usize::try_from(file.metadata()?.len()).unwrap_or(most);
    // Some file systems do not report the size before the file is read.
    let size = if known == 0 { most } else { known.min(most) };
    // One more byte, to detect a longer file.
    let mut bytes = Zeroizing::new(vec![0; size + 1]);
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if filled > most {
        return Err(io::Error::other(format!("it exceeds {most} bytes")));
    }
    if filled == bytes.len() {
        return Err(io::Error::other("it grows while it is read"));
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Checks the open descriptor, so that what was checked is what is read.
#[cfg(unix)]
pub(super) fn check_access(
    file: &File,
    subject: &Subject,
    readers: Readers,
) -> Result<(), CredentialsError> {
    let stat = file
        .metadata()
        .map_err(|source| subject.unreadable(source))?;
    let required = match readers {
        Readers::Owner | Readers::OwnerAlways | Readers::AllAsConfigured => RequiredMode::Secret,
        Readers::All => RequiredMode::Unwritable,
    };
    check_owner(&stat, subject, required)?;
    check_writers(&stat, subject, required)?;
    let (mode, group_may_read) = (stat.mode() & 0o7777, stat.uid() == 0);
    let is_open = mode & 0o004 != 0 || (mode & 0o040 != 0 && !group_may_read);
    if is_open && matches!(readers, Readers::Owner | Readers::OwnerAlways) {
        let key = subject.naming.choose(
            "set allow_world_readable_secret = true where the mode cannot be changed, or ",
            "set DOMO_ALLOW_WORLD_READABLE_SECRET=1 where the mode cannot be changed, or ",
            "",
        );
        let key = if readers == Readers::Owner { key } else { "" };
        let problem = format!("mode {mode:04o} lets others read it");
        return Err(subject.unsafe_until(&problem, &stat, required, key));
    }
    check_directories(subject, Group::MayNotWrite)
}

/// Checks a program that runs as the daemon. The group of the system's directories for local programs may write to them
/// (Debian's `staff`): its members administer the host.
#[cfg(unix)]
pub(super) fn check_program(stat: &Metadata, path: &Path) -> Result<(), CredentialsError> {
    let subject = Subject::new(PROGRAM, path);
    let required = RequiredMode::Unwritable;
    check_owner(stat, &subject, required)?;
    check_writers(stat, &subject, required)?;
    check_directories(&subject, Group::MayWriteRoots)
}

#[cfg(unix)]
const PROGRAM: &str = "the program";

#[cfg(unix)]
const AUDIT: &str = "audit file";

/// Checks what the audit is written to. Its group may write it, as the daemon does if it belongs to root.
#[cfg(unix)]
pub(crate) fn check_audit(stat: &Metadata, path: &Path) -> Result<(), CredentialsError> {
    use std::os::unix::fs::FileTypeExt;
    let subject = Subject::new(AUDIT, path);
    let problem = if stat.is_symlink() {
        Some("is a symlink, which is not followed; use the path of its target")
    } else if stat.is_file() || stat.file_type().is_fifo() {
        None
    } else {
        Some("is neither a regular file nor a FIFO; choose another path")
    };
    if let Some(problem) = problem {
        return Err(subject.unsafe_for(problem.to_owned()));
    }
    let required = RequiredMode::Written;
    check_owner(stat, &subject, required)?;
    check_writers(stat, &subject, required)
}

/// Checks the directories in the path of what the audit is written to.
#[cfg(unix)]
pub(crate) fn check_audit_directories(path: &Path) -> Result<(), CredentialsError> {
    check_directories(&Subject::new(AUDIT, path), Group::MayNotWrite)
}

#[cfg(unix)]
fn check_owner(
    stat: &Metadata,
    subject: &Subject,
    required: RequiredMode,
) -> Result<(), CredentialsError> {
    let (us, owner) = (rustix::process::geteuid().as_raw(), stat.uid());
    if owner == 0 || owner == us {
        return Ok(());
    }
    let or_ours = match us {
        0 => String::new(),
        _ => format!(" or user {}", user_name(us)),
    };
    let problem = format!(
        "belongs to user {}, must belong to root{or_ours}",
        user_name(owner)
    );
    Err(subject.unsafe_until(&problem, stat, required, ""))
}

#[cfg(unix)]
fn check_writers(
    stat: &Metadata,
    subject: &Subject,
    required: RequiredMode,
) -> Result<(), CredentialsError> {
    let mode = stat.mode() & 0o7777;
    if mode & required.forbidden_bits() == 0 {
        return Ok(());
    }
    let problem = format!("mode {mode:04o} lets others write it");
    Err(subject.unsafe_until(&problem, stat, required, ""))
}

/// Whether the group of a directory may write to it.
#[cfg(unix)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    MayNotWrite,
    /// It may if the directory belongs to root.
    MayWriteRoots,
}

/// Checks the directory of the file and those of symlinks in its path: a user that can write to one of them can replace
/// the file.
#[cfg(unix)]
fn check_directories(subject: &Subject, group: Group) -> Result<(), CredentialsError> {
    let us = rustix::process::geteuid().as_raw();
    for name in symlink_chain(subject.path) {
        let directory = name.parent().unwrap_or(Path::new("/"));
        let stat = directory
            .metadata()
            .map_err(|source| Subject::new(subject.what, directory).unreadable(source))?;
        let (mode, owner) = (stat.mode() & 0o7777, stat.uid());
        if is_read_only(directory) {
            continue;
        }
        let checked = Subject::new("the directory", directory);
        if owner != 0 && owner != us {
            let owner = user_name(owner);
            let advice = on_foreign(subject.place());
            let problem = format!("belongs to user {owner}, who can replace files in it; {advice}");
            return Err(subject
                .hidden()
                .unwrap_or_else(|| checked.unsafe_for(problem)));
        }
        let forbidden = match group {
            Group::MayWriteRoots if owner == 0 => 0o002,
            Group::MayWriteRoots | Group::MayNotWrite => 0o022,
        };
        if mode & forbidden != 0 && mode & 0o1000 == 0 {
            let advice = on_open_directory(directory, owner);
            let problem = format!("mode {mode:04o} lets others replace files in it; {advice}");
            return Err(subject
                .hidden()
                .unwrap_or_else(|| checked.unsafe_for(problem)));
        }
    }
    Ok(())
}

#[cfg(unix)]
fn is_read_only(directory: &Path) -> bool {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    statvfs(directory).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub(super) use windows::{check_access, check_program};

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    /// Stops the threads when it is dropped, also by a panic: a scope waits for them before it unwinds.
    struct StopOnDrop<'a>(&'a AtomicBool);

    impl Drop for StopOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn file_swapped_during_the_read_never_passes_the_check() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, mode) in [("safe", 0o600), ("open", 0o644)] {
            fs::write(at(name), name).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("safe", at("secret")).unwrap();
        let over = AtomicBool::new(false);
        let (accepted, rejected) = thread::scope(|scope| {
            let _guard = StopOnDrop(&over);
            let swap = |name| {
                symlink(name, at("next")).unwrap();
                fs::rename(at("next"), at("secret")).unwrap();
                !over.load(Ordering::Relaxed)
            };
            scope.spawn(move || while swap("open") && swap("safe") {});
            let (mut accepted, mut rejected) = (0, 0);
            for _ in 0..100_000 {
                match read(&at("secret").into(), "secret", Readers::Owner, 64) {
                    Ok(bytes) => {
                        assert_eq!(*bytes, b"safe");
                        accepted += 1;
                    }
                    Err(CredentialsError::Unsafe { .. }) => rejected += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (accepted, rejected)
        });
        assert!(
            accepted > 100 && rejected > 100,
            "{accepted} accepted, {rejected} rejected"
        );
    }
}
