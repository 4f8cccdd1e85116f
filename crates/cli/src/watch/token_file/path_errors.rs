//! Errors for paths where no token file is possible, with the path to use instead.

use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute, is_separator};

use super::Kind;
use super::atomic_write::kind_at;
use crate::error::CliError;
use crate::exit_code::IO_ERROR;
use crate::shell_quote;

/// The advice for a path where no file is possible.
const NO_FILE: &str = "to print the token, omit --to";

/// The maximum number of consecutive links that the system follows.
const MOST_LINKS: usize = 40;

/// Returns an error if there is something other than a regular file at the path.
pub(super) fn check(path: &Path) -> Result<(), CliError> {
    let kind = kind_at(path);
    if let Some(bare) = without_separators(path)
        && !matches!(kind, Ok(Some(Kind::Directory)))
    {
        let advice = match kind_at(bare) {
            Ok(None | Some(Kind::Regular)) => replace_by("a file", bare),
            Ok(Some(_)) | Err(_) => NO_FILE.to_owned(),
        };
        return Err(cannot_write(path, "the path ends with a slash", &advice));
    }
    match kind.map_err(|error| failed(path, &error))? {
        None | Some(Kind::Regular) => Ok(()),
        Some(kind) => Err(refusal(path, kind)),
    }
}

/// Returns the error of a write or a lookup.
pub(super) fn failed(path: &Path, error: &io::Error) -> CliError {
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    let missing = parent.filter(|parent| !parent.exists());
    let advice = match missing {
        _ if error.kind() != io::ErrorKind::NotFound => String::new(),
        _ if leads_to_system(path) => NO_FILE.to_owned(),
        Some(parent) => {
            let quoted = shell_quote::quoted(&parent.display().to_string());
            format!("create its directory with: mkdir -p {quoted}")
        }
        None => String::new(),
    };
    cannot_write(path, &error.to_string(), &advice)
}

fn cannot_write(path: &Path, cause: &str, advice: &str) -> CliError {
    let shown = path.display();
    let separator = if advice.is_empty() { "" } else { "; " };
    let message = format!("cannot write {shown}: {cause}{separator}{advice}");
    CliError::new(IO_ERROR, message)
}

/// Returns the error for a path with a file that must not be replaced.
fn refusal(path: &Path, kind: Kind) -> CliError {
    let leads_to_directory = kind == Kind::Symlink && path.is_dir();
    let mut cause = kind.error().to_string();
    if leads_to_directory {
        cause.push_str(" to a directory");
    }
    let advice = match kind {
        Kind::Directory | Kind::Symlink if leads_to_system(path) => None,
        Kind::Symlink if !leads_to_directory => {
            target(path).map(|target| replace_by("its target", &target))
        }
        Kind::Directory | Kind::Symlink => Some(replace_by("a file in it", &path.join("token"))),
        Kind::Regular | Kind::Other(_) => None,
    };
    cannot_write(path, &cause, advice.as_deref().unwrap_or(NO_FILE))
}

/// Returns the advice to use that path, with a warning if it is a file whose content would be lost.
fn replace_by(what: &str, path: &Path) -> String {
    let has_content = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0);
    let warning = if has_content {
        " (it is replaced, and removed at the end)"
    } else {
        ""
    };
    format!("use {what}{warning}: --to {}", path.display())
}

/// Returns the target of a symbolic link, if a token file is possible there.
fn target(link: &Path) -> Option<PathBuf> {
    let resolved = fs::canonicalize(link).or_else(|_| {
        let next = fs::read_link(link)?;
        Ok::<_, io::Error>(link.parent().unwrap_or(link).join(next))
    });
    let target = resolved.ok()?;
    let is_usable = match kind_at(&target).ok()? {
        Some(kind) => kind == Kind::Regular,
        None => target
            .parent()
            .is_some_and(|parent| parent.as_os_str().is_empty() || parent.is_dir()),
    };
    is_usable.then_some(target)
}

/// Returns whether a path, or a link on its way, is in `/proc` or `/dev`. The files there represent
/// devices and open files of a process: the target of `/dev/stdout` may be a log.
fn leads_to_system(path: &Path) -> bool {
    let mut path = absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..MOST_LINKS {
        let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
        let place = match (parent, path.file_name()) {
            (Some(parent), Some(name)) => parent.join(name),
            _ => path.clone(),
        };
        if ["/proc", "/dev"].iter().any(|root| place.starts_with(root)) {
            return !place.starts_with("/dev/shm");
        }
        let Ok(next) = fs::read_link(&path) else {
            return false;
        };
        path = path.parent().unwrap_or(&path).join(next);
    }
    false
}

/// Returns the path without the separators at its end, if it has any.
fn without_separators(path: &Path) -> Option<&Path> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let last = char::from(*bytes.last()?);
    // `Path` ignores such an end in comparisons and components.
    let bare = path.components().as_path();
    (is_separator(last) && bare.file_name().is_some()).then_some(bare)
}
