//! The token file of `watch --to`: replaced atomically, retried after errors, removed when its token
//! expires.

#[cfg(unix)]
mod atomic_write_unix;
#[cfg(windows)]
mod atomic_write_windows;
mod path_errors;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domo_token_client::Token;
use domo_token_client::clock::boot_now;
use domo_token_protocol::BootTime;
use domo_token_protocol::duration::show;

use crate::args::Watch;
use crate::error::CliError;
use crate::stderr::report;
use crate::{output, shell_quote};

#[cfg(unix)]
use atomic_write_unix as atomic_write;
#[cfg(windows)]
use atomic_write_windows as atomic_write;

use atomic_write::{PlacedFile, kind_at, put};

/// The pause after the first of several errors; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The type of the file at a path, without following symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Regular,
    Directory,
    Symlink,
    Other(&'static str),
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Other(name) => name,
        }
    }

    fn error(self) -> io::Error {
        io::Error::other(format!("it is {}", self.name()))
    }
}

/// The file at the path now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The file of this process.
    Placed,
    Other,
    /// Nothing, or the path cannot be looked up.
    Nothing,
}

/// The token file of this process.
pub(super) struct TokenFile<'a> {
    path: PathBuf,
    args: &'a Watch,
    /// The file that this process put there, with its token, until it is removed.
    placed: Option<(PlacedFile, Token)>,
    /// The generation that was written last.
    written: Option<u64>,
    /// The generation of the last attempt to write.
    attempted: Option<u64>,
    writing: Retry,
    removal: Retry,
}

impl<'a> TokenFile<'a> {
    /// Returns the file to keep at `path`.
    ///
    /// # Errors
    ///
    /// If something other than a regular file is there.
    pub(super) fn at(path: &Path, args: &'a Watch) -> Result<Self, CliError> {
        path_errors::check(path)?;
        Ok(Self {
            path: path.to_owned(),
            args,
            placed: None,
            written: None,
            attempted: None,
            writing: Retry::default(),
            removal: Retry::default(),
        })
    }

    /// Writes the newest token unless it is in place, and removes a token that is valid for `least` or less.
    /// Reports an error once and retries later, except for the first write.
    pub(super) fn update(
        &mut self,
        newest: Option<&Token>,
        least: Duration,
    ) -> Result<(), CliError> {
        let now = boot_now();
        let found = self.check();
        if let Some(token) = newest {
            let is_written = self.written == Some(token.generation());
            if is_in_place(is_written, found, self.writing.is_failing()) {
                self.report_recovery();
            } else if self.attempted != Some(token.generation()) || self.writing.is_due(now) {
                self.write(token, now)?;
            }
        }
        if self.left(least) == Some(Duration::ZERO) && self.removal.is_due(now) {
            self.remove(now);
        }
        Ok(())
    }

    /// Returns the time until [`Self::update`] has to write or remove the file without a new token.
    pub(super) fn wait(&self, newest: Option<&Token>, least: Duration) -> Option<Duration> {
        let now = boot_now();
        // Without a valid token, there is nothing to write.
        let write = newest.and_then(|_| self.writing.wait(now));
        let removal = self.removal.wait(now).or_else(|| self.left(least));
        [write, removal].into_iter().flatten().min()
    }

    /// Removes the file at the end of the process. An error is reported.
    pub(super) fn remove_at_end(&mut self) {
        if let Some((file, _)) = self.placed.take()
            && let Err(error) = file.remove()
        {
            let path = self.path.display();
            let quoted = shell_quote::quoted(&path.to_string());
            report(&format!(
                "cannot remove the token file {path}: {error}; remove it with: rm {quoted}"
            ));
        }
    }

    fn check(&mut self) -> Found {
        // A deleted file that is open prevents a read-only remount.
        let deleted = |(file, _): &(PlacedFile, Token)| file.is_deleted();
        if self.placed.as_ref().is_some_and(deleted) {
            self.placed = None;
            self.removal = Retry::default();
        }
        match &self.placed {
            Some((file, _)) => file.find(&self.path),
            None => match kind_at(&self.path) {
                Ok(Some(_)) => Found::Other,
                Ok(None) | Err(_) => Found::Nothing,
            },
        }
    }

    /// Returns for how long the token in the file can be used.
    fn left(&self, least: Duration) -> Option<Duration> {
        let (_, token) = self.placed.as_ref()?;
        Some(token.expires_in().saturating_sub(least))
    }

    fn write(&mut self, token: &Token, now: BootTime) -> Result<(), CliError> {
        self.attempted = Some(token.generation());
        let text = output::token(token, &self.args.get);
        match put(&self.path, text.as_bytes(), self.args.mode) {
            Ok(file) => {
                let last = self.placed.replace((file, token.clone()));
                if let Some((last, _)) = last {
                    // It is still there if its directory was moved.
                    let _ = last.remove();
                }
                self.written = Some(token.generation());
                self.report_recovery();
                Ok(())
            }
            Err(error) if self.written.is_none() => Err(path_errors::failed(&self.path, &error)),
            Err(error) => {
                if self.writing.failed(now) {
                    self.report("write", &error, &self.kept());
                }
                Ok(())
            }
        }
    }

