//! A value that was copied with the name that it was assigned to, as `NAME=VALUE`.

use super::id_and_secret::{is_name, is_quote};

/// Names that ids and secrets are assigned to, in lower case, and as messages show them.
const NAMES: [(&str, &str); 12] = [
    ("domo_client_secret", "DOMO_CLIENT_SECRET="),
    ("domo_api_client_secret", "DOMO_API_CLIENT_SECRET="),
    ("domo_secret", "DOMO_SECRET="),
    ("domo_client_id", "DOMO_CLIENT_ID="),
    ("client_secret", "client_secret="),
    ("clientsecret", "clientSecret="),
    ("client-secret", "client-secret="),
    ("client_id", "client_id="),
    ("rdomo_secret", "RDOMO_SECRET="),
    ("secret", "secret="),
    ("password", "password="),
    ("proxy_auth", "PROXY_AUTH="),
];

/// What may stand before a variable's name.
const COMMANDS: [&str; 4] = ["export ", "set ", "$env:", "setx "];

/// What other names of ids and secrets end with.
const ENDS: [&str; 5] = ["secret", "password", "client_id", "client-id", "clientid"];

/// Describes how a value begins, if that is a name and a sign of assignment. Only the usual names are
/// shown: another one might be the start of the secret itself.
#[must_use]
pub fn assignment(text: &str) -> Option<&'static str> {
    let is_command = |command: &&&str| {
        let start = text.get(..command.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(command))
    };
    let command = COMMANDS.iter().find(is_command);
    let word = text.get(command.map_or(0, |command| command.len())..)?;
    let word = word.trim_start().trim_start_matches(is_quote);
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let (name, rest) = word.split_at(word.find(|c| !is_of_a_name(c))?);
    let rest = rest.trim_start_matches(is_quote).trim_start();
    if !rest.starts_with(['=', ':']) {
        return None;
    }
    let mut known = NAMES.iter();
    if let Some((_, shown)) = known.find(|(known, _)| name.eq_ignore_ascii_case(known)) {
        return Some(shown);
    }
    let ends = |end: &&str| {
        let start = name.len().checked_sub(end.len());
        let found = start.and_then(|start| name.get(start..));
        found.is_some_and(|found| found.eq_ignore_ascii_case(end))
    };
    let is_named = ENDS.iter().any(ends) || is_name(name) && is_assigned(rest);
    is_named.then_some("a name and =")
}

/// Returns whether there is a value. Base64 ends with one or two `=`.
fn is_assigned(rest: &str) -> bool {
    let value = rest.strip_prefix('=').unwrap_or_default();
    !value.is_empty() && !value.starts_with('=')
}
