//! Suggests an existing name for one that does not exist.

use domo_token_protocol::scope::ScopeSet;

/// The most bytes of a name, and the most names, that are compared letter by letter, which bounds the cost
/// of an answer.
const MAX_COMPARED: usize = 64;

/// The most letters that a typo changes.
const MAX_TYPOS: usize = 2;

/// Returns the scope set that `requested` most likely means.
pub(super) fn scope_set<'a>(
    requested: &ScopeSet,
    known: impl Iterator<Item = &'a ScopeSet> + Clone,
) -> Option<&'a str> {
    // The order of a set's scopes depends on their case.
    let lower = |set: &ScopeSet| ScopeSet::parse(&set.as_str().to_ascii_lowercase()).ok();
    let plain = lower(requested)?;
    let same = known.clone().find(|set| {
        set.as_str().len() == plain.as_str().len() && lower(set) == Some(plain.clone())
    });
    let same = same.map(ScopeSet::as_str);
    same.or_else(|| nearest(plain.as_str(), known.map(ScopeSet::as_str)))
}

/// Returns the client that `requested` most likely means.
pub(super) fn client<'a>(
    requested: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let same = known
        .clone()
        .find(|name| name.eq_ignore_ascii_case(requested));
    same.or_else(|| nearest(requested, known))
}

/// Returns the name that differs from `requested` in the fewest letters, if these are few for its length.
fn nearest<'a>(requested: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typos = if requested.len() > 4 { MAX_TYPOS } else { 1 };
    let near = known.filter(|name| {
        requested.len().max(name.len()) <= MAX_COMPARED
            && requested.len().abs_diff(name.len()) <= typos
    });
    let near = near.take(MAX_COMPARED);
    let near = near.map(|name| (strsim::osa_distance(requested, name), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= typos && distance * 2 < requested.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggestion(requested: &str, known: &[&str]) -> Option<String> {
        let known: Vec<ScopeSet> = known.iter().map(|k| ScopeSet::parse(k).unwrap()).collect();
        let requested = ScopeSet::parse(requested).unwrap();
        scope_set(&requested, known.iter()).map(str::to_owned)
    }

    #[test]
    fn scope_set_that_differs_in_case_or_by_a_typo_is_suggested() {
        let known = ["data", "data user", "Sales"];
        for (requested, expected) in [
            ("Data", "data"),
            ("DATA", "data"),
            ("User data", "data user"),
            ("data User", "data user"),
            ("sales", "Sales"),
            ("dta", "data"),
            ("dataa", "data"),
            ("data uesr", "data user"),
            ("data usrs", "data user"),
        ] {
            assert_eq!(
                suggestion(requested, &known).as_deref(),
                Some(expected),
                "{requested}"
            );
        }
        for requested in [
            "user",
            "audit",
            "da",
            "d",
            "list",
            "data audit",
            "curl data",
        ] {
            assert_eq!(suggestion(requested, &known), None, "{requested}");
        }
        assert_eq!(suggestion("data", &[]), None);
    }

    #[test]
    fn comparison_of_long_and_many_names_is_bounded() {
        let long = "x".repeat(1000);
        assert_eq!(suggestion(&long, &[&format!("{long}y")]), None);
        assert_eq!(suggestion(&long.to_uppercase(), &[&long]), Some(long));
        let many: Vec<String> = (0..1000).map(|n| format!("report{n:04}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(suggestion("report0001x", &many).is_some());
    }

    #[test]
    fn client_that_differs_in_case_or_by_a_typo_is_suggested() {
        let suggestion = |requested| client(requested, ["acme", "beta"].into_iter());
        assert_eq!(suggestion("acm"), Some("acme"));
        assert_eq!(suggestion("ACME"), Some("acme"));
        assert_eq!(suggestion("bate"), None);
        assert_eq!(suggestion("gamma"), None);
        assert_eq!(suggestion(""), None);
    }
}
