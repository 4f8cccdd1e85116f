//! For the unit tests of an app: a broker inside the test, and tokens without a broker.
//!
//! [`FakeBroker`] serves tokens on a temporary socket, through the same protocol as `domo-tokend`. The app uses
//! its usual [`Broker`](crate::Broker), blocking or async, so a test covers its caching, renewal and errors. No
//! daemon and no Domo account are needed. It is available on Unix.
//!
#![cfg_attr(unix, doc = "```")]
#![cfg_attr(not(unix), doc = "```ignore")]
//! use domo_token_client::{Broker, Error, testing::FakeBroker};
//!
//! // The app.
//! fn header(broker: &Broker) -> Result<String, Error> {
//!     Ok(broker.token("data")?.authorization().as_str().to_owned())
//! }
//!
//! // Its test.
//! let fake = FakeBroker::start()?;
//! fake.grant("data", "t0ken");
//! let broker = fake.broker();
//! assert_eq!(header(&broker)?, "Bearer t0ken");
//! assert_eq!(header(&broker)?, "Bearer t0ken");
//! assert_eq!(fake.requests(), 1, "the second token came from the cache");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An async test needs the runtime's real clock: with `start_paused = true`, tokio skips the time that the broker takes to
//! answer, and calls fail with [`ErrorKind::Timeout`].
//!
//! A function that takes a [`Token`] needs no broker: [`Token::for_tests`] makes one.
//!
//! Enable the feature for tests only:
//!
//! ```toml
//! [dev-dependencies]
//! domo-token-client = { version = "0.1", features = ["testing"] }
//! ```

#[cfg(unix)]
mod grants;
#[cfg(unix)]
mod session;
#[cfg(unix)]
mod server;
#[cfg(unix)]
mod socket_directory;
#[cfg(unix)]
mod fake_broker;

#[cfg(unix)]
pub use fake_broker::FakeBroker;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::boot_now;
use crate::error::{Error, ErrorKind};
use crate::token::{Token, TokenKey};
use domo_token_protocol::messages::{TokenAnswer, TokenText, is_b64token};
use domo_token_protocol::scope::ScopeSet;

/// The client of tokens that were requested without naming one.
const DEFAULT_CLIENT: &str = "default";

impl Token {
    /// Returns a token with this text for these scopes, which expires after `lifetime`. Each one has its own
    /// generation. Its client is `default`, and [`Token::broker`] is an empty path.
    ///
    /// ```
    /// use std::time::Duration;
    /// use domo_token_client::Token;
    ///
    /// let token = Token::for_tests("data", "t0ken", Duration::from_secs(60));
    /// assert_eq!(token.authorization().as_str(), "Bearer t0ken");
    /// ```
    ///
    /// # Panics
    ///
    /// If the scopes are not a valid scope set, or the text is not a valid token (RFC 6750 §2.1).
    #[must_use]
    pub fn for_tests(scopes: &str, text: &str, lifetime: Duration) -> Self {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        let scope = valid(ScopeSet::parse(scopes));
        let answer = TokenAnswer {
            access_token: token_text(text),
            client: DEFAULT_CLIENT.to_owned(),
            scope: scope.as_str().to_owned(),
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
            expires: boot_now() + lifetime,
        };
        let key = TokenKey {
            client: None,
            scope,
        };
        valid(Self::new(answer, &key, None, &Arc::from(Path::new(""))))
    }
}

impl Error {
    /// Returns an error of this kind, for a function of the app that handles errors.
    ///
    /// ```
    /// use domo_token_client::{Error, ErrorKind};
    ///
    /// let error = Error::for_tests(ErrorKind::Rejected, "the client was deleted");
    /// assert_eq!(error.kind(), ErrorKind::Rejected);
    /// assert_eq!(error.to_string(), "the client was deleted");
    /// ```
    #[must_use]
    pub fn for_tests(kind: ErrorKind, message: &str) -> Self {
        Self::new(kind, message)
    }
}

/// Returns the text of a token.
///
/// # Panics
///
/// If no token can have it.
fn token_text(text: &str) -> TokenText {
    assert!(
        is_b64token(text),
        "a token has only letters, digits and -._~+/, then any number of ="
    );
    TokenText::new(text.to_owned())
}

/// Returns a value that is invalid only by a mistake in the test.
#[expect(clippy::panic, reason = "a panic is how a test fails")]
fn valid<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
