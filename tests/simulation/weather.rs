//! How Domo does, and what that means for one request.

use std::time::Duration;

use domo_token_core::fetch::Cause;

/// How Domo does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weather {
    Good,
    Slow,
    Down,
    RateLimited,
    Silent,
    Garbage,
    BadCertificate,
    ClientRefused,
    /// One request in three is rejected as if the client were.
    PassingRefusals,
    ScopeRefused,
    SameToken,
    ShortLives,
    Mixed,
}

/// What comes back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Token(Duration),
    SameToken,
    Transient(Cause, Option<Duration>),
    ClientRefused,
    ScopeRefused,
    LoginRejected,
}

impl Answer {
    /// Whether a proxy that takes the login opens a tunnel for a request that this comes back for.
    pub(crate) fn has_tunnel(fate: Option<(Duration, Self)>, rng: &mut fastrand::Rng) -> bool {
        match fate {
            Some((_, Self::Transient(Cause::Connect | Cause::Proxy, _) | Self::LoginRejected)) => {
                false
            }
            // Nothing comes back from the proxy, or from Domo.
            None | Some((_, Self::Transient(Cause::Tls | Cause::Timeout, _))) => rng.bool(),
            Some((
                _,
                Self::Token(_)
                | Self::SameToken
                | Self::Transient(..)
                | Self::ClientRefused
                | Self::ScopeRefused,
            )) => true,
        }
    }

    /// What comes back through a proxy that may reject the login.
    pub(crate) fn through_proxy(self, is_login_wrong: bool) -> Self {
        match self {
            // The proxy was not reached.
            Self::Transient(Cause::Connect | Cause::Proxy, _) => self,
            Self::Token(_)
            | Self::SameToken
            | Self::Transient(..)
            | Self::ClientRefused
            | Self::ScopeRefused
            | Self::LoginRejected
                if is_login_wrong =>
            {
                Self::LoginRejected
            }
            Self::Token(_)
            | Self::SameToken
            | Self::Transient(..)
            | Self::ClientRefused
            | Self::ScopeRefused
            | Self::LoginRejected => self,
        }
    }
}

/// How requests fail while Domo is down.
const OUTAGES: [Cause; 3] = [Cause::Connect, Cause::Server, Cause::Proxy];

impl Weather {
    /// What comes back, and after how long; `None` is never.
    pub(crate) fn fate(
        self,
        rng: &mut fastrand::Rng,
        lifetime: Duration,
        valid: bool,
    ) -> Option<(Duration, Answer)> {
        let quick = Duration::from_millis(rng.u64(20..400));
        if !valid {
            return Some((quick, Answer::ClientRefused));
        }
        let answer = match self.today(rng) {
            Self::PassingRefusals if rng.u8(..3) == 0 => Answer::ClientRefused,
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
            Self::ClientRefused => Answer::ClientRefused,
            Self::ScopeRefused => Answer::ScopeRefused,
            Self::SameToken => Answer::SameToken,
            Self::ShortLives => Answer::Token(Duration::from_secs(rng.u64(1..60))),
        };
        Some((quick, answer))
    }

    /// Mixed weather is another one each time.
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
            | Self::ClientRefused
            | Self::PassingRefusals
            | Self::ScopeRefused
            | Self::SameToken
            | Self::ShortLives => self,
        }
    }
}
