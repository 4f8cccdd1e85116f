//! What was written: the shape of the TOML, with nothing judged yet.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    #[serde(default)]
    pub(super) broker: RawBroker,
    #[serde(default)]
    pub(super) log: RawLog,
    #[serde(default)]
    pub(super) clients: BTreeMap<String, Spanned<RawClient>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBroker {
    pub(super) socket: Option<PathBuf>,
    pub(super) socket_mode: Option<Spanned<String>>,
    pub(super) default_client: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawClient {
    pub(super) client_id: Option<Spanned<String>>,
    pub(super) client_id_file: Option<PathBuf>,
    pub(super) client_secret: Option<SecretString>,
    pub(super) client_secret_file: Option<PathBuf>,
    pub(super) client_secret_env: Option<String>,
    pub(super) client_secret_credential: Option<String>,
    #[serde(default)]
    pub(super) tokens: Vec<Spanned<String>>,
    pub(super) token_url: Option<Spanned<String>>,
    pub(super) token_method: Option<Spanned<String>>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) proxy: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) allow_http_loopback: bool,
    #[serde(default)]
    pub(super) allow_world_readable_secret: bool,
}

/// Why the text isn't of that shape. Holds none of the text: toml's own errors quote the line,
/// and serde's the value, and either may be a secret.
#[derive(Debug)]
pub(super) struct RawError {
    pub(super) span: Option<Range<usize>>,
    pub(super) key: Option<String>,
    pub(super) problem: String,
}

impl RawConfig {
    pub(super) fn parse(text: &str) -> Result<Self, RawError> {
        let deserializer = toml::Deserializer::parse(text).map_err(|error| RawError {
            span: error.span(),
            key: None,
            problem: format!("not TOML: {}", without_values(error.message())),
        })?;
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let path = error.path().to_string();
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
        return format!(
            "wrong type: expected {}",
            expected.unwrap_or("something else")
        );
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
