//! What was written: the shape of the TOML, with nothing judged yet.

mod message;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::platform::logging::LEVELS;

/// The token methods there are.
pub(super) const METHODS: [&str; 2] = ["post", "get"];

/// What must be written as a table: serde would take a list of the values for one, too.
#[derive(Debug, Default)]
pub(super) struct Table<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys(PhantomData)).map(Self)
    }
}

struct Keys<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Keys<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// The config of domo-tokend.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Config")]
pub(super) struct RawConfig {
    /// The daemon itself.
    #[serde(default)]
    #[schemars(with = "RawBroker")]
    pub(super) broker: Table<RawBroker>,
    /// What it logs.
    #[serde(default)]
    #[schemars(with = "RawLog")]
    pub(super) log: Table<RawLog>,
    /// Where its metrics can be read.
    #[serde(default)]
    #[schemars(with = "RawMetrics")]
    pub(super) metrics: Table<RawMetrics>,
    /// Who was given what.
    #[serde(default)]
    #[schemars(with = "RawAudit")]
    pub(super) audit: Table<RawAudit>,
    /// Bounds, so that no local user can shut out another.
    #[serde(default)]
    #[schemars(with = "RawLimits")]
    pub(super) limits: Table<RawLimits>,
    /// Domo API clients by name: letters, digits, '.', '_' and '-'.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawClient>")]
    pub(super) clients: BTreeMap<String, Spanned<Table<RawClient>>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Broker")]
pub(super) struct RawBroker {
    /// The path of its socket.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) socket: Option<Spanned<PathBuf>>,
    /// The socket's permission bits, as in chmod; "0600" by default.
    #[schemars(with = "Option<String>", regex(pattern = "^0?[0-7]{3}$"))]
    pub(super) socket_mode: Option<Spanned<String>>,
    /// The callers' group, which the socket is given to; never the daemon's own.
    #[schemars(with = "Option<RawPrincipal>")]
    pub(super) socket_group: Option<Spanned<RawPrincipal>>,
    /// On Windows the callers' group, by name or security identifier.
    #[schemars(with = "Option<String>")]
    pub(super) pipe_group: Option<Spanned<String>>,
    /// Whether the socket's directory may be writable by others (container volumes).
    #[serde(default)]
    pub(super) shared_directory: bool,
    /// The client meant when a caller names none. Not needed while there is one client.
    #[schemars(with = "Option<String>")]
    pub(super) default_client: Option<Spanned<String>>,
    /// Whether systemd may keep the tokens in memory while the service restarts; true by default.
    pub(super) keep_over_restart: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Metrics")]
pub(super) struct RawMetrics {
    /// A loopback address and port for Prometheus and health checks, like "127.0.0.1:9347"; shows
    /// the names of clients and scopes to every local user.
    #[schemars(with = "Option<String>")]
    pub(super) listen: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Audit")]
pub(super) struct RawAudit {
    /// A file that gets a JSON line for each token handed out or refused.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) file: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(super) struct RawLimits {
    /// Connections at once; 4096 by default.
    #[schemars(with = "Option<u32>", range(min = 1, max = 1_000_000))]
    pub(super) connections: Option<Spanned<i64>>,
    /// Connections of one user; 1024 by default. Root and the daemon's user are exempt.
    #[schemars(with = "Option<u32>", range(min = 1, max = 1_000_000))]
    pub(super) connections_per_user: Option<Spanned<i64>>,
    /// Of these, those that watch a set; 1024 by default.
    #[schemars(with = "Option<u32>", range(min = 1, max = 1_000_000))]
    pub(super) watchers_per_user: Option<Spanned<i64>>,
    /// How long a connection may take over its first request, like "10s", which is the default.
    #[schemars(with = "Option<String>")]
    pub(super) first_request_deadline: Option<Spanned<String>>,
    /// How long a later request may take from its first byte to its last; "5s" by default.
    #[schemars(with = "Option<String>")]
    pub(super) request_deadline: Option<Spanned<String>>,
    /// How long a caller may take to read an answer; "5s" by default.
    #[schemars(with = "Option<String>")]
    pub(super) answer_deadline: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Log")]
pub(super) struct RawLog {
    /// error, warn, info, debug or trace; --log and `RUST_LOG` count more.
    #[schemars(with = "Option<String>", extend("enum" = LEVELS))]
    pub(super) level: Option<Spanned<String>>,
}

/// One Domo API client. Of the keys `client_secret*` it has just one, or `client_file` alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Client")]
pub(super) struct RawClient {
    /// Its id (Admin > Authentication > API clients).
    #[schemars(with = "Option<String>")]
    pub(super) client_id: Option<Spanned<String>>,
    /// A file that holds the id, so that id and secret can be replaced alike.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) client_id_file: Option<Spanned<PathBuf>>,
    /// The secret itself. Better kept in a file.
    #[schemars(with = "Option<String>")]
    pub(super) client_secret: Option<Spanned<SecretString>>,
    /// A file that holds the secret, mode 0600.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) client_secret_file: Option<Spanned<PathBuf>>,
    /// An environment variable of the daemon's that holds the secret.
    #[schemars(with = "Option<String>")]
    pub(super) client_secret_env: Option<Spanned<String>>,
    /// A systemd credential (`LoadCredential=`) that holds the secret.
    #[schemars(with = "Option<String>")]
    pub(super) client_secret_credential: Option<Spanned<String>>,
    /// A program and its arguments that print the secret, like `["pass", "show", "domo"]`.
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) client_secret_command: Option<Spanned<Vec<String>>>,
    /// A connection file of pydomo's, which holds id and secret.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) client_file: Option<Spanned<PathBuf>>,
    /// The scope sets to keep a token for, like `["data", "data user"]`.
    #[serde(default)]
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub(super) tokens: Vec<Spanned<String>>,
    /// Where tokens are asked for; Domo's own endpoint by default.
    #[schemars(with = "Option<String>")]
    pub(super) token_url: Option<Spanned<String>>,
    /// "post", the default, or "get".
    #[schemars(with = "Option<String>", extend("enum" = METHODS))]
    pub(super) token_method: Option<Spanned<String>>,
    /// Certificates in PEM that are trusted besides the system's.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) ca_file: Option<Spanned<PathBuf>>,
    /// A proxy to go through; the environment's proxy variables are not heeded.
    #[schemars(with = "Option<String>")]
    pub(super) proxy: Option<Spanned<String>>,
    /// A file that holds USER:PASSWORD for the proxy, mode 0600.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) proxy_auth_file: Option<Spanned<PathBuf>>,
    /// Who may have which scope set, by scope set. Without this table: whoever may open the socket.
    /// With it, a set without an entry is refused to all.
    #[schemars(with = "Option<BTreeMap<String, RawRule>>")]
    pub(super) access: Option<BTreeMap<Spanned<String>, Spanned<Table<RawRule>>>>,
    /// Whether `token_url` may be plain http to this machine, for tests and the sandbox.
    #[serde(default)]
    pub(super) allow_http_loopback: bool,
    /// Whether secret files may be readable by all (Docker, Kubernetes).
    #[serde(default)]
    pub(super) allow_world_readable_secret: bool,
}

/// Who may have a scope set: users or groups, from any of the units if there are some.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule")]
pub(super) struct RawRule {
    /// Users, by name or number.
    #[serde(default)]
    pub(super) users: Vec<RawPrincipal>,
    /// Groups, by name or number.
    #[serde(default)]
    pub(super) groups: Vec<RawPrincipal>,
    /// systemd units, like `report.service`.
    #[serde(default)]
    pub(super) units: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Principal")]
pub(super) enum RawPrincipal {
    Id(u32),
    Name(String),
}

/// Why the text isn't of that shape. Holds none of the text: toml's own errors quote the line,
/// and serde's the value, and either may be a secret.
#[derive(Debug)]
pub(super) struct RawError {
    pub(super) span: Option<Range<usize>>,
    pub(super) key: Option<String>,
    pub(super) problem: String,
}

/// A step of the path to a [`Spanned`] value that is no key.
const SPANNED: &str = ".$__serde_spanned_private_value";

impl RawConfig {
    pub(super) fn parse(text: &str) -> Result<Self, RawError> {
        let deserializer = toml::Deserializer::parse(text).map_err(|error| RawError {
            span: error.span(),
            key: None,
            problem: message::of_toml(error.message()),
        })?;
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            // Where toml keeps a value together with its place shows as one more step.
            let path = error
                .path()
                .to_string()
                .replace(SPANNED, "")
                .replace(".?", "");
            let inner = error.into_inner();
            let mut problem = message::of_serde(inner.message());
            let is_in_clients = path
                .strip_prefix("clients.")
                .is_some_and(|rest| !rest.contains('.'));
            if is_in_clients && problem == message::NO_TABLE {
                problem.push_str(": the keys of a client stand in [clients.NAME]");
            }
            if problem == message::NO_LIST {
                problem.push_str(message::list_like(&path));
            }
            RawError {
                span: inner.span(),
                // Keys may hold anything, and must not look like a line of ours.
                key: (path != "." && path != "?").then(|| path.escape_debug().to_string()),
                problem,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All values that could be a secret are this one.
    const CANARY: &str = "c4nary";

    fn text() -> String {
        format!(
            "[broker]\nsocket = \"{CANARY}\"\nsocket_group = \"{CANARY}\"\n[log]\nlevel = \"{CANARY}\"\n\
             [clients.acme]\nclient_id = \"{CANARY}\"\nclient_secret = \"{CANARY}\"\n\
             client_secret_command = [\"{CANARY}\", \"{CANARY}\"]\ntokens = [\"{CANARY}\"]\n\
             token_url = \"https://{CANARY}\"\n[clients.acme.access]\n\
             data = {{ users = [\"{CANARY}\", 7], units = [\"{CANARY}\"] }}\n"
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn no_error_shows_a_value_however_the_text_is_broken(
            breaks in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<prop::sample::Index>()), 1..4)
        ) {
            const PIECES: &[&str] = &["\"", "'", "=", "[", "]", "{", "}", ",", ".", "\n", "\\", "#", "1", "true", "\"\"\"", "-", "\u{1}"];
            let mut text = text();
            for (at, kind, piece) in breaks {
                let at = at.index(text.len());
                let piece = PIECES[piece.index(PIECES.len())];
                match kind {
                    0 => text.insert_str(at, piece),
                    1 => drop(text.remove(at)),
                    _ => text.replace_range(at..=at, piece),
                }
            }
            if let Err(error) = RawConfig::parse(&text) {
                // What stands in a key's place is named: a key is no secret.
                let is_key = error.key.as_ref().is_some_and(|key| key.contains(CANARY));
                prop_assert!(is_key || !error.problem.contains(CANARY), "{}: {text}", error.problem);
                prop_assert!(!error.problem.contains(char::is_control), "{}", error.problem);
            }
        }
    }
}
