//! What to do about a file that the daemon cannot read, or a program that it cannot start, on Windows.

use std::io;
use std::path::Path;

use crate::config::Naming;

/// Returns what to do about a file that cannot be read, as the end of a message.
pub(crate) fn on_unreadable(_: &Path, _: &str, error: &io::Error, naming: Naming) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return format!("; create it, or {}", naming.change_path());
    }
    let advice = if error.kind() == io::ErrorKind::PermissionDenied {
        "; make it readable for the daemon's user or its group"
    } else {
        ""
    };
    advice.to_owned()
}

/// Returns what to do about a program that cannot be started, as the end of a message.
pub(super) fn on_unstartable(program: &Path, error: &io::Error) -> String {
    on_unreadable(program, "", error, Naming::Keys)
}

/// Returns the command that runs a program.
pub(super) fn by_hand(program: &str) -> String {
    shell_quoted(program)
}

/// Returns a text as one word of a command line.
pub(crate) fn shell_quoted(text: &str) -> String {
    format!("\"{text}\"")
}
