//! Files of secrets: opened once, judged by the open descriptor, read into a buffer that is wiped.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::{CredentialsError, MAX_SECRET};

/// Reads a file that only we, and root, may read; with `shared` others may, too.
pub(super) fn read_secret(
    path: &Path,
    what: &'static str,
    shared: bool,
) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let failed = |source| read_error(what, path, source);
    let mut file = open(path).map_err(failed)?;
    check_access(&file, what, path, shared)?;
    read_all(&mut file).map_err(failed)
}

/// Reads a file whoever owns it and may read it.
pub(super) fn read_any(
    path: &Path,
    what: &'static str,
) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let bytes = open(path).and_then(|mut file| read_all(&mut file));
    bytes.map_err(|source| read_error(what, path, source))
}

/// Opens without blocking, so that a FIFO in the file's place can't hold the daemon up.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::other("not a regular file"))
}

/// Reads into one buffer that never grows, so that no copy is left behind in freed memory.
fn read_all(file: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; MAX_SECRET + 1]);
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if filled > MAX_SECRET {
        return Err(io::Error::other(format!("longer than {MAX_SECRET} bytes")));
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn read_error(what: &'static str, path: &Path, source: io::Error) -> CredentialsError {
    CredentialsError::Read {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Judges the open descriptor, so that what was judged is what is read.
#[cfg(unix)]
pub(super) fn check_access(
    file: &File,
    what: &'static str,
    path: &Path,
    shared: bool,
) -> Result<(), CredentialsError> {
    use std::os::unix::fs::MetadataExt;
    let refuse = |path: &Path, problem: String| CredentialsError::Unsafe {
        what,
        path: path.to_owned(),
        problem,
    };
    let stat = file
        .metadata()
        .map_err(|source| read_error(what, path, source))?;
    let us = rustix::process::geteuid().as_raw();
    let mode = stat.mode() & 0o7777;
    let run = format!("run: chmod 600 {}", path.display());
    if stat.uid() != 0 && stat.uid() != us {
        let owner = stat.uid();
        let problem = format!("belongs to user {owner}, must be root's or user {us}'s");
        return Err(refuse(
            path,
            format!("{problem}; run: chown {us} {}", path.display()),
        ));
    }
    if mode & 0o022 != 0 {
        return Err(refuse(
            path,
            format!("mode {mode:04o} lets others write it; {run}"),
        ));
    }
    let group_may_read = stat.uid() == 0 || shared;
    if (mode & 0o004 != 0 && !shared) || (mode & 0o040 != 0 && !group_may_read) {
        let key = "or set allow_world_readable_secret = true where the mode can't be changed";
        return Err(refuse(
            path,
            format!("mode {mode:04o} lets others read it; {run}, {key}"),
        ));
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    let stat = directory
        .metadata()
        .map_err(|source| read_error(what, directory, source))?;
    let mode = stat.mode() & 0o7777;
    if mode & 0o022 != 0 && mode & 0o1000 == 0 && !is_read_only(directory) {
        let directory_text = directory.display();
        let problem = format!("mode {mode:04o} lets others replace files in it");
        return Err(refuse(
            directory,
            format!("{problem}; run: chmod go-w {directory_text}"),
        ));
    }
    Ok(())
}

#[cfg(unix)]
fn is_read_only(directory: &Path) -> bool {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    statvfs(directory).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Windows has no mode bits; the file's access list is the administrator's.
#[cfg(not(unix))]
pub(super) fn check_access(
    _: &File,
    _: &'static str,
    _: &Path,
    _: bool,
) -> Result<(), CredentialsError> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_file_swapped_while_it_is_read_is_never_taken_for_the_safe_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, mode) in [("safe", 0o600), ("open", 0o644)] {
            fs::write(at(name), name).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("safe", at("secret")).unwrap();
        let over = AtomicBool::new(false);
        let (taken, refused) = thread::scope(|scope| {
            let swap = |name| {
                symlink(name, at("next")).unwrap();
                fs::rename(at("next"), at("secret")).unwrap();
                !over.load(Ordering::Relaxed)
            };
            scope.spawn(move || while swap("open") && swap("safe") {});
            let (mut taken, mut refused) = (0, 0);
            for _ in 0..100_000 {
                match read_secret(&at("secret"), "secret", false) {
                    Ok(bytes) => {
                        assert_eq!(*bytes, b"safe");
                        taken += 1;
                    }
                    Err(CredentialsError::Unsafe { .. }) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            over.store(true, Ordering::Relaxed);
            (taken, refused)
        });
        assert!(
            taken > 100 && refused > 100,
            "{taken} taken, {refused} refused"
        );
    }
}
