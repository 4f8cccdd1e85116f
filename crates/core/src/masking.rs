//! Names as messages show them. Users put secrets where a file, a variable or a key belongs, so text that looks like a
//! secret is masked.

use std::borrow::Cow;
use std::fmt;

/// Minimum length of text that is taken for a secret: Domo's have 64 characters, and few names are this long.
pub const MIN_SECRET_CHARS: usize = 32;

/// How many of a secret's characters are shown, so that the user can find it.
const SHOWN_CHARS: usize = 8;

/// The advice for a secret in the place of a name.
pub const HINT: &str = "is this the secret itself? it belongs in client_secret";

/// Returns whether text in the place of a name looks like a secret or contains one. A path with a dot, or an absolute
/// path with a directory, does not.
#[must_use]
pub fn looks_like_secret(text: &str) -> bool {
    let word = match text.strip_prefix('/') {
        Some(rest) if !rest.contains('/') => rest,
        Some(_) | None => text,
    };
    !word.starts_with(['/', '~']) && !word.contains('.') && masked(word) != word
}

fn is_secret_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/=_-".contains(c)
}

/// Returns the text with each run of characters that looks like a secret cut to its start.
#[must_use]
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut is_whole = true;
    let mut rest = text;
    while let Some(start) = rest.find(is_secret_char) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !is_secret_char(c)).unwrap_or(from.len());
        let (run, after) = from.split_at(end);
        shown.push_str(before);
        match run
            .get(..SHOWN_CHARS)
            .filter(|_| run.len() >= MIN_SECRET_CHARS)
        {
            Some(kept) => {
                shown.push_str(kept);
                shown.push('…');
                is_whole = false;
            }
            None => shown.push_str(run),
        }
        rest = after;
    }
    if is_whole {
        return Cow::Borrowed(text);
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Displays the name of a variable, a credential, a user or a program, masked.
#[derive(Clone, Copy, Debug)]
pub struct ShownName<'a>(pub &'a str);

impl fmt::Display for ShownName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = masked(self.0);
        shown.escape_debug().fmt(f)?;
        match shown {
            Cow::Borrowed(_) => Ok(()),
            Cow::Owned(_) => write!(f, " ({HINT})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "deadbeef0123456789abcdef0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn shown_name_hides_a_secret_and_names_the_key_for_it() {
        let shown = ShownName(SECRET).to_string();
        assert_eq!(
            shown,
            "deadbeef… (is this the secret itself? it belongs in client_secret)"
        );
        for name in ["ACME_SECRET", "acme.secret", "/usr/bin/pass", "etl"] {
            assert_eq!(ShownName(name).to_string(), name);
        }
        assert_eq!(ShownName("a\nb").to_string(), "a\\nb");
    }

    #[test]
    fn masked_text_contains_no_long_run_for_any_surrounding_text() {
        let text = format!("clients.{SECRET}.tokens: \"{SECRET}!\" {SECRET}");
        assert_eq!(
            masked(&text),
            "clients.deadbeef….tokens: \"deadbeef…!\" deadbeef…"
        );
        let base64 = "3q2+7wEjRWeJq83vASNFZ4mrze8BI0VniavN7w==";
        assert_eq!(masked(base64), "3q2+7wEj…");
        let short = "a".repeat(MIN_SECRET_CHARS - 1);
        assert_eq!(masked(&short), short);
        assert_eq!(masked("é…"), "é…");
    }
}
