//! `[limits]`: its keys, defaults and bounds.

use std::time::Duration;

use domo_token_protocol::duration;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use super::validate::Validator;

/// More descriptors than any system has.
const LIMIT_MAX: i64 = 1_000_000;

/// Shorter deadlines fail on a machine under load.
const DEADLINE_MIN: Duration = Duration::from_secs(1);

/// A longer deadline would not limit anything.
const DEADLINE_MAX: Duration = Duration::from_secs(600);

/// Limits on callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Connections of one user; root and the daemon's user are exempt.
    pub connections_per_user: usize,
    /// Of these, those that watch a set.
    pub watchers_per_user: usize,
    /// How long they may take.
    pub deadlines: Deadlines,
}

/// How long callers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// The time from connecting to the end of the first request.
    pub first_request: Duration,
    /// The time from the first byte of a later request to its last.
    pub request: Duration,
    /// The time for reading a response.
    pub answer: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            first_request: Duration::from_secs(10),
            request: Duration::from_secs(5),
            answer: Duration::from_secs(5),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_user: 1024,
            watchers_per_user: 1024,
            deadlines: Deadlines::default(),
        }
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(super) struct RawLimits {
    /// The most open connections [default: 4096].
    #[schemars(with = "Option<u32>", range(min = 1, max = 1_000_000))]
    pub(super) connections: Option<Spanned<i64>>,
    /// The most connections of one user; root and the daemon's user are exempt [default: 1024].
    #[schemars(with = "Option<u32>", range(min = 1, max = 1_000_000))]
    pub(super) connections_per_user: Option<Spanned<i64>>,
    /// The most of these that watch a scope set [default: 1024].
    #[schemars(with = "Option<u32>", range(min = 1, max = 1_000_000))]
    pub(super) watchers_per_user: Option<Spanned<i64>>,
    /// The time limit for the first request of a connection, like "10s" [default: "10s"].
    #[schemars(with = "Option<String>")]
    pub(super) first_request_deadline: Option<Spanned<String>>,
    /// The time limit for each later request, from its first byte to its last [default: "5s"].
    #[schemars(with = "Option<String>")]
    pub(super) request_deadline: Option<Spanned<String>>,
    /// The time limit for reading a response [default: "5s"].
    #[schemars(with = "Option<String>")]
    pub(super) answer_deadline: Option<Spanned<String>>,
}

impl Validator<'_> {
    pub(super) fn limits(&self, written: RawLimits) -> Result<Limits, ConfigError> {
        let usual = Limits::default();
        Ok(Limits {
            connections: self.limit(written.connections, "connections", usual.connections)?,
            connections_per_user: self.limit(
                written.connections_per_user,
                "connections_per_user",
                usual.connections_per_user,
            )?,
            watchers_per_user: self.limit(
                written.watchers_per_user,
                "watchers_per_user",
                usual.watchers_per_user,
            )?,
            deadlines: Deadlines {
                first_request: self.deadline(
                    written.first_request_deadline,
                    "first_request_deadline",
                    usual.deadlines.first_request,
                )?,
                request: self.deadline(
                    written.request_deadline,
                    "request_deadline",
                    usual.deadlines.request,
                )?,
                answer: self.deadline(
                    written.answer_deadline,
                    "answer_deadline",
                    usual.deadlines.answer,
                )?,
            },
        })
    }

    fn limit(
        &self,
        written: Option<Spanned<i64>>,
        key: &str,
        usual: usize,
    ) -> Result<usize, ConfigError> {
        let Some(written) = written else {
            return Ok(usual);
        };
        let found = Some(*written.get_ref()).filter(|limit| (1..=LIMIT_MAX).contains(limit));
        let found = found.and_then(|limit| usize::try_from(limit).ok());
        found.ok_or_else(|| {
            let problem = format!("must be a number from 1 to {LIMIT_MAX}");
            self.error(Some(written.span()), &format!("limits.{key}"), problem)
        })
    }

    fn deadline(
        &self,
        written: Option<Spanned<String>>,
        key: &str,
        usual: Duration,
    ) -> Result<Duration, ConfigError> {
        let Some(written) = written else {
            return Ok(usual);
        };
        let found = duration::parse(written.get_ref());
        found
            .filter(|time| (DEADLINE_MIN..=DEADLINE_MAX).contains(time))
            .ok_or_else(|| {
                let problem = "must be a duration in quotes, from \"1s\" to \"10m\"".to_owned();
                self.error(Some(written.span()), &format!("limits.{key}"), problem)
            })
    }
}
