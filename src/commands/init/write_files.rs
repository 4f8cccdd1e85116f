//! Writes the config and the secret file, neither over an existing one nor readable by others for an
//! instant.

use std::io;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::InitError;
use crate::commands::check;
use crate::commands::new_file::{self, FileAccess};
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

fn create(path: &Path, text: &str, mode: u32, group: Option<u32>) -> io::Result<()> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let access = FileAccess {
        mode,
        user: None,
        group,
    };
    new_file::create(path, &[text.as_bytes(), end.as_bytes()], access)
}
