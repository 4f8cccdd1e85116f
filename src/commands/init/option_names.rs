//! PURE. Messages about a config, put in terms of the options of `init`: there is no config yet whose
//! keys somebody could set.

/// Keys of a client, and the options that set them.
const OPTIONS: [(&str, &str); 5] = [
    ("tokens", "--tokens"),
    ("token_url", "--token-url"),
    ("proxy", "--proxy"),
    ("proxy_auth_file", "--proxy-auth-file"),
    ("ca_file", "--ca-file"),
];

/// Parts of messages, and what they are here. They come before the keys in them.
const PARTS: [(&str, &str); 9] = [
    ("set proxy, or remove this", "add --proxy URL, or remove it"),
    (
        "set proxy to an HTTP proxy",
        "name an HTTP proxy by --proxy",
    ),
    ("check proxy", "check --proxy"),
    ("host and port of proxy", "host and port of --proxy"),
    ("that is set as proxy", "that --proxy names"),
    ("remove the key", "remove the option"),
    (
        "set allow_world_readable_secret = true where the mode can't be changed, or ",
        "",
    ),
    ("name another in the config", "name another"),
    ("it belongs in client_secret", "init asks for it"),
];

/// Returns the option that sets the key at the end of a path like `clients.acme.proxy`, or the name of
/// the client.
pub(super) fn option_of(key: &str) -> Option<&'static str> {
    let mut parts = key.splitn(3, '.').fuse();
    match (parts.next(), parts.next(), parts.next()) {
        (Some("clients"), _, None) => Some("--name"),
        (Some("clients"), Some(_), Some(key)) => option(key),
        _ => None,
    }
}

fn option(key: &str) -> Option<&'static str> {
    let mut options = OPTIONS.iter();
    let found = options.find(|(of_option, _)| *of_option == key);
    found.map(|(_, option)| *option)
}

/// Returns a message with options in the place of keys.
pub(super) fn in_options(message: &str) -> String {
    let mut text = message.to_owned();
    for (part, here) in PARTS {
        text = text.replace(part, here);
    }
    for (key, option) in OPTIONS {
        text = with_assignments(&text, key, option);
    }
    let words = text.split(' ').map(in_option);
    let text = words.collect::<Vec<_>>().join(" ");
    text.replace("set --", "add --")
}

/// `KEY = "VALUE"` as it stands on a command line.
fn with_assignments(text: &str, key: &str, option: &str) -> String {
    let Some((before, rest)) = text.split_once(&format!(" {key} = \"")) else {
        return text.to_owned();
    };
    match rest.split_once('"') {
        Some((value, after)) => format!("{before} {option} {value}{after}"),
        None => text.to_owned(),
    }
}

/// A word that is a key. `proxy` and `tokens` are words of messages, too.
fn in_option(word: &str) -> String {
    let end = word.trim_end_matches([',', ';', ':']);
    let option = option(end).filter(|_| end.contains('_'));
    option.map_or(word.to_owned(), |option| word.replacen(end, option, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources;

    #[test]
    fn phrases_that_are_replaced_are_those_of_messages() {
        for (phrase, _) in PARTS {
            assert!(sources::have(phrase), "{phrase}");
        }
    }

    #[test]
    fn message_about_keys_names_the_options() {
        for (message, here) in [
            (
                "mode 0600 and set proxy_auth_file = \"FILE\"",
                "mode 0600 and add --proxy-auth-file FILE",
            ),
            (
                "speaks TLS, not http; write proxy = \"https://p:1\"",
                "speaks TLS, not http; write --proxy https://p:1",
            ),
            (
                "a login for no proxy: set proxy, or remove this",
                "a login for no proxy: add --proxy URL, or remove it",
            ),
            (
                "it requires a login; write user:password to a file and name it with proxy_auth_file",
                "it requires a login; write user:password to a file and name it with --proxy-auth-file",
            ),
            (
                "set allow_world_readable_secret = true where the mode can't be changed, or run: chmod 600 f",
                "run: chmod 600 f",
            ),
            (
                "ca_file /none: No such file; put it there, or name another in the config",
                "--ca-file /none: No such file; put it there, or name another",
            ),
            (
                "ca_file: must be; check token_url",
                "--ca-file: must be; check --token-url",
            ),
            ("the tokens of a proxy", "the tokens of a proxy"),
            ("--ca-file /a/ca_file: no", "--ca-file /a/ca_file: no"),
        ] {
            assert_eq!(in_options(message), here);
        }
    }

    #[test]
    fn key_of_a_client_or_its_name_is_an_option() {
        for (key, option) in [
            ("clients.acme.proxy", Some("--proxy")),
            ("clients.acme.client_id", None),
            ("clients.acme", Some("--name")),
            ("clients", Some("--name")),
            ("broker.socket", None),
        ] {
            assert_eq!(option_of(key), option, "{key}");
        }
    }
}
