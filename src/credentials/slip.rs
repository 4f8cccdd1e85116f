//! PURE. Slips of copying and pasting that a secret shows: it is sent as it is, because a secret may be
//! any text, but when it is rejected the slip is most likely why.

use std::fmt;

use zeroize::Zeroizing;

use crate::config::{is_placeholder, is_quote, stands_in_quotes};

/// What is unusual about a secret. Shows nothing of it, neither a character nor its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// It begins with a character that is not seen.
    Begins(Unseen),
    /// It ends with one.
    Ends(Unseen),
    /// It has one elsewhere.
    Has(Unseen),
    /// It has the quotes around it that belong to the syntax of another file.
    InQuotes,
    /// It has such a quote at one end.
    Quote,
    /// It begins with the name of the variable or key that it was assigned to.
    Name(&'static str),
    /// It is part of a JSON document.
    Json,
    /// It is what a template is to be filled with.
    Placeholder,
    /// A comment follows it.
    Comment,
}

/// A character that is not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// A space, of whichever width.
    Blank,
    /// A space at which no line is broken, as pages on the web have it.
    NoBreak,
    /// A character without width.
    ZeroWidth,
    /// A character that steers how others are shown.
    Format,
}

/// Names that a secret is assigned to, in lower case; a longer one comes before its end.
const NAMES: [(&str, &str); 12] = [
    ("domo_client_secret", "DOMO_CLIENT_SECRET"),
    ("domo_api_client_secret", "DOMO_API_CLIENT_SECRET"),
    ("domo_secret", "DOMO_SECRET"),
    ("domo_client_id", "DOMO_CLIENT_ID"),
    ("client_secret", "client_secret"),
    ("clientsecret", "clientSecret"),
    ("client-secret", "client-secret"),
    ("client_id", "client_id"),
    ("rdomo_secret", "RDOMO_SECRET"),
    ("secret", "secret"),
    ("password", "password"),
    ("proxy_auth", "PROXY_AUTH"),
];

/// What may stand before a variable's name.
const COMMANDS: [&str; 4] = ["export ", "set ", "$env:", "setx "];

impl Slip {
    /// Returns the first slip that a secret shows.
    #[must_use]
    pub(crate) fn of(secret: &str) -> Option<Self> {
        let at = |c: Option<char>| c.and_then(Unseen::of);
        if let Some(unseen) = at(secret.chars().next()) {
            return Some(Self::Begins(unseen));
        }
        if let Some(unseen) = at(secret.chars().next_back()) {
            return Some(Self::Ends(unseen));
        }
        if let Some(name) = name_before(secret) {
            return Some(Self::Name(name));
        }
        if stands_in_quotes(secret) {
            return Some(Self::InQuotes);
        }
        if secret.starts_with('{') && !secret.starts_with("{{") || secret.contains("\":") {
            return Some(Self::Json);
        }
        if is_placeholder(secret) {
            return Some(Self::Placeholder);
        }
        if secret.starts_with(is_quote) || secret.ends_with(is_quote) || secret.ends_with("\",") {
            return Some(Self::Quote);
        }
        if has_comment(secret) {
            return Some(Self::Comment);
        }
        secret.chars().find_map(Unseen::of).map(Self::Has)
    }

    /// Returns what to do about it.
    fn remedy(self) -> &'static str {
        match self {
            Self::Has(Unseen::Blank) => "check that it is the secret alone",
            Self::Begins(_) | Self::Ends(_) | Self::Has(_) | Self::Comment => "remove it",
            Self::InQuotes => "remove them",
            Self::Quote => "remove it if it is not part of the secret",
            Self::Name(_) | Self::Json => "keep the secret alone",
            Self::Placeholder => "put the secret in its place",
        }
    }

    /// Returns it with what to do, as an end of a message.
    #[must_use]
    pub fn advice(self) -> String {
        format!("{self}; {}", self.remedy())
    }
}

