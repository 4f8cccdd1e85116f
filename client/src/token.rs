//! A token in a caller's hands.

use std::fmt;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};

use crate::clock::{BootTime, boot_now, wall_now};
use crate::wire::TokenAnswer;

/// A Domo access token. `Debug` doesn't show it, and it is wiped when dropped.
#[derive(Clone)]
pub struct Token {
    secret: SecretString,
    client: String,
    scope: String,
    /// What it was asked for by: Domo may grant more.
    asked: String,
    generation: u64,
    lifetime: Duration,
    expires: BootTime,
}

impl Token {
    pub(crate) fn new(answer: TokenAnswer, asked: &str) -> Self {
        Self {
            secret: answer.access_token.into_secret(),
            client: answer.client,
            scope: answer.scope,
            asked: asked.to_owned(),
            generation: answer.generation,
            lifetime: Duration::from_millis(answer.lifetime_ms),
            expires: answer.expires,
        }
    }

    /// The scopes to ask for another one by.
    pub(crate) fn asked(&self) -> &str {
        &self.asked
    }

    /// The token's text, for the header `Authorization: Bearer …`.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// How it is to be used: always `bearer` (RFC 6750).
    #[must_use]
    pub fn token_type(&self) -> &'static str {
        "bearer"
    }

    /// The broker's name for the API client.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The scopes Domo granted, parted by spaces.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Names this token among those of its scope set. Compare for equality only.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Its whole life.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The life it has left, on a clock that runs in suspend; zero once it is dead.
    #[must_use]
    pub fn expires_in(&self) -> Duration {
        self.expires.saturating_since(boot_now())
    }

    /// When it dies, as the wall clock stands now.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.expires.to_wall(boot_now(), wall_now())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("client", &self.client)
            .field("scope", &self.scope)
            .field("generation", &self.generation)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
