//! What was written: the shape of the TOML, with nothing judged yet.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use toml::Spanned;

/// The config of domo-tokend.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Config")]
pub(super) struct RawConfig {
    /// The daemon itself.
    #[serde(default)]
    pub(super) broker: RawBroker,
    /// What it logs.
    #[serde(default)]
    pub(super) log: RawLog,
    /// Where its metrics can be read.
    #[serde(default)]
    pub(super) metrics: RawMetrics,
    /// Who was given what.
    #[serde(default)]
    pub(super) audit: RawAudit,
    /// Bounds, so that no local user can shut out another.
    #[serde(default)]
    pub(super) limits: RawLimits,
    /// Domo API clients by name: letters, digits, '.', '_' and '-'.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawClient>")]
    pub(super) clients: BTreeMap<String, Spanned<RawClient>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Broker")]
pub(super) struct RawBroker {
    /// The path of its socket.
    pub(super) socket: Option<PathBuf>,
    /// The socket's permission bits, as in chmod; "0600" by default.
    #[schemars(with = "Option<String>", regex(pattern = "^0?[0-7]{3}$"))]
    pub(super) socket_mode: Option<Spanned<String>>,
    /// The callers' group, which the socket is given to; never the daemon's own.
    #[schemars(with = "Option<RawPrincipal>")]
    pub(super) socket_group: Option<Spanned<RawPrincipal>>,
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
    pub(super) file: Option<PathBuf>,
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
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Log")]
pub(super) struct RawLog {
    /// error, warn, info, debug or trace; --log and `RUST_LOG` count more.
    #[schemars(with = "Option<String>")]
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
    pub(super) client_id_file: Option<PathBuf>,
    /// The secret itself. Better kept in a file.
    #[schemars(with = "Option<String>")]
    pub(super) client_secret: Option<SecretString>,
    /// A file that holds the secret, mode 0600.
    pub(super) client_secret_file: Option<PathBuf>,
    /// An environment variable of the daemon's that holds the secret.
    pub(super) client_secret_env: Option<String>,
    /// A systemd credential (`LoadCredential=`) that holds the secret.
    pub(super) client_secret_credential: Option<String>,
    /// A program and its arguments that print the secret, like `["pass", "show", "domo"]`.
    pub(super) client_secret_command: Option<Vec<String>>,
    /// A connection file of pydomo's, which holds id and secret.
    pub(super) client_file: Option<PathBuf>,
    /// The scope sets to keep a token for, like `["data", "data user"]`.
    #[serde(default)]
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub(super) tokens: Vec<Spanned<String>>,
    /// Where tokens are asked for; Domo's own endpoint by default.
    #[schemars(with = "Option<String>")]
    pub(super) token_url: Option<Spanned<String>>,
    /// "post", the default, or "get".
    #[schemars(with = "Option<String>")]
    pub(super) token_method: Option<Spanned<String>>,
    /// Certificates in PEM that are trusted besides the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// A proxy to go through; the environment's proxy variables are not heeded.
    #[schemars(with = "Option<String>")]
    pub(super) proxy: Option<Spanned<String>>,
    /// A file that holds USER:PASSWORD for the proxy, mode 0600.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) proxy_auth_file: Option<Spanned<PathBuf>>,
    /// Who may have which scope set, by scope set. Without this table: whoever may open the socket.
    /// With it, a set without an entry is refused to all.
    #[schemars(with = "Option<BTreeMap<String, RawRule>>")]
    pub(super) access: Option<BTreeMap<Spanned<String>, Spanned<RawRule>>>,
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
            problem: format!("not TOML: {}", without_values(error.message())),
        })?;
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            // Where toml keeps a value together with its place shows as one more step.
            let path = error
                .path()
                .to_string()
                .replace(SPANNED, "")
                .replace(".?", "");
            let inner = error.into_inner();
            RawError {
                span: inner.span(),
                key: (path != "." && path != "?").then_some(path),
                problem: without_values(inner.message()),
            }
        })
    }
}

/// serde's message without the value it quotes, and with the nearest right key for a wrong one.
fn without_values(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        return unknown_key(rest);
    }
    if message.starts_with("data did not match any variant") {
        return "wrong type: expected a name or a number".to_owned();
    }
    let quotes_a_value = [
        "invalid type",
        "invalid value",
        "unknown variant",
        "invalid length",
    ];
    if quotes_a_value
        .iter()
        .any(|start| message.starts_with(start))
    {
        let expected = message
            .rsplit_once(", expected ")
            .map(|(_, expected)| expected);
        let expected = match expected {
            Some("a sequence") => "a list",
            Some("i64") => "a whole number",
            Some("a map") => "a table",
            Some("path string") => "a path",
            Some(text) if text.starts_with("struct ") => "a table",
            Some(text) => text,
            None => "something else",
        };
        return format!("wrong type: expected {expected}");
    }
    message.lines().next().unwrap_or("wrong").to_owned()
}

fn unknown_key(rest: &str) -> String {
    let (key, expected) = rest.split_once('`').unwrap_or((rest, ""));
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let nearest = known
        .iter()
        .copied()
        .min_by_key(|other| strsim::levenshtein(key, other));
    match nearest {
        Some(other) if strsim::levenshtein(key, other) <= 3 => {
            format!("unknown key \"{key}\"; did you mean \"{other}\"?")
        }
        Some(_) | None => format!("unknown key \"{key}\"; there is {}", known.join(", ")),
    }
}
