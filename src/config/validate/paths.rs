//! Validates paths.

use std::path::Path;

use domo_token_client::parse_socket_path::{SocketPath, is_tilde};

use crate::config::{IN_QUOTES, is_quoted};

/// Returns what is wrong with the path of a file.
#[must_use]
pub fn validate_path(path: &Path) -> Option<&'static str> {
    if path.as_os_str().is_empty() {
        return Some("empty: must be the path of a file");
    }
    let text = path.to_string_lossy();
    if is_quoted(&text) {
        return Some(IN_QUOTES);
    }
    is_tilde(&text).then_some("the tilde is not expanded; write the full path")
}

/// What to do about a login in the place of the path of its file.
pub const NOT_THE_LOGIN: &str = "must be the path of a file, not the login itself; write the login to \
                                 a file of mode 0600 and use its path";

/// Returns what is wrong with the path of a login file: it is the login itself, which messages would show.
pub(in crate::config) fn validate_login_file(path: &Path) -> Option<&'static str> {
    let text = path.to_string_lossy();
    let (before, after) = text.split_once(':')?;
    let is_drive = before.len() == 1 && after.starts_with(['/', '\\']);
    let is_login = !(before.contains('/') || cfg!(windows) && is_drive);
    is_login.then_some(NOT_THE_LOGIN)
}

/// Returns what else is wrong with the path of a socket: it is written as a URL.
pub(in crate::config) fn validate_socket(path: &Path) -> Option<String> {
    if validate_path(path).is_some() {
        return None;
    }
    match SocketPath::read(path.as_os_str(), None) {
        Ok(SocketPath::Plain(_)) => None,
        Ok(SocketPath::Url(path)) => {
            let path = path.display();
            Some(format!(
                "must be a plain path, without \"unix:\"; write {path}"
            ))
        }
        // Which names the URL to write; here it is the path alone.
        Err(problem) => Some(problem.replace("write unix://", "write ")),
    }
}
