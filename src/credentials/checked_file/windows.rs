//! Checks which users may read or change a file on Windows, by its access list and those of the directories in its path.

use std::fs::{File, Metadata};
use std::path::Path;

use super::{Readers, Subject};
use crate::credentials::CredentialsError;
use crate::platform::acl::{self, Closed};
use crate::platform::symlink_chain::symlink_chain;

/// Checks the open file, so that what was checked is what is read.
pub(in crate::credentials) fn check_access(
    file: &File,
    subject: &Subject,
    readers: Readers,
) -> Result<(), CredentialsError> {
    let unreadable = |source| subject.unreadable(source);
    let (closed, or) = match readers {
        Readers::Owner => (
            Closed::ToReaders,
            subject.naming.choose(
                ", or set allow_world_readable_secret = true where the access list cannot be changed",
                ", or set DOMO_ALLOW_WORLD_READABLE_SECRET=1 where the access list cannot be changed",
                "",
            ),
        ),
        Readers::OwnerAlways => (Closed::ToReaders, ""),
        Readers::AllAsConfigured | Readers::All => (Closed::ToWriters, ""),
    };
    if let Some(fault) = acl::fault(file, closed).map_err(unreadable)? {
        let remedy = acl::remedy(subject.path).map_err(unreadable)?;
        let problem = format!("{fault}; run: {remedy}{or}");
        return Err(subject.unsafe_for(problem));
    }
    check_directories(subject)
}

/// Checks a program that runs as the daemon.
pub(in crate::credentials) fn check_program(
    _: &Metadata,
    path: &Path,
) -> Result<(), CredentialsError> {
    let subject = Subject::new("the program", path);
    let file = File::open(path).map_err(|source| subject.unreadable(source))?;
    check_access(&file, &subject, Readers::All)
}

/// Checks the directory of the file and those of symlinks in its path: a user that can replace files in one of them can
/// replace the file.
fn check_directories(subject: &Subject) -> Result<(), CredentialsError> {
    for name in symlink_chain(subject.path) {
        let Some(directory) = name.parent() else {
            continue;
        };
        let fault = acl::validate_directory(directory);
        let unreadable = |source| Subject::new(subject.what, directory).unreadable(source);
        if let Some(problem) = fault.map_err(unreadable)? {
            return Err(Subject::new("the directory", directory).unsafe_for(problem));
        }
    }
    Ok(())
}
