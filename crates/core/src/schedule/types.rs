//! What goes into a schedule and what comes out.

use std::fmt;
use std::time::Duration;

use domo_token_protocol::messages::{Refusal, Renew};

use crate::fetch::{Cause, LifetimeSource};
use crate::token::{Life, Token};
use domo_token_protocol::BootTime;

/// Identifies one scope set of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub(crate) usize);

/// Names one caller that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// Numbers each fetch, so that an answer to a fetch that no longer counts is known and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchId(pub(super) u64);

/// What chance gives to one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Jitter {
    /// From 0 up to 1: spreads the renewal if the attempt succeeds, else the next attempt.
    pub draw: f64,
    /// The generation of the token, if the attempt brings one.
    pub generation: u64,
}

/// What a caller asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The life the token must have left.
    pub min_ttl: Option<Duration>,
    /// When the caller must have its answer.
    pub deadline: BootTime,
    /// Set if the current token won't do.
    pub renew: Option<Renew>,
}

/// What a caller gets.
pub type Reply = Result<Token, Refusal>;

/// The answer to a request, or that it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The reply.
    Now(Reply),
    /// The caller waits: a [`Command::Reply`] follows, at its deadline at the latest.
    Later,
}

/// An effect to carry out.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Send a token request for the scope set.
    Fetch(SetId, FetchId),
    /// Abort the scope set's token request; its result no longer counts.
    Abort(SetId),
    /// Answer a caller that waits.
    Reply(WaiterId, Reply),
    /// Log the result of an attempt, or the expiry of a token.
    Report(SetId, Outcome),
    /// Have the scope set's watchers look at [`super::Schedule::watched`] again.
    NotifyWatchers(SetId),
    /// Drop all that is kept for a removed scope set, its watchers included.
    Remove(SetId),
}

/// What a failure means to callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// They get the current token.
    TokenValid {
        /// How long it is still valid.
        left: Duration,
    },
    /// They fail.
    NoToken {
        /// How long there has been no valid token.
        lasting: Duration,
        /// Whether that has not been reported yet.
        first: bool,
    },
}

/// Why a token has no successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageCause {
    /// Attempts fail.
    Failed(Cause),
    /// Domo rejects the scope set.
    Denied,
    /// Domo rejects the client.
    ClientDenied,
    /// Domo has rejected the client once; a second request is to confirm that.
    ClientUnconfirmed,
    /// The proxy rejects its login.
    ProxyLogin,
    /// The request waits until requests of other scope sets have ended.
    Queued,
    /// The request waits because the client's credentials change too often.
    ChangeLimit,
    /// The request waits until another scope set has tried the new credentials.
    Trial,
    /// The request waits until another one has tried the proxy login.
    LoginTrial,
}

impl OutageCause {
    /// Whether Domo rejects the client.
    pub(super) fn is_client_rejection(self) -> bool {
        matches!(self, Self::ClientDenied | Self::ClientUnconfirmed)
    }
}

impl fmt::Display for OutageCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(cause) => cause.fmt(f),
            Self::Denied | Self::ClientDenied | Self::ClientUnconfirmed | Self::ProxyLogin => {
                f.write_str("denied")
            }
            Self::Queued => f.write_str("queued"),
            Self::ChangeLimit => f.write_str("change_limit"),
            Self::Trial | Self::LoginTrial => f.write_str("trial"),
        }
    }
}

/// What a request was rejected for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The scope set; other ones of the client may still be granted.
    ScopeSet,
    /// The client.
    Client,
    /// The client, for the first time since a success or since its credentials changed: one more request is
    /// to confirm it.
    ClientUnconfirmed,
    /// The login at the proxy.
    ProxyLogin,
}

impl Rejected {
    /// Returns why a token has no successor.
    #[must_use]
    pub fn cause(self) -> OutageCause {
        match self {
            Self::ScopeSet => OutageCause::Denied,
            Self::Client => OutageCause::ClientDenied,
            Self::ClientUnconfirmed => OutageCause::ClientUnconfirmed,
            Self::ProxyLogin => OutageCause::ProxyLogin,
        }
    }
}

/// A token after failed attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// How many attempts it took, this one included.
    pub attempts: u32,
    /// How long attempts failed.
    pub failing: Duration,
    /// How long of that there was no valid token.
    pub outage: Duration,
}

/// The result of an attempt, or the expiry of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: it belonged to a round that no longer counts.
    Ignored,
    /// A token.
    Obtained {
        /// The token's life.
        life: Life,
        /// What it took, if attempts had failed or there was an outage.
        recovery: Option<Recovery>,
        /// Whether it is the set's first.
        first: bool,
        /// How the lifetime was derived, if it is news that it is not what Domo states.
        odd_lifetime: Option<LifetimeSource>,
        /// Whether it is news that tokens live so short that callers will wait at times.
        short: bool,
    },
    /// Domo grants tokens and refuses them in use: renewing has not helped.
    RejectedByDomo,
    /// Domo rejected the credentials or the scope set, or the proxy its login.
    Denied {
        /// What was rejected.
        rejected: Rejected,
        /// Whether that is known already.
        again: bool,
        /// What it means to callers.
        effect: Effect,
    },
    /// Another attempt follows.
    Failed {
        /// What kind of failure.
        cause: Cause,
        /// Whether that is known already.
        again: bool,
        /// What it means to callers.
        effect: Effect,
    },
    /// The token has expired without a successor, or there never was one.
    Expired {
        /// Why there is no successor.
        cause: OutageCause,
        /// What it means to callers.
        effect: Effect,
    },
}

impl Outcome {
    /// Whether it shows that Domo takes the client as a whole: whoever is refused a scope was not
    /// refused as a client.
    #[must_use]
    pub fn accepts_client(&self) -> bool {
        match self {
            Self::Obtained { .. } => true,
            Self::Denied { rejected, .. } => *rejected == Rejected::ScopeSet,
            Self::Ignored | Self::RejectedByDomo | Self::Failed { .. } | Self::Expired { .. } => {
                false
            }
        }
    }
}
