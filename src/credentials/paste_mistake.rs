//! Detects mistakes in copying and pasting a secret. The secret is sent unchanged, because it may be any text. If
//! it is rejected, the mistake is the likely reason.

use std::fmt;

use crate::config::{InvisibleChar, assignment, is_placeholder, is_quote, is_quoted, is_uuid};

/// What is unusual about a secret. Contains nothing of it, neither a character nor its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasteMistake {
    /// It begins with an invisible character.
    Begins(InvisibleChar),
    /// It ends with one.
    Ends(InvisibleChar),
    /// It has one elsewhere.
    Has(InvisibleChar),
    /// It is in quotes, which belong to the syntax of another file.
    InQuotes,
    /// It has such a quote at one end.
    Quote,
    /// It begins with the variable or key that it was assigned to, which this describes.
    Name(&'static str),
    /// It begins with a client id.
    AfterId,
    /// It is a client id.
    Id,
    /// It is part of a JSON document.
    Json,
    /// It is a placeholder of a template.
    Placeholder,
    /// It is a mask that is shown instead of a secret.
    Masked,
    /// It ends with the ellipsis of a text that was cut.
    Cut,
    /// It ends with a separator from the next value.
    Separator,
    /// A comment follows it.
    Comment,
}

impl PasteMistake {
    /// Returns the first mistake that a secret shows.
    #[must_use]
    pub(crate) fn of(secret: &str) -> Option<Self> {
        let at = |c: Option<char>| c.and_then(InvisibleChar::of);
        if let Some(invisible) = at(secret.chars().next()) {
            return Some(Self::Begins(invisible));
        }
        if let Some(invisible) = at(secret.chars().next_back()) {
            return Some(Self::Ends(invisible));
        }
        if let Some(name) = assignment(secret) {
            return Some(Self::Name(name));
        }
        if is_quoted(secret) {
            return Some(Self::InQuotes);
        }
        if secret.starts_with('{') && !secret.starts_with("{{") || secret.contains("\":") {
            return Some(Self::Json);
        }
        if is_placeholder(secret) {
            return Some(Self::Placeholder);
        }
        if !secret.is_empty() && secret.chars().all(|c| "*•●".contains(c)) {
            return Some(Self::Masked);
        }
        if secret.ends_with('…') {
            return Some(Self::Cut);
        }
        if secret.split_once(':').is_some_and(|(id, _)| is_uuid(id)) {
            return Some(Self::AfterId);
        }
        if secret.starts_with(is_quote) || secret.ends_with(is_quote) || secret.ends_with("\",") {
            return Some(Self::Quote);
        }
        if has_comment(secret) {
            return Some(Self::Comment);
        }
        secret.chars().find_map(InvisibleChar::of).map(Self::Has)
    }

    /// Returns a possible mistake that may also be a part of the secret, so that it is no error.
    pub(super) fn possible(secret: &str) -> Option<Self> {
        if is_uuid(secret) {
            return Some(Self::Id);
        }
        secret.ends_with([',', ';']).then_some(Self::Separator)
    }

    /// Returns what to do about it.
    fn remedy(self) -> &'static str {
        match self {
            Self::Has(InvisibleChar::Blank) => "check that it is only the secret",
            Self::Begins(_) | Self::Ends(_) | Self::Has(_) | Self::Comment => "remove it",
            Self::InQuotes => "remove them",
            Self::Quote | Self::Separator => "remove it if it is not part of the secret",
            Self::Name(_) | Self::AfterId | Self::Json => "keep only the secret",
            Self::Id => "check that id and secret are not swapped",
            Self::Placeholder | Self::Masked => "replace it with the secret",
            Self::Cut => "copy the whole secret",
        }
    }

    /// Returns it with what to do, as an end of a message.
    #[must_use]
    pub fn advice(self) -> String {
        format!("{self}; {}", self.remedy())
    }
}

impl fmt::Display for PasteMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begins(invisible) => write!(f, "begins with {invisible}"),
            Self::Ends(invisible) => write!(f, "ends with {invisible}"),
            Self::Has(invisible) => write!(f, "contains {invisible}"),
            Self::InQuotes => f.write_str("is enclosed in quotes"),
            Self::Quote => f.write_str("has a quotation mark at one end"),
            Self::Name(name) => write!(f, "begins with {name}"),
            Self::AfterId => f.write_str("begins with a client id and a colon"),
            Self::Id => f.write_str("looks like a client id"),
            Self::Json => f.write_str("is JSON"),
            Self::Placeholder => f.write_str("is a placeholder"),
            Self::Masked => f.write_str("is what a page shows in place of a secret"),
            Self::Cut => f.write_str("is cut off at its end"),
            Self::Separator => f.write_str("ends with a comma or a semicolon"),
            Self::Comment => f.write_str("has a comment after it"),
        }
    }
}

