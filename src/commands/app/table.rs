//! The table that a new application needs in the config.

use std::fmt::Write;

use domo_token_protocol::scope::ScopeSet;

use crate::config::{ClientConfig, Config, HASH_FILE_END, LISTEN_LIKE, TOKEN_URL};

/// The paths of Domo's API by the scope that they need.
const PATHS: [(&str, &str); 8] = [
    ("account", "/v1/accounts/**"),
    ("audit", "/v1/audit/**"),
    ("dashboard", "/v1/pages/**"),
    ("data", "/v1/datasets/**"),
    ("data", "/v1/streams/**"),
    ("user", "/v1/groups/**"),
    ("user", "/v1/users/**"),
    ("workflow", "/v1/projects/**"),
];

/// Returns what to add to the config for an application; `None` if it has its table.
pub(super) fn missing(config: &Config, name: &str) -> Option<String> {
    let mut text = String::new();
    match &config.gateway {
        Some(gateway) if gateway.apps.contains_key(name) => return None,
        Some(_) => {}
        None => {
            let _ = writeln!(text, "[gateway]\nlisten = \"{LISTEN_LIKE}\"\n");
        }
    }
    let default = config.default_client.as_ref();
    let default = default.and_then(|name| config.clients.get_key_value(name));
    let (client, settings) = default.or_else(|| config.clients.iter().next())?;
    let quoted = if name.contains('.') {
        format!("\"{name}\"")
    } else {
        name.to_owned()
    };
    let _ = write!(
        text,
        "[gateway.apps.{quoted}]\nsecret_hash_file = \"{name}{HASH_FILE_END}\"\nclient = \"{client}\"\n"
    );
    if let Some(upstream) = upstream(settings) {
        let _ = writeln!(text, "upstream = \"{upstream}\"");
    }
    text.push_str("allow = [\n");
    for (path, scopes) in rules(&settings.tokens) {
        let _ = writeln!(
            text,
            "  {{ methods = [\"*\"], path = \"{path}\", scopes = \"{scopes}\" }},"
        );
    }
    text.push_str("]\n");
    Some(text)
}

/// Returns where the gateway listens, or will listen with [`missing`].
pub(super) fn host(config: &Config) -> String {
    match &config.gateway {
        Some(gateway) => {
            let listen = gateway.listen.or(gateway.tls_listen());
            listen.map_or(String::new(), |listen| listen.to_string())
        }
        None => LISTEN_LIKE.to_owned(),
    }
}

/// Returns the server of a client's token endpoint, unless it is Domo's own.
fn upstream(client: &ClientConfig) -> Option<String> {
    let url = &client.endpoint.url;
    (url.as_str() != TOKEN_URL).then(|| url.origin().ascii_serialization())
}

/// Returns rules for all that the scope sets permit, each with the smallest set that suffices.
fn rules(tokens: &[ScopeSet]) -> Vec<(&'static str, &str)> {
    let smallest = |scope: &str| {
        let sets = tokens.iter();
        let sets = sets.filter(|set| set.iter().any(|own| own == scope));
        sets.min_by_key(|set| set.iter().count())
    };
    let rules = PATHS.iter();
    let rules = rules.filter_map(|(scope, path)| Some((*path, smallest(scope)?.as_str())));
    let rules: Vec<_> = rules.collect();
    if !rules.is_empty() {
        return rules;
    }
    let any = tokens.first().map(|set| ("/v1/**", set.as_str()));
    any.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn sets(texts: &[&str]) -> Vec<ScopeSet> {
        let sets = texts.iter().map(|text| ScopeSet::parse(text).unwrap());
        sets.collect()
    }

    #[test]
    fn rules_have_the_smallest_scope_set_that_suffices() {
        let tokens = sets(&["data user", "data"]);
        assert_eq!(
            rules(&tokens),
            [
                ("/v1/datasets/**", "data"),
                ("/v1/streams/**", "data"),
                ("/v1/groups/**", "data user"),
                ("/v1/users/**", "data user"),
            ]
        );
        let tokens = sets(&["sales"]);
        assert_eq!(rules(&tokens), [("/v1/**", "sales")]);
    }

    #[test]
    fn table_makes_the_config_complete() {
        let path = Path::new("/etc/domo-token/config.toml");
        let client =
            "client_id = \"a\"\nclient_secret_file = \"s\"\ntokens = [\"data\", \"buzz\"]\n";
        for (lines, tables) in [
            ("", 2),
            (
                "token_url = \"http://127.0.0.1:1/oauth/token\"\nallow_http_loopback = true\n",
                2,
            ),
            ("[gateway]\nlisten = \"127.0.0.1:9\"\n", 1),
        ] {
            let text = format!(
                "[broker]\ndefault_client = \"b\"\n[clients.a]\n{client}[clients.b]\n{client}{lines}"
            );
            let config = Config::parse(&text, path).unwrap();
            let table = missing(&config, "e.tl").unwrap();
            assert_eq!(table.matches("[gateway").count(), tables, "{table}");
            let whole = Config::parse(&format!("{text}{table}"), path).unwrap();
            assert_eq!(host(&whole), host(&config));
            assert_eq!(missing(&whole, "e.tl"), None);
            let app = &whole.gateway.unwrap().apps["e.tl"];
            assert_eq!((app.client.as_str(), app.allow.len()), ("b", 2));
            assert_eq!(
                app.secret_hash_file.path(),
                path.with_file_name("e.tl.hash")
            );
            let is_local = lines.contains("token_url");
            assert_eq!(app.upstream.scheme() == "http", is_local);
        }
    }
}
