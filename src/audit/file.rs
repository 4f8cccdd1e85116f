//! The audit file: how lines are written, opening it again after log rotation, and who may own it.

#[cfg(unix)]
use std::fs;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{MAX_QUEUED, Message, Shared};
#[cfg(unix)]
use crate::credentials::{CredentialsError, check_audit, check_audit_directories};
#[cfg(unix)]
use crate::platform::file_mode;
use crate::platform::threads;
#[cfg(unix)]
use rustix::fs::{Access, OFlags, access, fcntl_setfl};
#[cfg(unix)]
use rustix::io::Errno;

/// Writes the queued lines.
#[derive(Debug)]
pub struct Writer {
    pub(super) file: File,
    receiver: mpsc::Receiver<Message>,
    pub(super) shared: Arc<Shared>,
    /// Whether the file ends within a line, which the next one must not continue.
    is_torn: bool,
    /// Whether the last write failed, which is logged once.
    is_failing: bool,
}

impl Writer {
    /// Opens the file, for the lines of `receiver`.
    pub(super) fn open(
        path: &Path,
        receiver: mpsc::Receiver<Message>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self {
            is_torn: is_torn(&file, path),
            file,
            receiver,
            shared,
            is_failing: false,
        })
    }

    /// Writes lines until `Audit::finish`.
    pub async fn run(mut self) {
        let mut messages = Vec::new();
        while self.receiver.recv_many(&mut messages, MAX_QUEUED).await > 0 {
            let mut text = String::new();
            let mut count = 0;
            let mut is_end = false;
            for message in messages.drain(..) {
                match message {
                    Message::Line(line) => {
                        text.push_str(&line);
                        count += 1;
                    }
                    Message::End => is_end = true,
                }
            }
            let (writer, written) = threads::run_with(self, move |writer| {
                let (complete, error) = writer.write(text);
                writer.report(count, complete, error);
            })
            .await;
            // It panicked, which was logged.
            let Some(writer) = writer else {
                return;
            };
            self = writer;
            if let Err(error) = written {
                self.report(count, 0, Some(error));
            }
            if is_end {
                return;
            }
        }
    }

    /// Writes the lines. Returns how many of them are complete in the file, and the error that prevented the
    /// others.
    pub(super) fn write(&mut self, mut lines: String) -> (u64, Option<io::Error>) {
        let path = &self.shared.path;
        if !same_file(&self.file, path) {
            match open(path) {
                Ok(file) => self.file = file,
                Err(error) => return (0, Some(error)),
            }
            self.is_torn = is_torn(&self.file, path);
        }
        // Readers then skip only the torn line.
        let ends = u64::from(self.is_torn);
        if self.is_torn {
            lines.insert(0, '\n');
        }
        let (written, error) = append(&mut self.file, lines.as_bytes());
        if let Some(last) = written.last() {
            self.is_torn = *last != b'\n';
        }
        let breaks = written.split(|byte| *byte == b'\n').skip(1).count();
        let complete = u64::try_from(breaks).unwrap_or(u64::MAX);
        (complete.saturating_sub(ends), error)
    }

    pub(super) fn report(&mut self, count: u64, complete: u64, error: Option<io::Error>) {
        let path = self.shared.path.display();
        // Fewer if `finish` has counted them as lost already.
        let less = |queued: u64| Some(queued.saturating_sub(count));
        let counts = self
            .shared
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let counts = counts.unwrap_or_default().min(count);
        match error {
            // Without a line nothing was written.
            None if count > 0 && std::mem::replace(&mut self.is_failing, false) => {
                info!("audit file {path} is writable again");
            }
            None => {}
            Some(error) => {
                let lost = count.saturating_sub(complete).min(counts);
                self.shared.lost.fetch_add(lost, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!(
                        "cannot write audit file {path}: {error}; lines are lost until it is \
                           writable"
                    );
                }
            }
        }
    }
}

/// Writes as much as possible. Returns what was written, and the error that prevented the rest.
fn append<'a>(file: &mut File, text: &'a [u8]) -> (&'a [u8], Option<io::Error>) {
    let mut rest = text;
    let error = loop {
        if rest.is_empty() {
            break None;
        }
        match file.write(rest) {
            Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Some(error),
        }
    };
    let written = text.len() - rest.len();
    (text.get(..written).unwrap_or_default(), error)
}

/// Opens or creates the file at `path`.
///
/// # Errors
///
/// What the system returns, or why the file isn't safe to write to.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
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
                io::Error::new(io::ErrorKind::NotConnected, "the pipe has no reader")
            }
            Some(_) | None => error,
        })?;
    // The open file is checked, because the one at the path may have changed.
    check_audit(&file.metadata()?, path).map_err(|error| without_path(error, path))?;
    fcntl_setfl(&file, OFlags::APPEND)?;
    file_mode::restore_owner(&file, 0o600)?;
    Ok(file)
}

/// Opens or creates the file at `path`, which inherits the access list of its directory.
#[cfg(windows)]
fn open(path: &Path) -> io::Result<File> {
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

/// Returns standard output or standard error, if `path` names one of them. The user that started the daemon
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

/// Returns whether the file at `path`, as an earlier process may have left it, ends within a line.
fn is_torn(file: &File, path: &Path) -> bool {
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

/// Returns whether `path` still leads to that file, which log rotation renames.
#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |stat: fs::Metadata| (stat.dev(), stat.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(found)) => id(open) == id(found),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

/// Returns whether `path` still leads to that file; Windows identifies a file only while it is open.
#[cfg(windows)]
fn same_file(file: &File, path: &Path) -> bool {
    use same_file::Handle;
    match (
        file.try_clone().and_then(Handle::from_file),
        Handle::from_path(path),
    ) {
        (Ok(open), Ok(found)) => open == found,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}