/// Returns whether a comment seems to follow a value.
pub(super) fn has_comment(text: &str) -> bool {
    text.contains(" #") || text.contains(" ;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "5f3c0c9d8e7b6a59483726150f0e1d2c3b4a5968778695a4b3c2d1e0f9a8b7c6";

    #[test]
    fn mistake_of_a_secret_is_named_without_anything_of_it() {
        for (around, expected) in [
            ("@ ", "ends with a space"),
            (" @", "begins with a space"),
            ("\u{3000}@", "begins with a space"),
            ("@\u{a0}", "ends with a no-break space"),
            ("\u{200b}@", "begins with a zero-width space"),
            ("@\u{feff}", "ends with a zero-width space"),
            ("5f\u{ad}@", "contains an invisible character"),
            ("warning: @", "contains a space"),
            ("\"@\"", "is enclosed in quotes"),
            ("'@'", "is enclosed in quotes"),
            ("“@”", "is enclosed in quotes"),
            ("\"@", "has a quotation mark at one end"),
            ("\"@\",", "has a quotation mark at one end"),
            ("DOMO_CLIENT_SECRET=@", "begins with DOMO_CLIENT_SECRET="),
            (
                "export DOMO_CLIENT_SECRET='@'",
                "begins with DOMO_CLIENT_SECRET=",
            ),
            (
                "$env:DOMO_CLIENT_SECRET = \"@\"",
                "begins with DOMO_CLIENT_SECRET=",
            ),
            ("client_secret: @", "begins with client_secret="),
            ("\"client_secret\": \"@\"", "begins with client_secret="),
            ("{\"client_secret\":\"@\"}", "is JSON"),
            ("{", "is JSON"),
            ("${DOMO_CLIENT_SECRET}", "is a placeholder"),
            ("{{ secret }}", "is a placeholder"),
            ("<YOUR_SECRET>", "is a placeholder"),
            ("@ # prod", "has a comment after it"),
            ("API_SECRET=@", "begins with a name and ="),
            ("DOMO_API_SECRET=@", "begins with a name and ="),
            ("export ACME_KEY='@'", "begins with a name and ="),
            ("acme_client_secret: @", "begins with a name and ="),
            ("$DOMO_SECRET", "is a placeholder"),
            ("********", "is what a page shows in place of a secret"),
            ("5f3c0c9d…", "is cut off at its end"),
            (
                "441e307a-b2a1-4a99-8561-174e5b153fe1:@",
                "begins with a client id and a colon",
            ),
        ] {
            let secret = around.replace('@', SECRET);
            let mistake = PasteMistake::of(&secret).map(|mistake| mistake.to_string());
            assert_eq!(mistake.as_deref(), Some(expected), "{around:?}");
        }
    }

    #[test]
    fn mistake_of_a_plausible_secret_is_none() {
        let base64 = "3q2+7wEjRWeJq83vASNFZ4mrze8BI0VniavN7w==";
        for secret in [
            SECRET,
            base64,
            "p+%:/ä\"x'~*",
            "a=b",
            "abcDEF=x",
            "QUJD==",
            "A=b",
            "a*",
            "$5f3c",
            "ann:word",
            "x",
            "secretive",
            "pa$$word",
        ] {
            assert_eq!(PasteMistake::of(secret), None, "{secret}");
        }
    }

    #[test]
    fn possible_mistake_is_no_error() {
        for (secret, mistake) in [
            (
                "441E307A-b2a1-4a99-8561-174e5b153fe1",
                Some("looks like a client id"),
            ),
            ("5f3c;", Some("ends with a comma or a semicolon")),
            ("5f3c,", Some("ends with a comma or a semicolon")),
            ("441e307a-b2a1-4a99-8561-174e5b153fe", None),
            (SECRET, None),
        ] {
            assert_eq!(PasteMistake::of(secret), None, "{secret}");
            let possible = PasteMistake::possible(secret).map(|mistake| mistake.to_string());
            assert_eq!(possible.as_deref(), mistake, "{secret}");
        }
    }

    #[test]
    fn mistake_shows_no_name_that_may_be_part_of_the_secret() {
        assert_eq!(PasteMistake::of("hunter2=abc"), None);
        let mistake = PasteMistake::of("\"hunter2\": \"abc\"").unwrap().advice();
        assert!(!mistake.contains("hunter2"), "{mistake}");
    }
}
