//! Who may read or change a file on Windows, by its access list and by those of the directories
//! that lead to it.

use std::fs::{File, Metadata};
use std::path::Path;

use super::{Readers, read_error, unsafe_file};
use crate::acl::{self, Closed};
use crate::credentials::CredentialsError;
use crate::watch::names_on_the_way;

/// Judges the open file, so that what was judged is what is read.
pub(in crate::credentials) fn check_access(
    file: &File,
    what: &'static str,
    path: &Path,
    readers: Readers,
) -> Result<(), CredentialsError> {
    let unreadable = |source| read_error(what, path, source);
    let (closed, or) = match readers {
        Readers::Owner => (
            Closed::ToReaders,
            ", or set allow_world_readable_secret = true where the access list can't be changed",
        ),
        Readers::AllAsConfigured | Readers::All => (Closed::ToWriters, ""),
    };
    if let Some(fault) = acl::fault(file, closed).map_err(unreadable)? {
        let remedy = acl::remedy(path).map_err(unreadable)?;
        let problem = format!("{fault}; run: {remedy}{or}");
        return Err(unsafe_file(what, path, problem));
    }
    check_directories(what, path)
}

/// Judges a program that runs as the daemon.
pub(in crate::credentials) fn check_program(
    _: &Metadata,
    path: &Path,
) -> Result<(), CredentialsError> {
    const WHAT: &str = "the program";
    let file = File::open(path).map_err(|source| read_error(WHAT, path, source))?;
    check_access(&file, WHAT, path, Readers::All)
}

/// Whoever can replace files in a directory that leads to the file, its own or one that holds a
/// symlink on the way, can put another in its place.
fn check_directories(what: &'static str, path: &Path) -> Result<(), CredentialsError> {
    for name in names_on_the_way(path) {
        let Some(directory) = name.parent() else {
            continue;
        };
        let fault = acl::fault_of_directory(directory);
        if let Some(problem) = fault.map_err(|source| read_error(what, directory, source))? {
            return Err(unsafe_file("the directory", directory, problem));
        }
    }
    Ok(())
}
