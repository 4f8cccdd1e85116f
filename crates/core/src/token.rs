//! The access token as the broker holds it: its text and facts, and the encodings that callers receive.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use domo_token_protocol::frame::{self, FrameError};
use domo_token_protocol::messages::{Response, TokenAnswer, TokenText};
use domo_token_protocol::scope::ScopeSet;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use domo_token_protocol::BootTime;

/// The longest token that is passed on, in bytes. Domo's have 644 to about 800.
pub const MAX_TOKEN: usize = 16 * 1024;

/// The longest lifetime of a token that is believed.
pub const MAX_LIFETIME: Duration = Duration::from_secs(86_400);

/// A token and what is known of it. Clones share one allocation of each part; every copy of the text
/// is wiped when the last clone is dropped.
#[derive(Clone)]
pub struct Token(Arc<TokenInner>);

struct TokenInner {
    text: SecretString,
    client: String,
    granted: ScopeSet,
    validity: Validity,
    /// The answer's frame, encoded once: the same bytes in every protocol version so far.
    frame: Zeroizing<Vec<u8>>,
}

/// Which token it is, and when it is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Names the token among those of its scope set.
    pub generation: u64,
    /// When it was requested from Domo; its lifetime begins here.
    pub obtained: BootTime,
    /// How long it is valid in all.
    pub lifetime: Duration,
    /// When it expires.
    pub expires: BootTime,
}

impl Validity {
    /// Returns how long the token is valid from `now` on.
    #[must_use]
    pub fn left(&self, now: BootTime) -> Duration {
        self.expires.saturating_since(now)
    }
}

impl Token {
    /// Copies `text` and encodes the frame from which the token is served.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if it doesn't fit a frame; no token of up to [`MAX_TOKEN`] bytes does that.
    pub fn new(
        client: &str,
        granted: &ScopeSet,
        text: &SecretString,
        validity: Validity,
    ) -> Result<Self, FrameError> {
        let answer = Response::Token(TokenAnswer {
            access_token: TokenText::from(text.clone()),
            client: client.to_owned(),
            scope: granted.as_str().to_owned(),
            generation: validity.generation,
            lifetime_ms: u64::try_from(validity.lifetime.as_millis()).unwrap_or(u64::MAX),
            expires: validity.expires,
        });
        Ok(Self(Arc::new(TokenInner {
            frame: frame::encode(&answer)?,
            text: text.clone(),
            client: client.to_owned(),
            granted: granted.clone(),
            validity,
        })))
    }

    /// Returns the access token itself.
    #[must_use]
    pub fn text(&self) -> &SecretString {
        &self.0.text
    }

    /// Returns the API client's name.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.0.client
    }

    /// Returns the scopes that Domo granted.
    #[must_use]
    pub fn granted(&self) -> &ScopeSet {
        &self.0.granted
    }

    /// Returns the token's generation and validity.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.0.validity
    }

    /// Returns whether this is the token of that text.
    #[must_use]
    pub fn is(&self, text: &SecretString) -> bool {
        self.0.text.expose_secret() == text.expose_secret()
    }

    /// Returns the frame that answers a token request.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.0.frame
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        // It holds every fact.
        self.0.frame == other.0.frame && self.0.validity == other.0.validity
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.0.validity).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let validity = Validity {
            generation: 7,
            obtained: BootTime::from_millis(1_000),
            lifetime: Duration::from_secs(60),
            expires: BootTime::from_millis(61_000),
        };
        let scope = ScopeSet::parse("data user").unwrap();
        Token::new("acme", &scope, &"c4nary-token".into(), validity).unwrap()
    }

    #[test]
    fn debug_output_hides_the_token() {
        assert!(!format!("{:?}", token()).contains("c4nary"));
    }

    #[test]
    fn frame_carries_the_text_and_the_facts() {
        let token = token();
        let (body, used) = frame::split(token.frame()).unwrap().unwrap();
        assert_eq!(used, token.frame().len());
        let Response::Token(answer) = frame::decode(body).unwrap() else {
            panic!("not a token");
        };
        assert_eq!(answer.access_token.expose(), "c4nary-token");
        assert_eq!(token.text().expose_secret(), "c4nary-token");
        assert_eq!((answer.client.as_str(), token.client()), ("acme", "acme"));
        assert_eq!(answer.scope, "data user");
        assert_eq!(token.granted().as_str(), "data user");
        assert_eq!(answer.expires, BootTime::from_millis(61_000));
    }

    #[test]
    fn same_text_compares_a_token_with_its_own_text() {
        assert!(token().is(&"c4nary-token".into()));
        assert!(!token().is(&"c4nary-tokem".into()));
        assert!(!token().is(&"".into()));
    }
}
