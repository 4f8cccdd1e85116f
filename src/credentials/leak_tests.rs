//! No message shows a secret, wherever it is in a config.

use std::path::Path;

use proptest::prelude::*;

use super::{fleet_files, load, proxy_login, read_certificates};
use crate::config::Config;

/// Sixty-four hexadecimal digits, as Domo's secrets are.
const SECRET: &str = "deadbeef00112233445566778899aabbccddeeff0102030405060708090a0b0c";

/// With `+`, `/` and `=`, as random bytes in base64 are.
const BASE64: &str = "3q2+7wEjRWeJq83vASN/FZ4mrze8BI0VniavN7wAA9fa4b2c7d1e==";

/// A config with all keys, of which each has a value in quotes. A file with a dot in its name is shown.
const CONFIG: &str = r#"[broker]
socket = "broker-sock"
socket_mode = "0660"
socket_group = "users"
default_client = "acme"
[log]
level = "info"
[metrics]
listen = "127.0.0.1:9347"
[audit]
file = "/nowhere/audit"
[limits]
first_request_deadline = "10s"
[fleet]
url = "rediss://cache.example:6379/0"
username = "domo-token"
password_file = "redis-password"
ca_file = "redis-pem"
client_certificate_file = "own-pem"
client_key_file = "own-key"
key_file = "fleet-key"
prefix = "domo-token"
[clients.acme]
client_id = "441e307a"
client_secret_file = "acme-secret"
tokens = ["data", "data user"]
token_url = "https://domo.example/oauth/token"
token_method = "get"
ca_file = "own-pem"
proxy = "http://proxy.example:3128"
proxy_auth_file = "login"
[clients.acme.access]
data = { users = ["etl"], groups = ["analysts"], units = ["report.service"] }
[clients.other]
client_id_file = "other-id"
client_secret_env = "OTHER_SECRET"
tokens = ["data"]
[clients.third]
client_file = "pydomo-ini"
tokens = ["data"]
[clients.fourth]
client_id = "441e307a"
client_secret_credential = "fourth"
tokens = ["data"]
[clients.fifth]
client_id = "441e307a"
client_secret_command = ["no-such-program"]
tokens = ["data"]
[clients.sixth]
client_id = "441e307a"
client_secret = "x"
tokens = ["data"]
"#;

/// Lines that have a secret in them, instead of a line of the config or besides it.
const LINES: [&str; 14] = [
    "client_secret = S",
    "client_secret = 'S",
    "client_secret = \"\"\"S",
    "client_secret = { S = 1 }",
    "client_secret = [\"S\"]",
    "client_secret.S = 1",
    "S",
    "S = 1",
    "\"S\" = 1",
    "\"S !\" = 1",
    "S == 1",
    "[S]",
    "[[S]]",
    "[clients.S]",
];

/// Returns all messages that `text` causes as a config.
fn messages(text: &str, folder: &Path) -> String {
    let config = match Config::parse(text, &folder.join("config.toml")) {
        Ok(config) => config,
        Err(error) => return error.to_string(),
    };
    let mut shown = config.notices.clone();
    shown.extend(config.unresolved_principals());
    let fleet = config
        .fleet
        .as_ref()
        .map(|fleet| fleet_files(fleet, &|_| None));
    shown.extend(fleet.and_then(Result::err).map(|error| error.to_string()));
    for client in config.clients.values() {
        shown.extend(load(client, &|_| None).err().map(|error| error.to_string()));
        shown.extend(proxy_login(client).err().map(|error| error.to_string()));
        let certificates = client.endpoint.ca_file.as_ref().map(read_certificates);
        shown.extend(
            certificates
                .and_then(Result::err)
                .map(|error| error.to_string()),
        );
    }
    shown.join("\n")
}

/// Returns whether messages contain more of the secret than its start.
fn shows(messages: &str, secret: &str) -> bool {
    let mut runs = secret.as_bytes().windows(9);
    runs.any(|run| messages.as_bytes().windows(9).any(|seen| seen == run))
}

#[track_caller]
fn assert_hidden(text: &str, secret: &str, folder: &Path) {
    let shown = messages(text, folder);
    assert!(!shows(&shown, secret), "{shown}\nof\n{text}");
}

#[test]
fn secret_as_any_value_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let quotes: Vec<usize> = CONFIG.match_indices('"').map(|(at, _)| at).collect();
    let mut count = 0;
    for pair in quotes.chunks(2) {
        let [open, close] = pair else {
            panic!("{pair:?}")
        };
        let (before, after) = (&CONFIG[..=*open], &CONFIG[*close..]);
        for secret in [SECRET, BASE64] {
            let whole = &CONFIG[open + 1..*close];
            for value in [
                secret.to_owned(),
                format!("{secret}!"),
                format!(" {secret} "),
                format!("/{secret}"),
                format!("{secret}\\n{secret}"),
                format!("{whole} {secret}"),
                format!("https://u:{secret}@domo.example/x"),
                format!("https://domo.example/x?s={secret}"),
                format!("https://{secret}/x"),
            ] {
                let is_url = value.starts_with("http");
                let is_absolute = value.starts_with('/') && value[1..].contains('/');
                if !is_absolute && (!is_url || whole.starts_with("http")) {
                    assert_hidden(&format!("{before}{value}{after}"), secret, folder.path());
                    count += 1;
                }
            }
            // Without its quotes, too.
            let bare = format!("{}{secret}{}", &CONFIG[..*open], &CONFIG[close + 1..]);
            assert_hidden(&bare, secret, folder.path());
        }
    }
    assert!(count > 300, "{count}");
}

#[test]
fn secret_as_a_key_or_a_table_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<&str> = CONFIG.lines().collect();
    for index in 0..=lines.len() {
        for line in LINES {
            for secret in [SECRET, BASE64] {
                let line = line.replace('S', secret);
                let mut besides = lines.clone();
                besides.insert(index, &line);
                assert_hidden(&besides.join("\n"), secret, folder.path());
                let mut instead = lines.clone();
                if let Some(old) = instead.get_mut(index) {
                    *old = &line;
                    assert_hidden(&instead.join("\n"), secret, folder.path());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn secret_in_a_broken_config_is_not_shown(
        at in any::<prop::sample::Index>(),
        around in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        breaks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..3),
    ) {
        const PIECES: [&str; 16] = [
            "\"", "'", "= ", "[", "]", "{", "}", ", ", "\n", "\\", "#", " ", "!", "\"\"\"", "\u{1}", ":",
        ];
        let piece = |index: prop::sample::Index| PIECES[index.index(PIECES.len())];
        let (before, after) = around.split_at(around.len() / 2);
        let before: String = before.iter().copied().map(piece).collect();
        let after: String = after.iter().copied().map(piece).collect();
        let mut text = CONFIG.to_owned();
        for (at, index) in breaks {
            text.insert_str(at.index(text.len()), piece(index));
        }
        text.insert_str(at.index(text.len()), &format!("{before}{SECRET}{after}"));
        let folder = tempfile::tempdir().unwrap();
        let shown = messages(&text, folder.path());
        prop_assert!(!shows(&shown, SECRET), "{shown}\nof\n{text}");
        prop_assert!(!shown.replace('\n', "").contains(char::is_control), "{shown:?}");
    }
}
