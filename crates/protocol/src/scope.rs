//! Scope sets: the scopes of one access token.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The most bytes of a scope set as text, so that it fits a frame and a log line.
pub const MAX_SCOPE_BYTES: usize = 1024;

/// Domo's documented scopes, sorted, each with the part of Domo's API that it is for
/// (<https://www.domo.com/docs/portal/d9520f5752d56-get-access-token>). Domo may have others.
pub const DOMO_SCOPES: [(&str, &str); 7] = [
    ("account", "accounts of data sources"),
    ("audit", "activity log"),
    ("buzz", "Buzz"),
    ("dashboard", "pages"),
    ("data", "datasets and streams"),
    ("user", "users and groups"),
    ("workflow", "projects and tasks"),
];

/// The names of [`DOMO_SCOPES`].
pub const DOMO_SCOPE_NAMES: [&str; DOMO_SCOPES.len()] = names();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, where an index out of range is an error"
)]
const fn names() -> [&'static str; DOMO_SCOPES.len()] {
    let mut names = [""; DOMO_SCOPES.len()];
    let mut at = 0;
    while at < names.len() {
        (names[at], _) = DOMO_SCOPES[at];
        at += 1;
    }
    names
}

/// A set of OAuth scopes (RFC 6749 §3.3): not empty, no scope twice, sorted bytewise.
///
/// `data,user`, `user data` and `data user data` are one set. Scopes are case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeSet(Arc<str>);

/// Why a text is not a scope set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// It contains no scope.
    #[error("a scope set needs at least one scope, such as \"data\"")]
    Empty,
    /// It contains a character that RFC 6749 §3.3 does not allow in a scope.
    #[error("a scope may contain only printable ASCII without quotes and backslashes")]
    BadCharacter,
    /// It is longer than [`MAX_SCOPE_BYTES`].
    #[error("a scope set has at most {MAX_SCOPE_BYTES} bytes")]
    TooLong,
}

impl ScopeSet {
    /// Parses scopes separated by spaces or commas.
    ///
    /// ```
    /// use domo_token_protocol::ScopeSet;
    ///
    /// assert_eq!(ScopeSet::parse("user,data")?.as_str(), "data user");
    /// # Ok::<(), domo_token_protocol::ScopeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ScopeError`] for an empty set, an invalid character, or a text that is too long.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if text.len() > MAX_SCOPE_BYTES {
            return Err(ScopeError::TooLong);
        }
        let mut scopes: Vec<&str> = text
            .split([' ', ',', '\t'])
            .filter(|scope| !scope.is_empty())
            .collect();
        if scopes.is_empty() {
            return Err(ScopeError::Empty);
        }
        if !scopes.iter().all(|scope| scope.bytes().all(is_scope_byte)) {
            return Err(ScopeError::BadCharacter);
        }
        scopes.sort_unstable();
        scopes.dedup();
        Ok(Self(scopes.join(" ").into()))
    }

    /// Returns the scopes in order, separated by one space: the form of OAuth's `scope` parameter.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Iterates over the scopes.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ')
    }

    /// Returns the scopes of this set that `granted` lacks.
    #[must_use]
    pub fn missing_from(&self, granted: &Self) -> Vec<&str> {
        self.iter()
            .filter(|scope| !granted.iter().any(|other| other == *scope))
            .collect()
    }
}

/// Sets compare as their texts do, so that a map of them can be looked up by text.
impl Borrow<str> for ScopeSet {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_scope_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_domos_scopes_are_sorted_and_in_step_with_their_table() {
        assert_eq!(DOMO_SCOPE_NAMES, DOMO_SCOPES.map(|(name, _)| name));
        assert!(DOMO_SCOPE_NAMES.is_sorted());
    }

    #[test]
    fn every_spelling_of_a_set_is_the_same_set() {
        for text in ["data user", "user data", "data,user", " user, data ,data"] {
            assert_eq!(ScopeSet::parse(text).unwrap().as_str(), "data user");
        }
        assert_ne!(ScopeSet::parse("Data"), ScopeSet::parse("data"));
    }

    #[test]
    fn invalid_scope_is_an_error() {
        assert_eq!(ScopeSet::parse(" ,"), Err(ScopeError::Empty));
        for text in ["da\nta", "da\0ta", "d\"a", "d\\a", "däta", "data\r"] {
            assert_eq!(
                ScopeSet::parse(text),
                Err(ScopeError::BadCharacter),
                "{text:?}"
            );
        }
        assert_eq!(ScopeSet::parse(&"a".repeat(1025)), Err(ScopeError::TooLong));
    }

    #[test]
    fn missing_scopes_are_named() {
        let asked = ScopeSet::parse("audit data user").unwrap();
        let granted = ScopeSet::parse("data workflow").unwrap();
        assert_eq!(asked.missing_from(&granted), ["audit", "user"]);
    }
}
