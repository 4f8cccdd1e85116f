//! A client whose credentials are not loaded: no token can be requested, and this is what its
//! callers get.

use domo_token_protocol::messages::{Refusal, RefusalKind, ScopeState};

use super::Schedule;
use domo_token_protocol::BootTime;

/// Why a client has no credentials to request tokens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loading {
    /// They are being loaded: callers wait until their deadline.
    Pending,
    /// They could not be loaded: callers are refused.
    Failed {
        /// When loading is retried without a change of files or config; `None` if it is not.
        retry_at: Option<BootTime>,
    },
}

impl Loading {
    /// The state that status shows.
    pub(super) fn shown(self) -> ScopeState {
        match self {
            Self::Pending => ScopeState::Idle,
            Self::Failed { retry_at: Some(_) } => ScopeState::Waiting,
            Self::Failed { retry_at: None } => ScopeState::Denied,
        }
    }
}

impl Schedule {
    /// Sets why the client is not loaded, or with `None` that it is.
    pub fn set_loading(&mut self, loading: Option<Loading>, now: BootTime) {
        self.loading = loading;
        self.load_failed = self.is_load_failed().then_some(now);
        self.judge_all(now);
        self.announce(now);
    }

    /// Whether the client could not be loaded.
    #[must_use]
    pub fn is_load_failed(&self) -> bool {
        matches!(self.loading, Some(Loading::Failed { .. }))
    }

    /// What callers get if the client could not be loaded.
    pub(crate) fn load_refusal(&self, now: BootTime) -> Option<Refusal> {
        let Some(Loading::Failed { retry_at }) = self.loading else {
            return None;
        };
        let kind = match retry_at {
            Some(_) => RefusalKind::Unavailable,
            None => RefusalKind::UnknownClient,
        };
        Some(Refusal {
            kind,
            cause: format!("client \"{}\" could not be loaded", self.client),
            next_attempt: retry_at.filter(|at| *at > now),
        })
    }
}
