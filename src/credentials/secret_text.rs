//! Extracts the secret from the text of a source of credentials, or explains why there is none.

use secrecy::SecretString;

use super::{CredentialsError, unusable};
use crate::config::{is_valid_secret, without_mark};

const UTF_16: &str = "in UTF-16; save it as UTF-8";

/// Returns a file's text without the byte order mark at its start.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, &'static str> {
    let is_utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    let text = std::str::from_utf8(bytes).map(without_mark);
    text.map_err(|_| {
        if is_utf16 {
            UTF_16
        } else {
            "not UTF-8; save it as UTF-8"
        }
    })
}

/// Returns the secret of a source.
pub(super) fn check_secret(
    bytes: &[u8],
    what: &'static str,
    from: &str,
) -> Result<SecretString, CredentialsError> {
    secret_in(bytes).map_err(|problem| unusable(what, from, problem))
}

/// Returns the secret of a source, or why it cannot be one.
pub(super) fn secret_in(bytes: &[u8]) -> Result<SecretString, &'static str> {
    line_in(bytes).map(SecretString::from)
}

/// Returns the only line of a text.
pub(super) fn line_in(bytes: &[u8]) -> Result<&str, &'static str> {
    let text = utf8(bytes)?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err("empty");
    }
    if is_valid_secret(line) {
        return Ok(line);
    }
    Err(fault_of(line))
}

fn fault_of(text: &str) -> &'static str {
    let is_break = |c: char| matches!(c, '\r' | '\n');
    let nulls = text.bytes().filter(|byte| *byte == 0).count();
    if nulls * 3 > text.len() {
        // In UTF-16 every other byte of ASCII is NUL.
        UTF_16
    } else if nulls > 0 {
        "contains a NUL byte; remove it"
    } else if text.starts_with(is_break) {
        "begins with an empty line; remove it"
    } else if text.contains(is_break) && text.starts_with(['#', ';']) {
        "begins with a comment line; remove it"
    } else if text.contains(is_break) {
        "has more than one line; keep only the one with the value"
    } else {
        "contains a tab or another control character; remove it"
    }
}
