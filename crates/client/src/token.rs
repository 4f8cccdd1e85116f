//! A token in a caller's hands.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::clock::{BootTime, boot_now, wall_now};
use crate::error::Error;
use domo_token_protocol::messages::{Asked, Explanation, MAX_CLIENT_NAME, Renew, TokenAnswer};
use domo_token_protocol::scope::ScopeSet;

/// A token with less left is asked for anew, unless the caller says what it needs; of short-lived
/// ones, with less than a tenth of their life.
const MARGIN_MAX: Duration = Duration::from_secs(60);

/// No token is used with less left than this, or than a tenth of its life.
const LEAST_LEFT_MAX: Duration = Duration::from_secs(1);

const PART_OF_LIFE: u32 = 10;

/// What a token is asked for by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Set {
    /// The API client's name in the broker's config; `None` for its default.
    pub(crate) client: Option<Arc<str>>,
    pub(crate) scope: ScopeSet,
}

impl Set {
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            client: self.client.as_deref().map(str::to_owned),
            scope: self.scope.as_str().to_owned(),
        }
    }

    /// Checks that a token answer is to a request for this set, which rejected what `renew` says.
    fn check_token(&self, answer: &TokenAnswer, renew: Option<Renew>) -> Result<(), Error> {
        self.check_client(Some(&answer.client))?;
        let granted = |scope: &&str| answer.scope.split(' ').any(|other| other == *scope);
        if !self.scope.iter().all(|scope| granted(&scope)) {
            let scopes = &answer.scope;
            return Err(mismatch(&format!(
                "grants {scopes:?}, not all of \"{}\"",
                self.scope
            )));
        }
        if renew == Some(Renew::Rejected(answer.generation)) {
            return Err(mismatch("is the token that was rejected"));
        }
        Ok(())
    }

    /// Checks that an explanation is of this set.
    pub(crate) fn check_explanation(&self, answer: &Explanation) -> Result<(), Error> {
        let shown = answer.client.as_deref();
        let cut = shown.and_then(|shown| shown.strip_suffix('…'));
        let is_cut = |named: &str| {
            named.len() > MAX_CLIENT_NAME && cut.is_some_and(|cut| named.starts_with(cut))
        };
        if !self.client.as_deref().is_some_and(is_cut) {
            self.check_client(shown)?;
        }
        if answer.scope != self.scope.as_str() {
            let scope = &answer.scope;
            return Err(mismatch(&format!(
                "explains {scope:?}, not \"{}\"",
                self.scope
            )));
        }
        Ok(())
    }

    /// Checks that an answer names the client that the request named.
    fn check_client(&self, answered: Option<&str>) -> Result<(), Error> {
        let Some(named) = self.client.as_deref() else {
            return Ok(());
        };
        let answered = answered.unwrap_or_default();
        if answered == named {
            return Ok(());
        }
        Err(mismatch(&format!(
            "is of client {answered:?}, not of {named:?}"
        )))
    }
}

fn mismatch(what: &str) -> Error {
    Error::Broken {
        cause: format!("the broker's answer {what}; its connection is closed"),
    }
}

/// A Domo access token. `Debug` doesn't show it. Clones share one copy of its text, which is wiped
/// with the last of them.
#[derive(Clone)]
pub struct Token(Arc<Inner>);

struct Inner {
    secret: SecretString,
    client: String,
    scope: String,
    /// What it was asked for by: Domo may grant more.
    set: Set,
    /// The path of the socket that it came from.
    broker: Arc<Path>,
    generation: u64,
    lifetime: Duration,
    expires: BootTime,
    does_until: BootTime,
    lives_until: BootTime,
}

