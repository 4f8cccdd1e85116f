//! Messages of toml and serde, as far as they are known to hold nothing of the config: any value may
//! be a secret, and an update may change a message.

use crate::config::schema::SCHEMA;
use domo_token_core::masking::{HINT, masked};

pub(super) const NO_TABLE: &str = "wrong type: must be a table";

pub(super) const NO_LIST: &str = "wrong type: must be a list";

/// Returns how to write the list of a key, as the end of a message. The value may be a secret, so it is
/// not shown.
pub(super) fn list_like(key: &str) -> &'static str {
    let name = key.rsplit('.').next().unwrap_or_default();
    match name {
        "client_secret_command" | "password_command" => {
            ", each word an element; write it like [\"pass\", \"show\", \"domo\"]"
        }
        "tokens" => "; write it like [\"data\"]",
        "sentinels" => "; write it like [\"s1.example:26379\"]",
        "methods" => "; write it like [\"GET\"]",
        "allow" => {
            "; write it like [{ methods = [\"GET\"], path = \"/v1/datasets/**\", scopes = \"data\" }]"
        }
        _ => "; write it in brackets, like [\"name\"]",
    }
}

/// The replacement of an unknown message.
const WRONG_VALUE: &str = "invalid value";
const UNKNOWN_KEY: &str = "unknown key";
const NOT_TOML: &str = "invalid TOML";

/// toml's messages, reworded where they assume that the reader knows its grammar.
const REWORDED: [(&str, &str); 4] = [
    (
        "string values must be quoted",
        "text must be in straight quotes, like \"data\"",
    ),
    (
        "invalid float",
        "not a number; text must be in quotes, like \"data\"",
    ),
    (
        "unexpected leading zero",
        "a number cannot begin with 0; write a mode as text, like \"0660\"",
    ),
    (
        "missing escaped value",
        "a backslash in \"…\" must be doubled; in '…' it stands for itself",
    ),
];

/// Messages of toml that are clear as they are.
const CLEAR: [&str; 37] = [
    "`_` may only go between digits",
    "cannot recurse further; max recursion depth met",
    "carriage return must be followed by newline",
    "duplicate key",
    "extra `=`",
    "extra assignment between key-value pairs",
    "extra comma in array",
    "extra comma in inline table",
    "integers with a radix cannot be signed",
    "invalid basic string",
    "invalid boolean",
    "invalid comment character",
    "invalid date-time",
    "invalid datetime",
    "invalid integer number",
    "invalid key",
    "invalid key-value pair",
    "invalid literal string",
    "invalid multi-line basic string",
    "invalid multi-line literal string",
    "invalid string",
    "invalid table",
    "invalid unquoted key",
    "invalid value",
    "key with no value",
    "keys cannot be multi-line basic strings",
    "keys cannot be multi-line literal strings",
    "missing comma between array elements",
    "missing comma between key-value pairs",
    "missing value for key",
    "too few unicode value digits",
    "unclosed array",
    "unclosed inline table",
    "unclosed table",
    "unexpected content",
    "unexpected key or value",
    "unquoted keys cannot be empty",
];

/// What toml may have expected instead, besides punctuation.
const EXPECTED: [&str; 8] = [
    "characters",
    "digits",
    "key",
    "letters",
    "newline",
    "nothing",
    "printable characters",
    "value",
];

/// Returns why a text is not TOML.
pub(super) fn of_toml(message: &str) -> String {
    let (what, expected) = match message.split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (message, None),
    };
    if let Some((_, message)) = REWORDED.iter().find(|(known, _)| *known == what) {
        return format!("{NOT_TOML}: {message}");
    }
    if !CLEAR.contains(&what) {
        return NOT_TOML.to_owned();
    }
    match expected.filter(|expected| expected.split(", ").all(is_expected)) {
        Some(expected) => format!("{NOT_TOML}: {what}, expected {expected}"),
        None => format!("{NOT_TOML}: {what}"),
    }
}

fn is_expected(item: &str) -> bool {
    let quoted = item
        .strip_prefix('`')
        .and_then(|rest| rest.strip_suffix('`'));
    let is_punctuation =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_punctuation());
    EXPECTED.contains(&item) || quoted.is_some_and(is_punctuation)
}

/// Returns what is wrong with a value, by serde: what was expected, with the nearest right key for a wrong
/// one.
pub(super) fn of_serde(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        return unknown_key(rest);
    }
    let expected = message.rsplit_once(", expected ");
    let expected = match expected.map(|(_, expected)| expected) {
        Some("a sequence") => return NO_LIST.to_owned(),
        Some("i64") => "a whole number",
        Some("a boolean") => "true or false",
        Some("a map" | "a table") => return NO_TABLE.to_owned(),
        Some("a string") => "text in quotes",
        Some("path string") => "a path in quotes",
        Some("a name or a number") => "a name or a number",
        Some(_) | None => return WRONG_VALUE.to_owned(),
    };
    format!("wrong type: must be {expected}")
}

/// The furthest that a key may be from the one that was meant, in letters.
const NEAR: usize = 3;