impl fmt::Display for Slip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begins(unseen) => write!(f, "begins with {unseen}"),
            Self::Ends(unseen) => write!(f, "ends with {unseen}"),
            Self::Has(unseen) => write!(f, "has {unseen} in it"),
            Self::InQuotes => f.write_str("stands in quotes"),
            Self::Quote => f.write_str("has a quotation mark at one end"),
            Self::Name(name) => write!(f, "begins with {name}="),
            Self::Json => f.write_str("is JSON"),
            Self::Placeholder => f.write_str("is a placeholder"),
            Self::Comment => f.write_str("has a comment after it"),
        }
    }
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blank => "a blank",
            Self::NoBreak => "a no-break space",
            Self::ZeroWidth => "a zero-width space",
            Self::Format => "an invisible character",
        })
    }
}

impl Unseen {
    pub(crate) fn of(c: char) -> Option<Self> {
        match c {
            '\u{a0}' | '\u{2007}' | '\u{202f}' => Some(Self::NoBreak),
            '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => Some(Self::ZeroWidth),
            '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2061}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}' => Some(Self::Format),
            c if c.is_whitespace() => Some(Self::Blank),
            _ => None,
        }
    }
}

/// Whether what looks like a comment follows a value.
pub(super) fn has_comment(text: &str) -> bool {
    text.contains(" #") || text.contains(" ;")
}

/// The name that a secret begins with, if it is one that secrets are assigned to: another might be the
/// start of the secret itself.
fn name_before(text: &str) -> Option<&'static str> {
    let lower = Zeroizing::new(text.to_ascii_lowercase());
    let command = COMMANDS
        .iter()
        .find_map(|command| lower.strip_prefix(command));
    let word = command.unwrap_or(&lower).trim_start();
    let word = word.trim_start_matches(is_quote);
    let (_, name) = NAMES.iter().find(|(name, _)| {
        let rest = word
            .strip_prefix(name)
            .map(|rest| rest.trim_start_matches(is_quote));
        rest.is_some_and(|rest| rest.trim_start().starts_with(['=', ':']))
    })?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "5f3c0c9d8e7b6a59483726150f0e1d2c3b4a5968778695a4b3c2d1e0f9a8b7c6";

    #[test]
    fn slip_of_a_secret_is_named_without_anything_of_it() {
        for (around, expected) in [
            ("@ ", "ends with a blank"),
            (" @", "begins with a blank"),
            ("\u{3000}@", "begins with a blank"),
            ("@\u{a0}", "ends with a no-break space"),
            ("\u{200b}@", "begins with a zero-width space"),
            ("@\u{feff}", "ends with a zero-width space"),
            ("5f\u{ad}@", "has an invisible character in it"),
            ("warning: @", "has a blank in it"),
            ("\"@\"", "stands in quotes"),
            ("'@'", "stands in quotes"),
            ("“@”", "stands in quotes"),
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
        ] {
            let secret = around.replace('@', SECRET);
            let slip = Slip::of(&secret).map(|slip| slip.to_string());
            assert_eq!(slip.as_deref(), Some(expected), "{around:?}");
        }
    }

    #[test]
    fn slip_of_a_plausible_secret_is_none() {
        let base64 = "3q2+7wEjRWeJq83vASNFZ4mrze8BI0VniavN7w==";
        for secret in [
            SECRET,
            base64,
            "p+%:/ä\"x'~*",
            "a=b",
            "abcDEF=x",
            "x",
            "secretive",
            "pa$$word",
        ] {
            assert_eq!(Slip::of(secret), None, "{secret}");
        }
    }

    #[test]
    fn slip_shows_no_name_that_may_be_part_of_the_secret() {
        assert_eq!(Slip::of("hunter2=abc"), None);
        let slip = Slip::of("\"hunter2\": \"abc\"").unwrap().advice();
        assert!(!slip.contains("hunter2"), "{slip}");
    }
}