impl Token {
    /// The token of an answer to a request for `set` that rejected what `renew` says. There is no
    /// other way to a token, so none is held under another set than it was requested for.
    pub(crate) fn new(
        answer: TokenAnswer,
        set: &Set,
        renew: Option<Renew>,
        broker: &Arc<Path>,
    ) -> Result<Self, Error> {
        set.check_token(&answer, renew)?;
        let lifetime = Duration::from_millis(answer.lifetime_ms);
        // A broker whose clock isn't ours (containers can shift it) must not make it immortal.
        let expires = answer.expires.min(boot_now() + lifetime);
        let part = lifetime / PART_OF_LIFE;
        Ok(Self(Arc::new(Inner {
            secret: answer.access_token.into_secret(),
            client: answer.client,
            scope: answer.scope,
            set: set.clone(),
            broker: Arc::clone(broker),
            generation: answer.generation,
            lifetime,
            expires,
            does_until: expires - MARGIN_MAX.min(part),
            lives_until: expires - LEAST_LEFT_MAX.min(part),
        })))
    }

    pub(crate) fn set(&self) -> &Set {
        &self.0.set
    }

    pub(crate) fn expires(&self) -> BootTime {
        self.0.expires
    }

    /// The life it has left at `now`.
    pub(crate) fn left(&self, now: BootTime) -> Duration {
        self.0.expires.saturating_since(now)
    }

    /// Whether it has life enough left for whoever asks nothing of it.
    pub(crate) fn is_fresh(&self, now: BootTime) -> bool {
        now < self.0.does_until
    }

    /// Whether it can still be used at all.
    pub(crate) fn is_valid(&self, now: BootTime) -> bool {
        now < self.0.lives_until
    }

    /// The token's text, for the header `Authorization: Bearer …`. Nothing else gives it away but
    /// [`Self::authorization`].
    #[must_use]
    pub fn secret(&self) -> &str {
        self.0.secret.expose_secret()
    }

    /// The value of the header `Authorization`: `Bearer` and the text.
    #[must_use]
    pub fn authorization(&self) -> Authorization {
        const SCHEME: &str = "Bearer ";
        // Of its whole size from the start: growing leaves a copy behind.
        let mut value = Zeroizing::new(String::with_capacity(SCHEME.len() + self.secret().len()));
        value.push_str(SCHEME);
        value.push_str(self.secret());
        Authorization(value)
    }

    /// How it is to be used: always `bearer` (RFC 6750).
    #[must_use]
    pub fn token_type(&self) -> &'static str {
        "bearer"
    }

    /// The path of the socket of the broker that gave it.
    #[must_use]
    pub fn broker(&self) -> &Path {
        &self.0.broker
    }

    /// The broker's name for the API client.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.0.client
    }

    /// The scopes Domo granted, parted by spaces.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.0.scope
    }

    /// Names this token among those of its scope set. Compare for equality only.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// Its whole life.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.0.lifetime
    }

    /// The life it has left, on a clock that runs in suspend; zero once it is dead.
    #[must_use]
    pub fn expires_in(&self) -> Duration {
        self.left(boot_now())
    }

    /// When it dies, as the wall clock stands now.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.0.expires.to_wall(boot_now(), wall_now())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("client", &self.0.client)
            .field("scope", &self.0.scope)
            .field("generation", &self.0.generation)
            .field("expires", &self.0.expires)
            .finish_non_exhaustive()
    }
}

/// The value of the header `Authorization`, from [`Token::authorization`]. `Debug` doesn't show
/// it, and it is wiped when dropped.
///
/// With feature `http` it turns into that crate's `HeaderValue`, marked as sensitive, so that it
/// can be given to whatever takes one. That holds a copy which isn't wiped.
pub struct Authorization(Zeroizing<String>);

impl Authorization {
    /// The value as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization([REDACTED])")
    }
}

#[cfg(feature = "http")]
impl TryFrom<Authorization> for http::HeaderValue {
    type Error = http::header::InvalidHeaderValue;

    fn try_from(value: Authorization) -> Result<Self, Self::Error> {
        let mut header = Self::from_str(value.as_str())?;
        header.set_sensitive(true);
        Ok(header)
    }
}