/// What other programs call the keys of a client or a fleet.
const SYNONYMS: [(&str, &str); 25] = [
    ("api_host", "token_url"),
    ("ca", "ca_file"),
    ("ca_bundle", "ca_file"),
    ("ca_cert", "ca_file"),
    ("cafile", "ca_file"),
    ("cert_file", "ca_file"),
    ("cert", "client_certificate_file"),
    ("connection_file", "client_file"),
    ("endpoint", "token_url"),
    ("http_proxy", "proxy"),
    ("https_proxy", "proxy"),
    ("id", "client_id"),
    ("key", "client_key_file"),
    ("master_name", "service"),
    ("password", "client_secret"),
    ("password", "password_file"),
    ("proxies", "proxy"),
    ("scope", "tokens"),
    ("scopes", "tokens"),
    ("secret", "client_secret"),
    ("secret_file", "client_secret_file"),
    ("token_endpoint", "token_url"),
    ("token_uri", "token_url"),
    ("url", "token_url"),
    ("user", "username"),
];

fn unknown_key(rest: &str) -> String {
    // serde ends the key with a backquote and the list of those there are.
    let Some((key, expected)) = rest.rsplit_once("`, expected ") else {
        return UNKNOWN_KEY.to_owned();
    };
    if masked(key) != key {
        return format!("unknown key \"{}\" ({HINT})", masked(key).escape_debug());
    }
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let shown = key.escape_debug();
    let normal = key.to_ascii_lowercase().replace('-', "_");
    let mut meant = SYNONYMS
        .iter()
        .filter(|(word, meant)| *word == normal && known.contains(meant));
    if let Some((_, meant)) = meant.next() {
        return format!("unknown key \"{shown}\"; did you mean \"{meant}\"?");
    }
    if let Some(table) = table_of(key) {
        return format!("unknown key \"{shown}\" here; it belongs {table}");
    }
    if normal == "no_proxy" {
        let problem =
            "hosts cannot be excluded from a proxy; set proxy only in the clients that need it";
        return format!("unknown key \"{shown}\": {problem}");
    }
    let distance = |other: &str| strsim::levenshtein(key, other);
    let nearest = known.iter().copied().min_by_key(|other| distance(other));
    // Of a short key all letters may be others.
    let is_near = |other: &str| {
        let (distance, length) = (distance(other), key.len().max(other.len()));
        distance <= NEAR && distance * 2 < length
    };
    match nearest {
        Some(other) if is_near(other) => {
            format!("unknown key \"{shown}\"; did you mean \"{other}\"?")
        }
        Some(_) | None => format!("unknown key \"{shown}\"; valid keys: {}", known.join(", ")),
    }
}

/// Returns the table in which a key is valid.
fn table_of(key: &str) -> Option<String> {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).ok()?;
    let has = |table: &serde_json::Value| {
        table
            .pointer("/properties")
            .is_some_and(|keys| keys.get(key).is_some())
    };
    if has(&schema) {
        return Some("at the top of the file".to_owned());
    }
    let tables = schema.get("$defs")?.as_object()?;
    let (name, _) = tables.iter().find(|(_, table)| has(table))?;
    Some(match name.as_str() {
        "Client" => "in [clients.NAME]".to_owned(),
        "Rule" => "in an entry of [clients.NAME.access]".to_owned(),
        other => format!("in [{}]", other.to_lowercase()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_serde_message_is_not_shown() {
        for message in [
            "the value \"c4nary\" is not a boolean",
            "invalid type: c4nary (string) where a boolean was expected",
            "invalid type: string \"x\", expected something like c4nary",
            "unknown variant `c4nary`, expected `post` or `c4nary`",
            "missing field `c4nary`",
            "c4nary",
            "",
        ] {
            assert_eq!(of_serde(message), WRONG_VALUE, "{message}");
        }
        assert_eq!(of_serde("unknown field `c4nary`"), UNKNOWN_KEY);
        assert_eq!(
            of_serde("unknown field `c4nary`; one of these is meant: `socket`"),
            UNKNOWN_KEY
        );
        let known = "invalid type: string \"c4nary, expected c4nary\", expected a boolean";
        assert_eq!(of_serde(known), "wrong type: must be true or false");
    }

    #[test]
    fn unknown_toml_message_is_not_shown() {
        for message in [
            "unexpected `c4nary`",
            "invalid float c4nary",
            "duplicate key `c4nary`",
            "string values must be quoted: c4nary",
            "c4nary, expected `]`",
            "",
        ] {
            assert_eq!(of_toml(message), NOT_TOML, "{message}");
        }
        for message in [
            "unclosed table, expected `c4nary`",
            "unclosed table, expected `]`, c4nary",
            "unclosed table, expected ``",
        ] {
            assert_eq!(
                of_toml(message),
                "invalid TOML: unclosed table",
                "{message}"
            );
        }
        assert_eq!(
            of_toml("invalid basic string, expected `\"`"),
            "invalid TOML: invalid basic string, expected `\"`"
        );
    }

    #[test]
    fn key_that_looks_like_a_secret_is_masked_and_not_compared() {
        let key = "Zq9xKc4naryW7Zq9xKc4naryW7deadbeefcafe0123456789abcdef4242";
        let message = of_serde(&format!("unknown field `{key}`, expected `socket`"));
        assert_eq!(message, format!("unknown key \"Zq9xKc4n…\" ({HINT})"));
    }
}
