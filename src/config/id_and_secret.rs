//! What an id and a secret can be, wherever they come from.

use super::{InvisibleChar, assignment};

/// UTF-8's byte order mark, with which editors of Windows begin a file.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Returns a text without the byte order mark at its start.
#[must_use]
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Opening and closing quotes, straight ones and those of word processors.
const QUOTES: [char; 13] = [
    '"', '\'', '`', '\u{b4}', '“', '”', '„', '‟', '‘', '’', '‚', '«', '»',
];

/// Returns whether that is a quotation mark of any kind.
#[must_use]
pub fn is_quote(c: char) -> bool {
    QUOTES.contains(&c)
}

/// What to do about a value that [`is_quoted`].
pub const IN_QUOTES: &str = "is enclosed in quotes; remove them";

/// Returns whether a value still has the quotes around it that belong to the syntax of another file.
#[must_use]
pub fn is_quoted(text: &str) -> bool {
    text.len() > 1 && text.starts_with(is_quote) && text.ends_with(is_quote)
}

/// Returns whether a value is what a template or a shell replaces by the value.
#[must_use]
pub fn is_placeholder(text: &str) -> bool {
    const AROUND: [(&str, &str); 5] = [
        ("<", ">"),
        ("${", "}"),
        ("$(", ")"),
        ("{{", "}}"),
        ("%", "%"),
    ];
    let is_enclosed = |(before, after): &(&str, &str)| {
        text.len() > before.len() + after.len() && text.starts_with(before) && text.ends_with(after)
    };
    AROUND.iter().any(is_enclosed) || text.strip_prefix('$').is_some_and(is_name)
}

/// Returns whether the text can be the name of an environment variable.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.len() > 1 && text.starts_with(|c: char| !c.is_ascii_digit()) && text.chars().all(allowed)
}

/// Returns whether that is a UUID, as Domo's client ids are.
#[must_use]
pub fn is_uuid(text: &str) -> bool {
    let is_dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let mut bytes = text.bytes().enumerate();
    text.len() == 36
        && bytes.all(|(at, b)| {
            if is_dash(at) {
                b == b'-'
            } else {
                b.is_ascii_hexdigit()
            }
        })
}

/// Returns why a text can't be a client id, a word of 256 ASCII characters at most; Domo's are UUIDs.
/// Shows nothing of it.
#[must_use]
pub fn validate_id(id: &str) -> Option<&'static str> {
    let is_word = !id.is_empty() && id.len() <= 256 && id.bytes().all(|b| b.is_ascii_graphic());
    if is_quoted(id) {
        return Some(IN_QUOTES);
    }
    if is_placeholder(id) {
        return Some("is a placeholder; replace it with the client id");
    }
    if assignment(id).is_some() {
        return Some("begins with the name of a variable; keep only the client id");
    }
    if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some("looks like the secret; check that id and secret are not swapped");
    }
    let ends = [id.chars().next(), id.chars().next_back()];
    if !is_word && ends.into_iter().flatten().any(char::is_whitespace) {
        return Some("begins or ends with a space or a line break; remove it");
    }
    match id.chars().find_map(InvisibleChar::of) {
        Some(InvisibleChar::ZeroWidth) => return Some("contains a zero-width space; remove it"),
        Some(InvisibleChar::Format) => return Some("contains an invisible character; remove it"),
        Some(InvisibleChar::Blank | InvisibleChar::NoBreak) | None => {}
    }
    (!is_word).then_some("must be 1 to 256 printable ASCII characters without a space")
}

/// Returns whether a text has the form of a client id.
#[must_use]
pub fn is_valid_client_id(id: &str) -> bool {
    validate_id(id).is_none()
}

/// Returns whether a text has the form of a secret.
#[must_use]
pub fn is_valid_secret(secret: &str) -> bool {
    !secret.is_empty() && !secret.chars().any(char::is_control)
}
