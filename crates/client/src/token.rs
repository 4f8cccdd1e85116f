//! [`Token`], and the key it is requested and cached by.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::clock::{BootTime, boot_now, wall_now};
use crate::error::Error;
use domo_token_protocol::messages::{
    Explanation, MAX_CLIENT_NAME, Renew, TokenAnswer, TokenSubject,
};
use domo_token_protocol::scope::ScopeSet;

/// A cached token that expires within this time, or within a tenth of its lifetime if that is shorter, is
/// no longer fresh: a fresher one is requested unless the caller sets its own condition.
const MAX_MARGIN: Duration = Duration::from_secs(60);

/// A token that expires within this time, or within a tenth of its lifetime if that is shorter, is not used.
const MIN_LEFT: Duration = Duration::from_secs(1);

const LIFETIME_PART: u32 = 10;

/// The API client and scope set that a token is requested for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenKey {
    /// The API client's name in the broker's config; `None` for its default.
    pub(crate) client: Option<Arc<str>>,
    pub(crate) scope: ScopeSet,
}

impl TokenKey {
    pub(crate) fn subject(&self) -> TokenSubject {
        TokenSubject {
            client: self.client.as_deref().map(str::to_owned),
            scope: self.scope.as_str().to_owned(),
        }
    }

    /// Checks that a token answers a request for this key, and is not the one that `renew` rejects.
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

    /// Checks that an explanation is of this key.
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
    Error::protocol(format!(
        "the broker's answer {what}; its connection is closed"
    ))
}

/// A Domo access token. Clones share one copy of its text, which is wiped when the last of them is
/// dropped. `Debug` omits it.
#[derive(Clone)]
pub struct Token(Arc<Inner>);

struct Inner {
    secret: SecretString,
    client: String,
    scope: String,
    /// What it was requested for: Domo may grant more.
    key: TokenKey,
    /// The path of the broker's socket.
    broker: Arc<Path>,
    generation: u64,
    lifetime: Duration,
    expires: BootTime,
    fresh_until: BootTime,
    valid_until: BootTime,
}

impl Token {
    /// Returns the token of an answer to a request for `key` that rejected what `renew` names. All tokens
    /// are made here, so none is cached under a key that it was not requested for.
    pub(crate) fn new(
        answer: TokenAnswer,
        key: &TokenKey,
        renew: Option<Renew>,
        broker: &Arc<Path>,
    ) -> Result<Self, Error> {
        key.check_token(&answer, renew)?;
        let lifetime = Duration::from_millis(answer.lifetime_ms);
        // A broker of protocol version 1 whose clock is another one must not extend the expiry.
        let expires = answer.expires.min(boot_now() + lifetime);
        let part = lifetime / LIFETIME_PART;
        Ok(Self(Arc::new(Inner {
            secret: answer.access_token.into_secret(),
            client: answer.client,
            scope: answer.scope,
            key: key.clone(),
            broker: Arc::clone(broker),
            generation: answer.generation,
            lifetime,
            expires,
            fresh_until: expires - MAX_MARGIN.min(part),
            valid_until: expires - MIN_LEFT.min(part),
        })))
    }

    pub(crate) fn key(&self) -> &TokenKey {
        &self.0.key
    }

    pub(crate) fn expires(&self) -> BootTime {
        self.0.expires
    }

    /// Returns the time from `now` until it expires.
    pub(crate) fn left(&self, now: BootTime) -> Duration {
        self.0.expires.saturating_since(now)
    }

    /// Returns whether callers without conditions can use it without requesting a fresher one.
    pub(crate) fn is_fresh(&self, now: BootTime) -> bool {
        now < self.0.fresh_until
    }

    /// Returns whether it can be used at all.
    pub(crate) fn is_valid(&self, now: BootTime) -> bool {
        now < self.0.valid_until
    }

    /// Returns the token's text, for the header `Authorization: Bearer …`. Besides this, only
    /// [`Self::authorization`] exposes it.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.0.secret.expose_secret()
    }

    /// Returns the value of the header `Authorization`: `Bearer` and the text.
    #[must_use]
    pub fn authorization(&self) -> Authorization {
        const SCHEME: &str = "Bearer ";
        // Allocated at its final size: growing would leave a copy behind.
        let mut value = Zeroizing::new(String::with_capacity(SCHEME.len() + self.secret().len()));
        value.push_str(SCHEME);
        value.push_str(self.secret());
        Authorization(value)
    }

    /// Returns the token type, always `bearer` (RFC 6750).
    #[must_use]
    pub fn token_type(&self) -> &'static str {
        "bearer"
    }

    /// Returns the path of the socket of the broker that it came from.
    #[must_use]
    pub fn broker(&self) -> &Path {
        &self.0.broker
    }

    /// Returns the name of the API client in the broker's config.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.0.client
    }

    /// Returns the scopes that Domo granted, separated by spaces.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.0.scope
    }

    /// Returns a number that identifies this token among those of its scope set. Compare for equality only.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// Returns the time from its issue to its expiry.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.0.lifetime
    }

    /// Returns the time until it expires, on a clock that also runs during suspend; zero once it has expired.
    #[must_use]
    pub fn expires_in(&self) -> Duration {
        self.left(boot_now())
    }

    /// Returns when it expires by the wall clock, as that is set now.
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

/// The value of the header `Authorization`, from [`Token::authorization`]. It is wiped when dropped, and
/// `Debug` omits it.
///
/// With feature `http` it converts into that crate's `HeaderValue`, marked as sensitive. The header value
/// is a copy that is not wiped.
pub struct Authorization(Zeroizing<String>);

impl Authorization {
    /// Returns the value as text.
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
