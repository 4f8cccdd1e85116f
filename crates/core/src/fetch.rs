//! One fetch of a token: what it is for, what it reports meanwhile, and how it ends.

use std::time::Duration;

use domo_token_protocol::BootTime;
use domo_token_protocol::scope::ScopeSet;

use crate::fetch_result::{Cause, FetchError, Fetched};
use crate::token::Token;

/// What a fetch is for.
#[derive(Clone, Debug)]
pub struct Occasion {
    /// The scope set.
    pub scope: ScopeSet,
    /// The valid token that is served until the fetch ends.
    pub held: Option<Token>,
    /// Whether the fetch must not be postponed: callers wait for another token than the one held, or other scope sets
    /// for whether Domo accepts the client.
    pub is_urgent: bool,
    /// How long the token must be valid for the callers that wait.
    pub min_left: Duration,
    /// Whether the failure of another host does not count: a reload or new credentials cause the fetch.
    pub ignores_notes: bool,
    /// Whether Domo has rejected the client since its last success, so that one more rejection confirms that.
    pub confirms_rejection: bool,
    /// Failed attempts in a row.
    pub failures: u32,
    /// In 0..1: spreads the next attempt.
    pub draw: f64,
    /// The time limit of a request to Domo.
    pub timeout: Duration,
}

impl Occasion {
    /// Returns the occasion of a fetch for which there is no schedule: it is made once.
    #[must_use]
    pub fn once(scope: ScopeSet, timeout: Duration) -> Self {
        Self {
            scope,
            held: None,
            is_urgent: true,
            min_left: Duration::ZERO,
            ignores_notes: true,
            confirms_rejection: false,
            failures: 0,
            draw: 0.5,
            timeout,
        }
    }
}

/// What a fetch reports before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A token request is sent to Domo.
    Requested,
    /// A proxy has opened a tunnel: its login is valid, even if Domo rejects the request.
    TunnelOpened,
}

/// How a fetch ends.
#[derive(Debug)]
pub enum Fetch {
    /// A token.
    Obtained(Fetched),
    /// A failure.
    Failed {
        /// Why.
        error: FetchError,
        /// What the hosts of a fleet agree on; `None` if this host alone decides.
        agreed: Option<AgreedRetry>,
    },
    /// Nothing yet, and no failure: the held token is still valid, and the next fetch is due at this time.
    Postponed(BootTime),
}

/// When the hosts of a fleet try again after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgreedRetry {
    /// Failed attempts in a row, of all hosts together.
    pub failures: u32,
    /// When this host's next fetch is due.
    pub at: BootTime,
}

impl Fetch {
    /// Returns the token or the failure. A fetch that is postponed although no token is valid is a failure: the token
    /// that was valid has expired meanwhile.
    ///
    /// # Errors
    ///
    /// The failure.
    pub fn into_result(self) -> Result<Fetched, FetchError> {
        match self {
            Self::Obtained(fetched) => Ok(fetched),
            Self::Failed { error, .. } => Err(error),
            Self::Postponed(_) => {
                let message = "the token expired while another host was about to renew it";
                Err(FetchError::transient(Cause::Timeout, message))
            }
        }
    }
}

impl From<Result<Fetched, FetchError>> for Fetch {
    fn from(result: Result<Fetched, FetchError>) -> Self {
        match result {
            Ok(fetched) => Self::Obtained(fetched),
            Err(error) => Self::Failed {
                error,
                agreed: None,
            },
        }
    }
}
