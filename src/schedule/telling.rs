//! What is news to the operator: a change is told loudly, the same again quietly.

use std::time::Duration;

use super::floor;
use super::timing::FLOOR_PART;
use crate::source::FetchError;

/// What has been told loudly.
#[derive(Debug, Default)]
pub(super) struct Telling {
    failing: Option<Kind>,
    assumed: bool,
    short: bool,
}

/// Failures of one kind mean the same to the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It passes by itself.
    Passing,
    /// A person has to mend something on the way to Domo.
    Lasting,
    Denied,
}

impl Telling {
    /// Whether a failure is the same again.
    pub(super) fn is_known(&mut self, error: &FetchError) -> bool {
        let kind = match error {
            FetchError::Denied { .. } => Kind::Denied,
            FetchError::Transient { cause, .. } if cause.is_lasting() => Kind::Lasting,
            FetchError::Transient { .. } => Kind::Passing,
        };
        self.failing.replace(kind) == Some(kind)
    }

    /// It was told of another set, for all of the client's.
    pub(super) fn know_denied(&mut self) {
        self.failing = Some(Kind::Denied);
    }

    /// Whatever fails from now on is news: there was a token, or an operator's hand in it.
    pub(super) fn anew(&mut self) {
        self.failing = None;
    }

    /// Whether it is news that Domo names no lifetime.
    pub(super) fn is_news_assumed(&mut self, assumed: bool) -> bool {
        assumed && !std::mem::replace(&mut self.assumed, true)
    }

    /// Whether it is news that tokens live so short that the floor can outlast them.
    pub(super) fn is_news_short(&mut self, lifetime: Duration) -> bool {
        let short = lifetime < floor(lifetime) * FLOOR_PART;
        short && !std::mem::replace(&mut self.short, true)
    }
}