    /// Returns what the file contains while it cannot be written.
    fn kept(&self) -> String {
        let is_there = |(file, _): &&(PlacedFile, Token)| file.find(&self.path) == Found::Placed;
        match self.placed.as_ref().filter(is_there) {
            Some((_, token)) => {
                let left = show(token.expires_in());
                format!("retrying, and keeping the last token, which is valid for {left}")
            }
            None => "retrying; it has no token".to_owned(),
        }
    }

    fn remove(&mut self, now: BootTime) {
        let Some((file, _)) = &self.placed else {
            return;
        };
        match file.remove() {
            Ok(()) => {
                self.placed = None;
                if self.removal.succeeded() {
                    report(&format!(
                        "removed the expired token file {}",
                        self.path.display()
                    ));
                }
            }
            Err(error) => {
                if self.removal.failed(now) {
                    self.report("remove", &error, "retrying; its token has expired");
                }
            }
        }
    }

    fn report(&self, action: &str, error: &io::Error, then: &str) {
        let path = self.path.display();
        report(&format!(
            "cannot {action} the token file {path}: {error}; {then}"
        ));
    }

    fn report_recovery(&mut self) {
        self.removal = Retry::default();
        if self.writing.succeeded() {
            report(&format!(
                "wrote the current token to {} after an error",
                self.path.display()
            ));
        }
    }
}

/// Returns whether a written token needs no other write. A file that another process puts in its place
/// stays until the next token. During an error, the file may belong to another directory.
fn is_in_place(is_written: bool, found: Found, is_failing: bool) -> bool {
    is_written
        && match found {
            Found::Placed => true,
            Found::Other => !is_failing,
            Found::Nothing => false,
        }
}

/// The time of the next attempt after a failure, and the pause before it.
#[derive(Default)]
struct Retry(Option<(BootTime, Duration)>);

impl Retry {
    fn is_failing(&self) -> bool {
        self.0.is_some()
    }

    fn is_due(&self, now: BootTime) -> bool {
        self.0.is_none_or(|(due, _)| due <= now)
    }

    fn wait(&self, now: BootTime) -> Option<Duration> {
        self.0.map(|(due, _)| due.saturating_since(now))
    }

    /// Returns whether it is the first error.
    fn failed(&mut self, now: BootTime) -> bool {
        let double = |(_, pause): (BootTime, Duration)| (pause * 2).min(MAX_PAUSE);
        let pause = self.0.map_or(FIRST_PAUSE, double);
        self.0.replace((now + pause, pause)).is_none()
    }

    /// Returns whether it had failed before.
    fn succeeded(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// The maximum number of bytes of the target's name in a temporary name, which has a limited length.
const MAX_PART: usize = 100;

/// Returns a unique name that no pattern for the target's own name matches.
fn temporary_name(target: &OsStr) -> OsString {
    let mut temporary = temporary_prefix(target);
    temporary.push(format!("{:016x}", fastrand::u64(..)));
    temporary
}

/// Returns whether that is a [`temporary_name`] for this target, or for another one that begins with the
/// same [`MAX_PART`] bytes.
#[cfg(unix)]
fn is_temporary_name(name: &OsStr, target: &OsStr) -> bool {
    let prefix = temporary_prefix(target);
    let end = name
        .as_encoded_bytes()
        .strip_prefix(prefix.as_encoded_bytes());
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    end.is_some_and(|end| end.len() == 16 && end.iter().all(is_digit))
}

fn temporary_prefix(target: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    if target.len() <= MAX_PART {
        prefix.push(target);
    } else {
        let name = target.to_string_lossy();
        let part = (0..=MAX_PART).rev().find_map(|end| name.get(..end));
        prefix.push(part.unwrap_or_default());
    }
    prefix.push(".");
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_attempts_double_up_to_the_maximum() {
        let mut retry = Retry::default();
        let mut now = BootTime::from_millis(5);
        assert!(retry.is_due(now) && !retry.is_failing());
        let mut pauses = Vec::new();
        for attempt in 0..8 {
            assert_eq!(retry.failed(now), attempt == 0, "reported once");
            let wait = retry.wait(now).unwrap();
            assert!(!retry.is_due(now) && retry.is_due(now + wait));
            pauses.push(wait.as_secs());
            now = now + wait;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert!(retry.succeeded() && !retry.succeeded());
        assert_eq!(retry.wait(now), None);
    }

    #[test]
    fn temporary_name_of_a_long_name_keeps_its_beginning() {
        let long = "é".repeat(127);
        for (target, part) in [("token", "token"), (&long, &"é".repeat(50))] {
            let name = temporary_name(target.as_ref()).into_string().unwrap();
            let random = name.strip_prefix(&format!(".{part}.")).unwrap();
            assert_eq!(random.len(), 16, "{name}");
        }
    }

    #[test]
    fn written_token_is_written_again_only_where_it_is_missing() {
        for is_failing in [false, true] {
            assert!(is_in_place(true, Found::Placed, is_failing));
            assert!(!is_in_place(true, Found::Nothing, is_failing));
            for found in [Found::Placed, Found::Other, Found::Nothing] {
                assert!(!is_in_place(false, found, is_failing));
            }
        }
        assert!(is_in_place(true, Found::Other, false), "left to its owner");
        assert!(!is_in_place(true, Found::Other, true));
    }
}
