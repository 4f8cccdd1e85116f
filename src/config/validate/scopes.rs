//! Validates scope sets: those that Domo can have.

use domo_token_protocol::scope::{DOMO_SCOPE_NAMES, ScopeSet};

use crate::config::Naming;
use domo_token_core::masking::looks_like_secret;

/// What separates scopes elsewhere, in URLs and lists; OAuth allows these characters in a scope, but
/// Domo has none with them.
const SEPARATORS: [&str; 8] = ["+", "%20", "%2C", "%2c", "%2B", "%2b", ";", "|"];

/// Characters that no scope of Domo contains.
const FOREIGN: [char; 7] = ['+', '%', ';', '|', '\'', '[', ']'];

/// Parses a scope set to keep a token for. What looks like a secret would be sent to Domo as a scope, and be
/// shown wherever scope sets are.
pub(in crate::config) fn scope_set(text: &str, naming: Naming) -> Result<ScopeSet, String> {
    let set = ScopeSet::parse(text).map_err(|error| error.to_string())?;
    if set.iter().any(looks_like_secret) {
        let hint = naming.secret_hint();
        return Err(format!("not a scope; {hint}"));
    }
    if text.contains(FOREIGN) {
        return Err(as_written_elsewhere(text));
    }
    // A server compares them with their case, so they are not changed here.
    let meant = set.iter().find_map(|scope| {
        let mut known = DOMO_SCOPE_NAMES.iter();
        known.find(|known| scope != **known && scope.eq_ignore_ascii_case(known))
    });
    match meant {
        Some(meant) => Err(format!(
            "scopes are case-sensitive and Domo's are lower case; did you mean \"{meant}\"?"
        )),
        None => Ok(set),
    }
}

/// Returns what to write instead, if that is sure.
fn as_written_elsewhere(text: &str) -> String {
    let mut plain = text.trim_matches(['\'', '[', ']']).to_owned();
    for separator in SEPARATORS {
        plain = plain.replace(separator, " ");
    }
    let right = scope_set_of_known(&plain);
    let right = right.map_or("like \"data user\"".to_owned(), |set| format!("\"{set}\""));
    format!(
        "characters such as + and % are not valid in a scope; separate scopes with spaces: write \
         {right}"
    )
}

/// Only what Domo has is shown: the rest may be anything.
fn scope_set_of_known(text: &str) -> Option<ScopeSet> {
    let set = ScopeSet::parse(text).ok()?;
    let is_known = set.iter().all(|scope| DOMO_SCOPE_NAMES.contains(&scope));
    is_known.then_some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope_set(text: &str) -> Result<ScopeSet, String> {
        super::scope_set(text, Naming::Keys)
    }

    #[test]
    fn url_encoded_scope_set_is_an_error_with_the_correct_spelling() {
        for text in [
            "data+user",
            "data%20user",
            "user%2Cdata",
            "data;user",
            "'data user'",
            "[data,user]",
        ] {
            let error = scope_set(text).unwrap_err();
            assert!(error.ends_with("write \"data user\""), "{text}: {error}");
        }
        let error = scope_set("c4nary%zz").unwrap_err();
        assert!(error.ends_with("write like \"data user\""), "{error}");
        assert!(!error.contains("c4nary"), "{error}");
    }

    #[test]
    fn scope_in_another_case_is_an_error_with_the_correct_spelling() {
        for text in ["Data, User", "DATA", "user Data"] {
            let error = scope_set(text).unwrap_err();
            assert!(error.ends_with("did you mean \"data\"?"), "{text}: {error}");
        }
        // Not Domo's, so it may be spelled as it is.
        assert_eq!(scope_set("Sales").unwrap().as_str(), "Sales");
        assert_eq!(scope_set("data,user").unwrap().as_str(), "data user");
    }
}
