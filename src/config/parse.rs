//! Parses TOML into the tables as written; `validate` checks them.

mod deserializer;
mod key_path;
mod toml_errors;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use schemars::JsonSchema;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::DeTable;

use self::deserializer::Node;
use super::broker::RawBroker;
use super::client::RawClient;
use super::fleet::RawFleet;
use super::gateway::RawGateway;
use super::limits::RawLimits;
use super::log_metrics_audit::{RawAudit, RawLog, RawMetrics};

/// The config of domo-tokend.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Config")]
pub(super) struct RawConfig {
    /// The socket and the default client.
    #[serde(default)]
    pub(super) broker: RawBroker,
    /// The log.
    #[serde(default)]
    pub(super) log: RawLog,
    /// Metrics and health checks over HTTP.
    #[serde(default)]
    pub(super) metrics: RawMetrics,
    /// A record of every token served or denied.
    #[serde(default)]
    pub(super) audit: RawAudit,
    /// Limits on callers, so that no local user can block another.
    #[serde(default)]
    pub(super) limits: RawLimits,
    /// The server through which hosts share tokens [default: none].
    #[schemars(with = "Option<RawFleet>")]
    pub(super) fleet: Option<Spanned<RawFleet>>,
    /// The local reverse proxy for Domo's SDKs [default: none].
    #[schemars(with = "Option<RawGateway>")]
    pub(super) gateway: Option<Spanned<RawGateway>>,
    /// Domo API clients by name: letters, digits, '.', '_' and '-'.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawClient>")]
    pub(super) clients: BTreeMap<String, Spanned<RawClient>>,
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

#[derive(Debug, JsonSchema)]
#[schemars(rename = "Principal", untagged)]
pub(super) enum RawPrincipal {
    Id(u32),
    Name(String),
}

impl<'de> Deserialize<'de> for RawPrincipal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The place of the error is that of the whole list, where a list is written.
        let wrong = |_| de::Error::custom("invalid value, expected a name or a number");
        deserializer.deserialize_any(NameOrNumber).map_err(wrong)
    }
}

struct NameOrNumber;

impl Visitor<'_> for NameOrNumber {
    type Value = RawPrincipal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a number")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<RawPrincipal, E> {
        let id = u32::try_from(number).map(RawPrincipal::Id);
        id.map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<RawPrincipal, E> {
        Ok(RawPrincipal::Name(name.to_owned()))
    }
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
        let table = DeTable::parse(text).map_err(|error| RawError {
            span: error.span(),
            key: None,
            problem: toml_errors::of_toml(error.message()),
        })?;
        Self::deserialize(Node::root(table)).map_err(|error| {
            let path = error
                .span
                .as_ref()
                .and_then(|span| key_path::at(text, span));
            let mut problem = toml_errors::of_serde(&error.message);
            let of_client = path.as_ref().and_then(|path| path.strip_prefix("clients."));
            if problem == toml_errors::NO_TABLE && of_client.is_some_and(|rest| !rest.contains('.'))
            {
                problem.push_str(": the keys of a client belong in [clients.NAME]");
            }
            if problem == toml_errors::NO_LIST {
                problem.push_str(toml_errors::list_like(path.as_deref().unwrap_or("")));
            }
            RawError {
                span: error.span,
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
