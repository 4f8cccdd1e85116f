//! Seals the records that hosts share, so that the store's operator can neither read nor make nor change one. Pure: the
//! salt is an argument.
//!
//! `docs/fleet-records.md` describes keys, names and records byte by byte. All keys are derived from the client's
//! credentials, and from a key file if there is one. With other credentials, names and keys differ.

#[cfg(all(unix, any(test, fuzzing)))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write};

use domo_token_protocol::frame;
use domo_token_protocol::messages::is_b64token;
use domo_token_protocol::scope::ScopeSet;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::key_derivation::{enc, hkdf, hmac_sha256};
use crate::store::MAX_RECORD;
use domo_token_core::fleet::{NoteRecord, TokenRecord};
use domo_token_core::token::{MAX_LIFETIME, MAX_TOKEN};

/// The first byte of each record. Records of another version are ignored.
const VERSION: u8 = 1;

/// The bytes of a record's salt.
pub const SALT: usize = 32;

/// The bytes before the encrypted content: version and salt.
const HEAD: usize = 1 + SALT;

/// The bytes of the authentication tag, the last of a record.
const TAG: usize = 16;

/// The fewest characters of a client secret that nobody can guess. Domo's have 64.
const MIN_SECRET: usize = 32;

/// The fewest bytes of a key file.
const MIN_KEY_FILE: usize = 32;

/// The longest message of a note, in characters.
const MAX_MESSAGE: usize = 300;

/// Why a client's tokens cannot be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetKeysError {
    /// The client secret is short, and there is no key file.
    #[error(
        "the store's operator could guess a client secret of fewer than \
         {MIN_SECRET} characters; set fleet.key_file on all hosts to a file made by: openssl rand -hex 32"
    )]
    ShortSecret,
    /// The key file is short.
    #[error(
        "fleet.key_file has fewer than {MIN_KEY_FILE} bytes; replace it on all \
         hosts by a file made by: openssl rand -hex 32"
    )]
    ShortKeyFile,
    /// A part of the key has a length that the derivation cannot encode.
    #[error("its {0} has more than 65535 bytes; use a shorter one")]
    TooLong(&'static str),
}

/// Why a record is not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No host would accept the token.
    #[error("cannot share the token: its text, scopes or lifetime are invalid")]
    Invalid,
    /// It has more than [`MAX_RECORD`] bytes.
    #[error("cannot share the record: it has more than {MAX_RECORD} bytes")]
    TooLong,
    /// The cipher failed, as it does for no content of this length.
    #[error("cannot share the record: its encryption failed")]
    Cipher,
}

/// The kinds of record. A record of one kind does not open as another.
#[derive(Clone, Copy)]
enum Kind {
    Token,
    Note,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Token => b't',
            Self::Note => b'n',
        }
    }
}

/// The keys of one client of the fleet.
///
/// Keys, and what they are derived from, are wiped when dropped. What cannot be wiped are copies inside of ring: the
/// states of HMAC and `ChaCha20`, on the stack of the function that uses them.
pub struct FleetKeys {
    master: Zeroizing<Vec<u8>>,
    name_key: Zeroizing<Vec<u8>>,
}

impl FleetKeys {
    /// Derives the keys. `key_file` is the file's content, whose trailing line breaks do not count.
    ///
    /// # Errors
    ///
    /// [`FleetKeysError`] if the store's operator could guess the keys.
    pub fn new(
        client_secret: &SecretString,
        key_file: Option<&[u8]>,
        token_url: &str,
        client_id: &str,
    ) -> Result<Self, FleetKeysError> {
        let secret = client_secret.expose_secret();
        let key_file = key_file.map(without_line_breaks);
        match key_file {
            None if secret.chars().count() < MIN_SECRET => return Err(FleetKeysError::ShortSecret),
            Some(key) if key.len() < MIN_KEY_FILE => return Err(FleetKeysError::ShortKeyFile),
            _ => {}
        }
        let key_file = key_file.unwrap_or_default();
        for (what, part) in [
            ("client secret", secret.as_bytes()),
            ("key file", key_file),
            ("token URL", token_url.as_bytes()),
            ("client id", client_id.as_bytes()),
        ] {
            if part.len() > usize::from(u16::MAX) {
                return Err(FleetKeysError::TooLong(what));
            }
        }
        let secrets = enc(&[secret.as_bytes(), key_file]);
        let client = enc(&[token_url.as_bytes(), client_id.as_bytes()]);
        let master = hkdf(&secrets, b"domo-token fleet v1", &client);
        let name_key = hkdf(&master, b"", b"name");
        Ok(Self { master, name_key })
    }

    /// Returns the name of a scope set's records: 32 hexadecimal digits.
    #[must_use]
    pub fn name(&self, scope: &ScopeSet) -> String {
        let scope = enc(&[scope.as_str().as_bytes()]);
        let mut name = hex(&hmac_sha256(&self.name_key, &[&scope]));
        name.truncate(32);
        name
    }

