//! Writes the config and the secret file, neither over an existing one nor readable by others for an
//! instant.

use std::fs::File;
#[cfg(unix)]
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::InitError;
use crate::commands::check;
#[cfg(unix)]
use crate::platform::file_mode;

/// Writes both files or none.
pub(super) fn write(
    path: &Path,
    text: &str,
    secret_path: &Path,
    secret: &SecretString,
) -> Result<(), InitError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| InitError::Write { path, source }
    };
    let service = check::service_group(path);
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        make_directory(directory, service).map_err(failed(directory))?;
    }
    let secret_mode = service.map_or(0o600, |_| 0o640);
    create(secret_path, secret.expose_secret(), secret_mode, service)
        .map_err(failed(secret_path))?;
    let mode = service.map_or(0o600, |_| 0o644);
    if let Err(error) = create(path, text, mode, None) {
        // A secret that no config names would prevent the next run.
        let _ = std::fs::remove_file(secret_path);
        return Err(failed(path)(error));
    }
    Ok(())
}

/// Creates a directory with mode 0700, or 0755 for the service, whose user must enter it; on Windows with the access
/// list of its parent.
#[cfg_attr(windows, expect(unused_variables, reason = "modes are Unix's"))]
fn make_directory(directory: &Path, service: Option<u32>) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    #[cfg(windows)]
    std::fs::create_dir_all(directory)?;
    #[cfg(unix)]
    file_mode::create_directories(directory, 0o700)?;
    #[cfg(unix)]
    if service.is_some() {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Creates a file that only this user can read at first, then with that mode and group; never replaces a file.
fn create(path: &Path, text: &str, mode: u32, group: Option<u32>) -> io::Result<()> {
    let mut file = create_closed(path)?;
    let written = fill(&mut file, text, mode, group);
    if written.is_err() {
        // Half a file would prevent the next run.
        let _ = std::fs::remove_file(path);
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
fn fill(file: &mut File, text: &str, mode: u32, group: Option<u32>) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{PermissionsExt, fchown};
        fchown(&*file, None, group)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    file.write_all(text.as_bytes())?;
    file.write_all(if text.ends_with('\n') { b"" } else { b"\n" })
}
