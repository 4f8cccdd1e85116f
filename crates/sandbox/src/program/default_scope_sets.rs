//! The scope sets that the broker of `run` has by default.

use domo_token_protocol::scope::ScopeSet;

use super::flags::ClientFlag;

/// Scope sets that jobs often use, apart from single scopes.
const COMMON: [&str; 3] = ["data user", "dashboard data", "dashboard data user"];

/// Returns the scope sets of a client by default: each of its scopes alone, common combinations, and all together.
pub(super) fn default_scope_sets(client: &ClientFlag) -> Vec<String> {
    let is_granted = |set: &&str| {
        let mut scopes = set.split(' ');
        scopes.all(|scope| client.scopes.iter().any(|granted| granted == scope))
    };
    let all = client.scopes.join(" ");
    let common = COMMON.iter().copied().filter(is_granted);
    let single = client.scopes.iter().map(String::as_str);
    let mut sets: Vec<String> = Vec::new();
    // A name that the broker would reject stays: its error names it.
    for text in single.chain(common).chain([all.as_str()]) {
        let set = ScopeSet::parse(text).map_or(text.to_owned(), |set| set.as_str().to_owned());
        if !sets.contains(&set) {
            sets.push(set);
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(scopes: &[&str]) -> ClientFlag {
        ClientFlag {
            id: "id".to_owned(),
            secret: "secret".to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        }
    }

    #[test]
    fn default_scope_sets_are_those_that_the_client_is_granted() {
        assert_eq!(default_scope_sets(&client(&["data"])), ["data"]);
        let sets = default_scope_sets(&client(&["user", "data", "audit"]));
        let expected = ["user", "data", "audit", "data user", "audit data user"];
        assert_eq!(sets, expected);
    }
}