    /// Seals a token under the name of its scope set. Each record needs a new random `salt`.
    ///
    /// # Errors
    ///
    /// [`SealError::Invalid`] if the token would not open.
    pub fn seal_token(
        &self,
        name: &str,
        record: &TokenRecord,
        salt: [u8; SALT],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if !is_valid_token(record) {
            return Err(SealError::Invalid);
        }
        self.seal(Kind::Token, name, &encoded(record)?, salt)
    }

    /// Seals a note as [`Self::seal_token`] does a token. Its message is shortened to one line of 300 characters.
    ///
    /// # Errors
    ///
    /// [`SealError`], which does not happen to a note.
    pub fn seal_note(
        &self,
        name: &str,
        record: &NoteRecord,
        salt: [u8; SALT],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let record = NoteRecord {
            message: shortened(&record.message),
            ..record.clone()
        };
        self.seal(Kind::Note, name, &encoded(&record)?, salt)
    }

    /// Returns the token in a record; `None` unless a host with the same keys sealed it as a token under this name, and
    /// its text, scopes and lifetime are valid.
    #[must_use]
    pub fn open_token(&self, name: &str, record: &[u8]) -> Option<TokenRecord> {
        self.open(Kind::Token, name, record).filter(is_valid_token)
    }

    /// Returns the note in a record, as [`Self::open_token`] does a token.
    #[must_use]
    pub fn open_note(&self, name: &str, record: &[u8]) -> Option<NoteRecord> {
        self.open(Kind::Note, name, record).filter(is_valid_note)
    }

    fn seal(
        &self,
        kind: Kind,
        name: &str,
        content: &[u8],
        salt: [u8; SALT],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if HEAD + content.len() + TAG > MAX_RECORD {
            return Err(SealError::TooLong);
        }
        // The content is encrypted where it is, so it must never move to another allocation.
        let mut record = Zeroizing::new(Vec::with_capacity(HEAD + content.len() + TAG));
        record.push(VERSION);
        record.extend_from_slice(&salt);
        record.extend_from_slice(content);
        let (_, text) = record.split_at_mut(HEAD);
        let tag = self
            .cipher(&salt)
            .and_then(|cipher| {
                let aad = Aad::from(bound_to(kind, name));
                cipher.seal_in_place_separate_tag(nonce(), aad, text).ok()
            })
            .ok_or(SealError::Cipher)?;
        record.extend_from_slice(tag.as_ref());
        Ok(record)
    }

    fn open<T: DeserializeOwned>(&self, kind: Kind, name: &str, record: &[u8]) -> Option<T> {
        if record.len() > MAX_RECORD {
            return None;
        }
        let (&version, rest) = record.split_first()?;
        let (salt, sealed) = rest.split_first_chunk::<SALT>()?;
        if version != VERSION {
            return None;
        }
        let mut content = Zeroizing::new(sealed.to_vec());
        let aad = Aad::from(bound_to(kind, name));
        let cipher = self.cipher(salt)?;
        let content = cipher.open_in_place(nonce(), aad, &mut content).ok()?;
        frame::decode(content).ok()
    }

    fn cipher(&self, salt: &[u8; SALT]) -> Option<LessSafeKey> {
        let key = hkdf(&self.master, salt, b"seal");
        UnboundKey::new(&CHACHA20_POLY1305, &key)
            .ok()
            .map(LessSafeKey::new)
    }
}

impl fmt::Debug for FleetKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetKeys([REDACTED])")
    }
}

/// Returns the nonce of every record: each salt makes a key of its own, which encrypts once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Returns what a record is authenticated with in addition to its content.
fn bound_to(kind: Kind, name: &str) -> Vec<u8> {
    [&[VERSION, kind.byte()], name.as_bytes()].concat()
}

/// Encodes a record as a body on the wire.
fn encoded<T: Serialize>(record: &T) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let mut frame = frame::encode(record).map_err(|_| SealError::TooLong)?;
    frame.drain(..frame::HEAD);
    Ok(frame)
}

fn is_valid_token(record: &TokenRecord) -> bool {
    let lifetime = 1..=MAX_LIFETIME.as_millis();
    let text = record.text.expose();
    is_b64token(text)
        && text.len() <= MAX_TOKEN
        && ScopeSet::parse(&record.granted).is_ok()
        && lifetime.contains(&u128::from(record.lifetime_ms))
}

fn is_valid_note(record: &NoteRecord) -> bool {
    record.message.chars().count() <= MAX_MESSAGE && !record.message.contains(breaks_line)
}

/// Returns a message as a note carries it.
fn shortened(message: &str) -> String {
    let plain = message
        .chars()
        .map(|c| if breaks_line(c) { ' ' } else { c });
    if plain.clone().count() <= MAX_MESSAGE {
        return plain.collect();
    }
    plain.take(MAX_MESSAGE - 1).chain(['…']).collect()
}

/// Returns whether a character can end a line or control a terminal.
fn breaks_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

fn without_line_breaks(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r' | b'\n'] = text {
        text = rest;
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // A string accepts each write.
        hex
    })
}
