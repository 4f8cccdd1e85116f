//! PURE. Messages about a client that the environment alone configures: its variables in place of the keys
//! of a config.

use std::borrow::Cow;

use super::{ENV_ALLOW_WORLD_READABLE, ENV_PROXY, ENV_PROXY_LOGIN};
use domo_token_core::masking::{ENV_HINT, HINT};

/// The keys that have a name of their own, which is no other word.
const KEYS: [(&str, &str); 3] = [
    ("token_url", "DOMO_TOKEN_URL"),
    ("ca_file", "DOMO_CA_FILE"),
    ("proxy_auth_file", ENV_PROXY_LOGIN),
];

/// What messages ask for.
const PHRASES: [(&str, &str); 8] = [
    (HINT, ENV_HINT),
    ("name another in the config", "name another in the variable"),
    ("set proxy to ", "set DOMO_PROXY to "),
    ("check proxy", "check DOMO_PROXY"),
    ("remove proxy,", "remove DOMO_PROXY,"),
    ("host and port of proxy", "host and port of DOMO_PROXY"),
    ("is set as proxy gets", "is set as DOMO_PROXY gets"),
    (
        "set token_method to the other of \"post\" and \"get\"",
        "GET takes a config file with token_method = \"get\"",
    ),
];

/// Returns a message with the variables that there are in place of keys.
#[must_use]
pub fn in_variables(message: &str) -> String {
    let mut text = message
        .split(' ')
        .map(variable_for)
        .collect::<Vec<_>>()
        .join(" ");
    for (key, variable) in PHRASES {
        text = text.replace(key, variable);
    }
    let allow = "allow_world_readable_secret = true";
    text = text.replace(allow, &format!("{ENV_ALLOW_WORLD_READABLE}=1"));
    // The value of a variable has no quotes.
    if let Some((before, rest)) = text.split_once("write proxy = \"")
        && let Some((url, after)) = rest.split_once('"')
    {
        return format!("{before}write {ENV_PROXY}={url}{after}");
    }
    text
}

/// The word, or the variable for it if it is a key. A path with such a word in it stays as it is.
fn variable_for(word: &str) -> Cow<'_, str> {
    let plain = word.trim_end_matches([',', ';', ':', '.']);
    let mut keys = KEYS.iter();
    match keys.find(|(key, _)| *key == plain) {
        Some((key, variable)) => word.replacen(key, variable, 1).into(),
        None => word.into(),
    }
}

/// Where the messages are that are put in other terms, so that a test notices when one is worded
/// differently.
#[cfg(test)]
pub(crate) mod sources {
    use std::fs;
    use std::path::Path;

    /// Returns whether the text stands in a source file other than those that replace it.
    pub(crate) fn have(text: &str) -> bool {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = root.join("src");
        let replacing = [
            source.join("config/variable_names.rs"),
            source.join("commands/init/option_names.rs"),
        ];
        assert!(replacing.iter().all(|path| path.exists()));
        let mut folders = vec![source, root.join("crates/core/src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !replacing.contains(&path)
                    && fs::read_to_string(path).unwrap().contains(text)
                {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_that_are_replaced_are_those_of_messages() {
        // The first one is a constant.
        for (phrase, _) in &PHRASES[1..] {
            let source = phrase.replace('"', "\\\"");
            assert!(sources::have(&source), "{phrase}");
        }
    }

    #[test]
    fn keys_become_variables_and_paths_stay() {
        for (message, expected) in [
            (
                "no CA; ca_file must hold it",
                "no CA; DOMO_CA_FILE must hold it",
            ),
            ("check token_url", "check DOMO_TOKEN_URL"),
            (
                "name it with proxy_auth_file; 407",
                "name it with DOMO_PROXY_AUTH_FILE; 407",
            ),
            (
                "it speaks TLS; write proxy = \"https://p.example:3128\"",
                "it speaks TLS; write DOMO_PROXY=https://p.example:3128",
            ),
            ("/etc/ca_file: no such file", "/etc/ca_file: no such file"),
            (
                "set allow_world_readable_secret = true",
                "set DOMO_ALLOW_WORLD_READABLE_SECRET=1",
            ),
            (HINT, ENV_HINT),
            (
                "answered 405; set token_method to the other of \"post\" and \"get\"",
                "answered 405; GET takes a config file with token_method = \"get\"",
            ),
            (
                "the proxy closed it; check proxy",
                "the proxy closed it; check DOMO_PROXY",
            ),
            (
                "a SOCKS proxy; set proxy to an HTTP proxy",
                "a SOCKS proxy; set DOMO_PROXY to an HTTP proxy",
            ),
        ] {
            assert_eq!(in_variables(message), expected);
        }
    }
}
