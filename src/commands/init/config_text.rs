//! The text of a first config, and which option is wrong if the config is.

use std::path::{Component, Path, PathBuf};

use domo_token_protocol::scope::ScopeSet;

use super::error::wrong;
use super::{InitError, InitOptions};
use crate::config::named_path::NamedPath;
use crate::config::{Config, Naming, Setting};

/// Returns the config that the options describe.
pub(super) fn config_text(options: &InitOptions, client_id: &str) -> Result<String, InitError> {
    let name = &options.name;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(wrong(
            "--name",
            "a client's name has letters, digits, '_' or '-'",
        ));
    }
    let mut sets = Vec::new();
    for set in &options.tokens {
        let parsed = ScopeSet::parse(set).map_err(|error| wrong("--tokens", &error.to_string()))?;
        sets.push(quoted(parsed.as_str()));
    }
    let mut lines = vec![
        "# All keys: domo-tokend check --schema".to_owned(),
        format!("[clients.{name}]"),
        format!("client_id = {}", quoted(client_id)),
        format!("client_secret_file = \"{name}.secret\""),
        format!("tokens = [{}]", sets.join(", ")),
    ];
    if let Some(url) = &options.token_url {
        lines.push(format!("token_url = {}", quoted(url)));
        if url.starts_with("http://") {
            lines.push("allow_http_loopback = true".to_owned());
        }
    }
    if let Some(url) = &options.proxy {
        lines.push(format!("proxy = {}", quoted(url)));
    }
    for (key, option, file) in [
        (
            "proxy_auth_file",
            "--proxy-auth-file",
            &options.proxy_auth_file,
        ),
        ("ca_file", "--ca-file", &options.ca_file),
    ] {
        if let Some(file) = file {
            lines.push(format!("{key} = {}", quoted(&absolute(file, option)?)));
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// Parses the text by the rules of every config. An error of a value names its option.
pub(super) fn parse(text: &str, path: &Path) -> Result<Config, InitError> {
    let config = Config::parse_as(text, path, Naming::Options);
    config.map_err(|error| match error.key().and_then(option_of) {
        Some(option) => wrong(option, &error.problem()),
        None => InitError::Config(error),
    })
}

/// Returns the option that sets the key at the end of a path like `clients.acme.proxy`, or the name of
/// the client.
fn option_of(key: &str) -> Option<&'static str> {
    let client = key.strip_prefix("clients")?;
    let Some((_, key)) = client.trim_start_matches('.').split_once('.') else {
        return Some("--name");
    };
    let mut settings = Setting::ALL.iter();
    settings
        .find(|setting| setting.key == key)
        .map(|setting| setting.option)
}

/// Returns the absolute path of a file of an option. Paths of options are relative to the working directory, those of the
fn absolute(file: &Path, option: &'static str) -> Result<String, InitError> {
    if NamedPath::from(file).is_secret() {
        return Err(wrong(
            option,
            &format!("looks like a secret ({})", Naming::Options.secret_hint()),
        ));
    }
    if option == "--proxy-auth-file" && is_login(file) {
        return Err(wrong(option, LOGIN_ITSELF));
    }
    // What the rules of the config reject must stay as it is.
    let is_whole = file.as_os_str().is_empty() || file.to_string_lossy().starts_with('~');
    let absolute = if is_whole {
        Ok(file.to_owned())
    } else {
        std::path::absolute(file)
    };
    let absolute = absolute.map_err(|error| wrong(option, &error.to_string()))?;
    let text = PathBuf::into_os_string(absolute).into_string();
    text.map_err(|_| wrong(option, "the path is not UTF-8, which TOML requires"))
}

const LOGIN_ITSELF: &str = "there is no such file; must be the path of a file, not the login itself; \
                            write the login to a file of mode 0600 and use its path";

/// Returns whether the login itself may be given instead of its file, which no message must show then. It has a
/// colon, and the user's name may have slashes.
fn is_login(file: &Path) -> bool {
    let mut parts = file.components();
    let has_colon = parts.any(|part| match part {
        Component::Normal(name) => name.to_string_lossy().contains(':'),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            false
        }
    });
    has_colon && !file.exists()
}

/// As a TOML string; JSON's form is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::*;

    fn config(options: &InitOptions) -> Result<Config, String> {
        let text = config_text(options, "id").map_err(|error| error.to_string())?;
        parse(&text, Path::new("/etc/domo-token/config.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn files_are_written_with_their_absolute_paths() {
        let here = std::env::current_dir().unwrap();
        let config = config(&InitOptions {
            proxy: Some("http://proxy.example:3128".to_owned()),
            proxy_auth_file: Some("login".into()),
            ca_file: Some("a \"ca\".pem".into()),
            ..options()
        });
        let config = config.unwrap();
        let endpoint = &config.clients.values().next().unwrap().endpoint;
        let proxy = endpoint.proxy.as_ref().map(url::Url::as_str);
        assert_eq!(proxy, Some("http://proxy.example:3128/"));
        let login = endpoint.proxy_auth_file.as_ref().unwrap();
        assert_eq!(login.path(), here.join("login"));
        let ca = endpoint.ca_file.as_ref().unwrap();
        assert_eq!(ca.path(), here.join("a \"ca\".pem"));
    }

    #[test]
    fn wrong_value_is_an_error_that_begins_with_its_option() {
        const SECRET: &str = "5f3c0c9d8e7b6a59483726150f0e1d2c5f3c0c9d8e7b6a59483726150f0e1d2c";
        type Change = fn(&mut InitOptions);
        let cases: [(Change, &str); 13] = [
            (|w| w.proxy = Some("proxy.example".to_owned()), "--proxy: "),
            (
                |w| w.proxy = Some("http://ann:c4nary@proxy.example".to_owned()),
                "--proxy: ",
            ),
            (
                |w| w.proxy_auth_file = Some("login".into()),
                "--proxy-auth-file: ",
            ),
            (|w| w.ca_file = Some("~/ca.pem".into()), "--ca-file: "),
            (|w| w.ca_file = Some("".into()), "--ca-file: "),
            (
                |w| w.ca_file = Some(SECRET.into()),
                "--ca-file: looks like a secret",
            ),
            (
                |w| w.token_url = Some("http://api.domo.com/oauth/token".to_owned()),
                "--token-url: ",
            ),
            (|w| w.tokens = vec![String::new()], "--tokens: "),
            (
                |w| {
                    w.proxy = Some("http://p.example".to_owned());
                    w.proxy_auth_file = Some("ann:c4nary%25".into());
                },
                "--proxy-auth-file: there is no such file",
            ),
            (
                |w| w.proxy_auth_file = Some("./CORP/ann:c4nary".into()),
                "--proxy-auth-file: there is no such file",
            ),
            (
                |w| w.proxy_auth_file = Some("/none/ann:c4nary/word".into()),
                "--proxy-auth-file: there is no such file",
            ),
            (|w| w.name = "n".repeat(300), "--name: a client's name has"),
            (
                |w| w.name = SECRET.to_owned(),
                "--name: looks like a secret",
            ),
        ];
        for (change, option) in cases {
            let mut options = options();
            change(&mut options);
            let error = config(&options).unwrap_err();
            assert!(error.starts_with(option), "{option}: {error}");
            let names_key = ["_file", "_url", "config.toml"]
                .iter()
                .any(|key| error.contains(key));
            assert!(!names_key, "{error}");
            let shows_secret = error.contains("c4nary") || error.contains(SECRET);
            assert!(!shows_secret, "{error}");
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
