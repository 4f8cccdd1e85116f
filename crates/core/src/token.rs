//! The access token as the broker holds it: one copy, already in the form that callers get.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use domo_token_protocol::frame::{self, FrameError, HELLO};
use domo_token_protocol::messages::{Response, TokenAnswer, TokenText, VERSION};
use domo_token_protocol::scope::ScopeSet;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use domo_token_protocol::BootTime;

/// The longest token that is passed on, in bytes. Domo's have 644 to about 800.
pub const MAX_TOKEN: usize = 16 * 1024;

/// The longest life that a token is believed to have.
pub const MAX_LIFETIME: Duration = Duration::from_secs(86_400);

/// A token in the broker's hands. Clones share the one copy, which is wiped with the last of them.
#[derive(Clone)]
pub struct Token(Arc<TokenInner>);

struct TokenInner {
    /// The broker's hello and the answer frame, ready to be written.
    bytes: Zeroizing<Vec<u8>>,
    text: Range<usize>,
    life: Life,
}

/// Which token it is and how long it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Names the token among those of its scope set.
    pub generation: u64,
    /// When Domo was asked for it; its lifetime counts from here.
    pub obtained: BootTime,
    /// How long it lives in all.
    pub lifetime: Duration,
    /// When it dies.
    pub expires: BootTime,
}

impl Life {
    /// How long the token lives on from `now`.
    #[must_use]
    pub fn left(&self, now: BootTime) -> Duration {
        self.expires.saturating_since(now)
    }
}

impl Token {
    /// Makes the token's answer frame, from which it is served from then on.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if it doesn't fit a frame; no token of up to [`MAX_TOKEN`] bytes does that.
    pub fn new(
        client: &str,
        granted: &ScopeSet,
        text: &SecretString,
        life: Life,
    ) -> Result<Self, FrameError> {
        let frame = frame::encode(&Response::Token(TokenAnswer {
            access_token: TokenText::from(text.clone()),
            client: client.to_owned(),
            scope: granted.as_str().to_owned(),
            generation: life.generation,
            lifetime_ms: u64::try_from(life.lifetime.as_millis()).unwrap_or(u64::MAX),
            expires: life.expires,
        }))?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(HELLO + frame.len()));
        bytes.extend_from_slice(&frame::hello(VERSION));
        bytes.extend_from_slice(&frame);
        let needle = text.expose_secret().as_bytes();
        let start = bytes
            .windows(needle.len().max(1))
            .position(|window| window == needle);
        let start = start.ok_or(FrameError::Malformed)?;
        let text = start..start + needle.len();
        Ok(Self(Arc::new(TokenInner { bytes, text, life })))
    }

    /// Which token it is and how long it lives.
    #[must_use]
    pub fn life(&self) -> Life {
        self.0.life
    }

    /// Whether this is the token of that text.
    #[must_use]
    pub fn is(&self, text: &SecretString) -> bool {
        self.0.bytes.get(self.0.text.clone()) == Some(text.expose_secret().as_bytes())
    }

    /// The token as a caller reads it.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if the frame can't be read, which was made here.
    pub fn answer(&self) -> Result<TokenAnswer, FrameError> {
        let body = self.0.bytes.get(HELLO + frame::HEAD..);
        match frame::decode(body.unwrap_or_default())? {
            Response::Token(answer) => Ok(answer),
            Response::Refusal(_)
            | Response::Broker(_)
            | Response::Scope(_)
            | Response::Explanation(_)
            | Response::Metrics(_)
            | Response::End => Err(FrameError::Malformed),
        }
    }

    /// The bytes to write to a caller: a connection's first answer begins with the hello.
    #[must_use]
    pub fn bytes(&self, first: bool) -> &[u8] {
        self.0
            .bytes
            .get(if first { 0 } else { HELLO }..)
            .unwrap_or_default()
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.0.life).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let life = Life {
            generation: 7,
            obtained: BootTime::from_millis(1_000),
            lifetime: Duration::from_secs(60),
            expires: BootTime::from_millis(61_000),
        };
        let scope = ScopeSet::parse("data user").unwrap();
        Token::new("acme", &scope, &"c4nary-token".into(), life).unwrap()
    }

    #[test]
    fn debug_never_shows_the_token() {
        assert!(!format!("{:?}", token()).contains("c4nary"));
    }

    #[test]
    fn the_first_answer_begins_with_the_hello_and_later_ones_do_not() {
        let token = token();
        let (hello, rest) = token.bytes(true).split_at(HELLO);
        assert_eq!(hello, b"DTK\x01");
        assert_eq!(rest, token.bytes(false));
        let (body, _) = frame::split(rest).unwrap().unwrap();
        let Response::Token(answer) = frame::decode(body).unwrap() else {
            panic!("not a token");
        };
        assert_eq!(answer.access_token.expose(), "c4nary-token");
        assert_eq!(answer.scope, "data user");
        assert_eq!(answer.expires, BootTime::from_millis(61_000));
    }

    #[test]
    fn a_token_knows_its_own_text() {
        assert!(token().is(&"c4nary-token".into()));
        assert!(!token().is(&"c4nary-tokem".into()));
        assert!(!token().is(&"".into()));
    }
}
