//! Parses TOML into the tables as written; `validate` checks them.

mod key_path;
mod toml_errors;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::broker::RawBroker;
use super::client::RawClient;
use super::fleet::RawFleet;
use super::gateway::RawGateway;
use super::limits::RawLimits;
use super::log_metrics_audit::{RawAudit, RawLog, RawMetrics};

/// A value that must be a table. By itself, serde accepts a list of the values as well.
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
    /// The socket and the default client.
    #[serde(default)]
    #[schemars(with = "RawBroker")]
    pub(super) broker: Table<RawBroker>,
    /// The log.
    #[serde(default)]
    #[schemars(with = "RawLog")]
    pub(super) log: Table<RawLog>,
    /// Metrics and health checks over HTTP.
    #[serde(default)]
    #[schemars(with = "RawMetrics")]
    pub(super) metrics: Table<RawMetrics>,
    /// A record of every token served or denied.
    #[serde(default)]
    #[schemars(with = "RawAudit")]
    pub(super) audit: Table<RawAudit>,
    /// Limits on callers, so that no local user can block another.
    #[serde(default)]
    #[schemars(with = "RawLimits")]
    pub(super) limits: Table<RawLimits>,
    /// The server through which hosts share tokens [default: none].
    #[schemars(with = "Option<RawFleet>")]
    pub(super) fleet: Option<Spanned<Table<RawFleet>>>,
    /// The local reverse proxy for Domo's SDKs [default: none].
    #[schemars(with = "Option<RawGateway>")]
    pub(super) gateway: Option<Spanned<Table<RawGateway>>>,
    /// Domo API clients by name: letters, digits, '.', '_' and '-'.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawClient>")]
    pub(super) clients: BTreeMap<String, Spanned<Table<RawClient>>>,
}

/// The callers that may have a scope set: users or groups, and if units are listed, only in one of them.
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

/// Why the text is not a config. Contains none of the text: toml's own errors quote the line and serde's
/// the value, and either may be a secret.
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
            problem: toml_errors::of_toml(error.message()),
        })?;
        Self::deserialize(deserializer).map_err(|error| {
            let path = error.span().and_then(|span| key_path::at(text, &span));
            let mut problem = toml_errors::of_serde(error.message());
            let of_client = path.as_ref().and_then(|path| path.strip_prefix("clients."));
            if problem == toml_errors::NO_TABLE && of_client.is_some_and(|rest| !rest.contains('.'))
            {
                problem.push_str(": the keys of a client belong in [clients.NAME]");
            }
            if problem == toml_errors::NO_LIST {
                problem.push_str(toml_errors::list_like(path.as_deref().unwrap_or("")));
            }
            RawError {
                span: error.span(),
                // Keys may hold anything, and must not look like a line of the log.
                key: path.map(|path| path.escape_debug().to_string()),
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
        fn parse_error_of_any_broken_text_shows_no_value(
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
                // What is written as a key is named: a key is no secret.
                let is_key = error.key.as_ref().is_some_and(|key| key.contains(CANARY));
                prop_assert!(is_key || !error.problem.contains(CANARY), "{}: {text}", error.problem);
                prop_assert!(!error.problem.contains(char::is_control), "{}", error.problem);
            }
        }
    }
}
