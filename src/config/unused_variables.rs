//! Variables of the environment that are set and not used.

use url::Url;

use super::environment::VARIABLES;
use super::{Config, CredentialsSource, Env, Naming, SecretSource, Setting};

/// The variables by which other programs find their proxy for https, in the order in which curl reads
/// them.
pub(crate) const PROXY_VARIABLES: [&str; 4] =
    ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

impl Config {
    /// Adds notices about variables of the environment that are set and not used.
    pub fn note_unused_variables(&mut self, env: Env) {
        let is_set = |name: &&str| env(name).is_some_and(|value| !value.is_empty());
        let ignored: Vec<&str> = VARIABLES
            .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
            .filter(|word| word.starts_with("DOMO_"))
            .filter(is_set)
            .collect();
        let ignored = ignored.into_iter().filter(|name| !self.has_secret_in(name));
        let ignored = ignored.collect::<Vec<_>>().join(", ");
        if self.path.is_some() && !ignored.is_empty() {
            self.notices
                .push(format!("ignored because a config file is used: {ignored}"));
        }
        let name = PROXY_VARIABLES.into_iter().find(is_set);
        self.notices
            .extend(name.and_then(|name| self.on_proxy(name, env)));
    }

    fn has_secret_in(&self, variable: &str) -> bool {
        let fleet = self
            .fleet
            .as_ref()
            .and_then(|fleet| fleet.password.as_ref());
        if matches!(fleet, Some(SecretSource::Env(name)) if name == variable) {
            return true;
        }
        let mut clients = self.clients.values();
        clients.any(|client| match &client.credentials {
            CredentialsSource::Pair {
                secret: SecretSource::Env(name),
                ..
            } => name == variable,
            CredentialsSource::Pair { .. } | CredentialsSource::ConnectionFile(_) => false,
        })
    }

    /// Returns the notice about a proxy that is set for other programs, if a client could need it.
    fn on_proxy(&self, variable: &str, env: Env) -> Option<String> {
        let mut clients = self.clients.iter();
        let (name, client) = clients.find(|(_, client)| {
            let endpoint = &client.endpoint;
            endpoint.proxy.is_none() && !needs_no_proxy(&endpoint.url, env)
        })?;
        let naming = client.endpoint.naming;
        let mut instead = naming.assignment(Setting::PROXY, "http://HOST:PORT");
        if naming == Naming::Keys {
            instead = format!("{instead} in [clients.{name}]");
        }
        Some(format!(
            "{variable} is set but not used; if Domo is reached through a proxy, set {instead}"
        ))
    }
}

/// Returns whether other programs would bypass the environment's https proxy for this URL.
pub(crate) fn needs_no_proxy(url: &Url, env: Env) -> bool {
    let excluded = ["NO_PROXY", "no_proxy"].into_iter().find_map(env);
    let excluded = excluded.unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    url.scheme() != "https" || is_excluded(host, &excluded.to_string_lossy())
}

/// Returns whether a list like `localhost,.corp.example` names a host.
fn is_excluded(host: &str, list: &str) -> bool {
    let mut entries = list.split([',', ' ']).filter(|entry| !entry.is_empty());
    entries.any(|entry| {
        let entry = entry.trim_start_matches("*.").trim_start_matches('.');
        let ends = host.len().checked_sub(entry.len());
        let end = ends.and_then(|at| host.get(at..));
        let before = ends.and_then(|at| host.get(..at)).unwrap_or_default();
        entry == "*"
            || end.is_some_and(|end| end.eq_ignore_ascii_case(entry))
                && (before.is_empty() || before.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Returns the notices about these variables, with a config file of that client.
    fn notices(lines: &str, set: &[(&str, &str)]) -> Vec<String> {
        let text = format!("[clients.acme]\nclient_id = \"a\"\ntokens = [\"data\"]\n{lines}\n");
        let mut config = Config::parse(&text, Path::new("/etc/config.toml")).unwrap();
        config.note_unused_variables(&|name: &str| {
            let found = set.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).into())
        });
        config.notices
    }

    #[test]
    fn client_variable_is_reported_where_a_config_file_overrides_it() {
        let file = "client_secret_file = \"s\"";
        let set = [
            ("DOMO_PROXY_AUTH_FILE", "/login"),
            ("DOMO_CLIENT_SECRET", "c4nary"),
            ("DOMO_SCOPE", ""),
        ];
        assert_eq!(
            notices(file, &set),
            ["ignored because a config file is used: DOMO_CLIENT_SECRET, DOMO_PROXY_AUTH_FILE"]
        );
        let used = "client_secret_env = \"DOMO_CLIENT_SECRET\"";
        assert_eq!(notices(used, &set[1..]), [""; 0]);
        assert_eq!(notices(file, &[]), [""; 0]);
    }

    #[test]
    fn proxy_variable_is_reported_where_a_client_could_need_it() {
        let file = "client_secret_file = \"s\"\n";
        let with = |lines: &str, set: &[(&str, &str)]| notices(&format!("{file}{lines}"), set);
        for name in PROXY_VARIABLES {
            let set = [(name, "http://proxy.example:3128")];
            assert_eq!(
                with("", &set),
                [format!(
                    "{name} is set but not used; if Domo is reached through a proxy, set proxy = \"http://HOST:PORT\" in [clients.acme]"
                )]
            );
        }
        let set = ("https_proxy", "http://proxy.example:3128");
        for lines in [
            "proxy = \"http://proxy.example:3128\"",
            "token_url = \"http://127.0.0.1/t\"\nallow_http_loopback = true",
        ] {
            assert_eq!(with(lines, &[set]), [""; 0], "{lines}");
        }
        assert_eq!(with("", &[("HTTPS_PROXY", "")]), [""; 0]);
        for (list, is_excluded) in [
            ("*", true),
            ("localhost,.domo.com", true),
            ("domo.com", true),
            ("*.domo.com", true),
            ("API.domo.com", true),
            ("mo.com", false),
            ("localhost, 127.0.0.1", false),
            ("", false),
        ] {
            let found = with("", &[set, ("no_proxy", list)]);
            assert_eq!(found.is_empty(), is_excluded, "{list}");
        }
    }
}
