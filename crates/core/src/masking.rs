//! Names as messages show them. A secret is easily put in the place of a file, a variable or a key, so whatever looks like
//! one is masked.

use std::borrow::Cow;
use std::fmt;

/// The least characters of what is taken for a secret: Domo's have 64, and few names have so many.
pub const MIN_SECRET_CHARS: usize = 32;

/// As many of its characters are shown, so that it can be found.
const SHOWN_CHARS: usize = 8;

/// What to do about a secret in the place of a name.
pub const HINT: &str = "is this the secret itself? it belongs in client_secret";

/// The same where the environment alone configures.
pub const ENV_HINT: &str = "is this the secret itself? it belongs in DOMO_CLIENT_SECRET";

/// Whether a text that stands where a name belongs looks like a secret, or has one in it. A path
/// doesn't if it has a dot in it, or is absolute and has a directory.
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

/// A text without the runs of characters in it that look like secrets: of each the start is left.
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

/// The name of a variable, a credential, a user or a program, as a message shows it.
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
    fn shown_name_hides_a_secret_and_says_where_it_belongs() {
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
    fn masked_text_has_no_long_run_whatever_is_around_it() {
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
