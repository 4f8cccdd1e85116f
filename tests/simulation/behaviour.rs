//! How the simulated Domo behaves, and the result of one request.

use std::time::Duration;

use domo_token_core::fetch_result::Cause;

/// How Domo behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behaviour {
    Good,
    Slow,
    Down,
    RateLimited,
    Silent,
    Garbage,
    BadCertificate,
    ClientRejected,
    /// One request in three is rejected as if the client were rejected.
    PassingRefusals,
    ScopeRejected,
    SameToken,
    ShortLives,
    Mixed,
}

/// The result of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Token(Duration),
    SameToken,
    Transient(Cause, Option<Duration>),
    ClientRejected,
    ScopeRejected,
    LoginRejected,
}

impl Answer {
    /// Returns whether a proxy that accepts the login opens a tunnel for a request with this result.
    pub(crate) fn has_tunnel(outcome: Option<(Duration, Self)>, rng: &mut fastrand::Rng) -> bool {
        match outcome {
            Some((_, Self::Transient(Cause::Connect | Cause::Proxy, _) | Self::LoginRejected)) => {
                false
            }
            // Neither the proxy nor Domo responds.
            None | Some((_, Self::Transient(Cause::Tls | Cause::Timeout, _))) => rng.bool(),
            Some((
                _,
                Self::Token(_)
                | Self::SameToken
                | Self::Transient(..)
                | Self::ClientRejected
                | Self::ScopeRejected,
            )) => true,
        }
    }

    /// Returns the result through a proxy that may reject the login.
    pub(crate) fn through_proxy(self, is_login_wrong: bool) -> Self {
        match self {
            // The proxy was not reached.
            Self::Transient(Cause::Connect | Cause::Proxy, _) => self,
            Self::Token(_)
            | Self::SameToken
            | Self::Transient(..)
            | Self::ClientRejected
            | Self::ScopeRejected
            | Self::LoginRejected
                if is_login_wrong =>
            {
                Self::LoginRejected
            }
            Self::Token(_)
            | Self::SameToken
            | Self::Transient(..)
            | Self::ClientRejected
            | Self::ScopeRejected
            | Self::LoginRejected => self,
        }
    }
}

/// How requests fail while Domo is down.
const OUTAGES: [Cause; 3] = [Cause::Connect, Cause::Server, Cause::Proxy];

impl Behaviour {
    /// Returns the result of a request and after how long it arrives; `None` for never.
    pub(crate) fn outcome(
        self,
        rng: &mut fastrand::Rng,
        lifetime: Duration,
        valid: bool,
    ) -> Option<(Duration, Answer)> {
        let quick = Duration::from_millis(rng.u64(20..400));
        if !valid {
            return Some((quick, Answer::ClientRejected));
        }
        let answer = match self.today(rng) {
            Self::PassingRefusals if rng.u8(..3) == 0 => Answer::ClientRejected,
            Self::Good | Self::Mixed | Self::PassingRefusals => Answer::Token(lifetime),
            Self::Slow => {
                let slow = Duration::from_millis(rng.u64(1_000..25_000));
                return Some((slow, Answer::Token(lifetime)));
            }
            Self::Silent => return None,
            Self::Down => Answer::Transient(rng.choice(OUTAGES)?, None),
            Self::RateLimited => {
                let asked = [0, 1, 60, 600, 1_000_000_000];
                let asked = rng.choice(asked).map(Duration::from_secs);
                Answer::Transient(Cause::RateLimited, asked)
            }
            Self::Garbage => Answer::Transient(Cause::Unusable, None),
            Self::BadCertificate => Answer::Transient(Cause::Tls, None),
            Self::ClientRejected => Answer::ClientRejected,
            Self::ScopeRejected => Answer::ScopeRejected,
            Self::SameToken => Answer::SameToken,
            Self::ShortLives => Answer::Token(Duration::from_secs(rng.u64(1..60))),
        };
        Some((quick, answer))
    }

    /// Returns another behaviour each time if it is mixed.
    fn today(self, rng: &mut fastrand::Rng) -> Self {
        let days = [
            Self::Slow,
            Self::Down,
            Self::RateLimited,
            Self::Silent,
            Self::Garbage,
            Self::ShortLives,
            Self::SameToken,
            Self::Good,
            Self::Good,
            Self::Good,
        ];
        match self {
            Self::Mixed => rng.choice(days).unwrap_or(Self::Good),
            Self::Good
            | Self::Slow
            | Self::Down
            | Self::RateLimited
            | Self::Silent
            | Self::Garbage
            | Self::BadCertificate
            | Self::ClientRejected
            | Self::PassingRefusals
            | Self::ScopeRejected
            | Self::SameToken
            | Self::ShortLives => self,
        }
    }
}
