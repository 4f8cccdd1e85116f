//! Makes text of servers and proxies fit for messages: one line, bounded, and without secrets in any form in which
//! they may be sent back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::ExposeSecret;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::credentials::ProxyLogin;

/// The longest text of a server in a message, in characters.
pub(crate) const MAX_TEXT: usize = 300;

/// A run of letters and digits of this length is redacted: it may be a secret.
const MAX_WORD: usize = 40;

/// The fewest characters of base64 that are recognized as a part of the secret.
const LEAST_BASE64: usize = 4;

/// The fewest characters of a password that is redacted within words.
const LEAST_PASSWORD: usize = 4;

const REDACTED: &str = "[redacted]";

/// The secrets to redact.
#[derive(Clone, Copy, Default)]
pub(crate) struct Secrets<'a> {
    pub(crate) client_secret: &'a str,
    /// It is also removed from what servers send, because a proxy may answer for them.
    pub(crate) login: Option<&'a ProxyLogin>,
}

impl Secrets<'_> {
    /// Returns a text without any of them.
    pub(crate) fn removed_from(&self, text: &str) -> String {
        let text = without_secret(text, self.client_secret);
        let Some(login) = self.login else {
            return text;
        };
        let password = login.password.expose_secret();
        let both = Zeroizing::new(format!("{}:{password}", login.user));
        let text = without_secret(&text, &both);
        if password.chars().count() >= LEAST_PASSWORD {
            return without_secret(&text, password);
        }
        // The text around it would reveal so short a password.
        if has_word(&text, password) {
            return REDACTED.to_owned();
        }
        text
    }
}

/// Returns whether a text contains a word that is no part of another.
fn has_word(text: &str, word: &str) -> bool {
    let is_apart = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
    let mut found = text.match_indices(word).filter(|_| !word.is_empty());
    found.any(|(at, _)| {
        let (before, from) = text.split_at(at);
        let after = from.strip_prefix(word).unwrap_or_default();
        is_apart(before.chars().next_back()) && is_apart(after.chars().next())
    })
}

/// Returns the text as one bounded line without control characters and without long runs that may be secrets.
pub(crate) fn one_line(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() || is_bidi(c) { ' ' } else { c })
        .collect();
    let redacted: Vec<&str> = plain
        .split_whitespace()
        .map(|word| if looks_secret(word) { REDACTED } else { word })
        .collect();
    let line = redacted.join(" ");
    if line.chars().count() <= MAX_TEXT {
        return line;
    }
    line.chars().take(MAX_TEXT).chain(['…']).collect()
}

/// Returns whether a character changes the reading order of a line, which can change its meaning.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn looks_secret(word: &str) -> bool {
    let of_a_secret = |c: char| c.is_ascii_alphanumeric() || "-_+=%".contains(c);
    word.split(|c: char| !of_a_secret(c))
        .any(|run| run.len() >= MAX_WORD)
}

/// Returns the text without the secret: as it is, form-encoded, percent-encoded once or twice, and
/// in base64, also as a part of what was encoded, as in Basic.
fn without_secret(text: &str, secret: &str) -> String {
    if secret.is_empty() {
        return text.to_owned();
    }
    let mut line = without_percent_encoded(text, secret.as_bytes());
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let form = Zeroizing::new(form);
    for plain in [secret, &form] {
        for shift in 0..3 {
            let part = base64_part(plain.as_bytes(), shift);
            if part.len() >= LEAST_BASE64 {
                let url_safe = Zeroizing::new(part.replace('+', "-").replace('/', "_"));
                line = without_base64(&line, &part);
                line = without_base64(&line, &url_safe);
            }
        }
    }
    line
}

fn without_percent_encoded(text: &str, secret: &[u8]) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = encoded_length(rest.as_bytes(), secret);
        if let Some(after) = end.and_then(|end| rest.get(end..)) {
            shown.push_str(REDACTED);
            rest = after;
        } else {
            shown.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    shown
}

/// Returns the length of the secret at the start of a text, each of its bytes encoded or not.
fn encoded_length(text: &[u8], secret: &[u8]) -> Option<usize> {
    // Most texts have another first byte.
    lengths(text, *secret.first()?).next()?;
    let mut ends = vec![0];
    for byte in secret {
        let mut next = Vec::new();
        for end in ends {
            let rest = text.get(end..).unwrap_or_default();
            for length in lengths(rest, *byte) {
                if !next.contains(&(end + length)) {
                    next.push(end + length);
                }
            }
        }
        if next.is_empty() {
            return None;
        }
        ends = next;
    }
    ends.into_iter().max()
}

/// Returns the lengths that this byte may have at the start of a text.
fn lengths(text: &[u8], byte: u8) -> impl Iterator<Item = usize> {
    // A form has "+" for a blank.
    let is = move |found: Option<u8>| {
        found.is_some_and(|found| found == byte || found == b'+' && byte == b' ')
    };
    let raw = text.first().copied();
    let once = text.strip_prefix(b"%").and_then(hex_byte);
    let twice = text.strip_prefix(b"%25").and_then(hex_byte);
    [(is(raw), 1), (is(once), 3), (is(twice), 5)]
        .into_iter()
        .filter_map(|(fits, length)| fits.then_some(length))
}

fn hex_byte(text: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let [high, low] = text.first_chunk()?;
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Returns the characters of base64 that encode a text regardless of what is around it, if `shift` bytes precede it in
/// its group of three.
fn base64_part(text: &[u8], shift: usize) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(vec![0; shift]);
    bytes.extend_from_slice(text);
    let encoded = Zeroizing::new(STANDARD_NO_PAD.encode(&bytes));
    let (start, end) = ((shift * 8).div_ceil(6), bytes.len() * 8 / 6);
    Zeroizing::new(encoded.get(start..end).unwrap_or_default().to_owned())
}

/// Replaces every run of base64 that contains the part.
fn without_base64(text: &str, part: &str) -> String {
    let of_base64 = |c: char| c.is_ascii_alphanumeric() || "+/-_=".contains(c);
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(part) {
        let (before, from) = rest.split_at(at);
        shown.push_str(before.trim_end_matches(of_base64));
        shown.push_str(REDACTED);
        rest = from.trim_start_matches(of_base64);
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "c4nary 100%+é/secret?>~";

    #[test]
    fn secret_is_redacted_in_every_form_in_which_a_server_may_send_it_back() {
        let form: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
        let percent = utf8_percent_encode(SECRET, NON_ALPHANUMERIC).to_string();
        let all: Vec<String> = SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let all = all.concat();
        let twice = utf8_percent_encode(&form, NON_ALPHANUMERIC).to_string();
        for text in [SECRET, &form, &form.to_lowercase(), &percent, &all, &twice] {
            let shown = without_secret(&format!("you sent <{text}>."), SECRET);
            assert_eq!(shown, "you sent <[redacted]>.", "{text}");
        }
    }

    #[test]
    fn secret_is_redacted_in_base64_whatever_precedes_it() {
        let form: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
        let logins = ["", "a", "ab", "abc", "441e307a-b2a1"]
            .into_iter()
            .flat_map(|id| {
                [
                    format!("{id}:{SECRET}"),
                    format!("{id}{SECRET}\n"),
                    format!("{id}:{form}"),
                ]
            });
        for login in logins {
            for text in [STANDARD.encode(&login), URL_SAFE.encode(&login)] {
                let shown = without_secret(&format!("Basic {text}, no"), SECRET);
                assert_eq!(shown, "Basic [redacted], no", "{login}");
            }
        }
    }

    #[test]
    fn login_is_redacted_in_every_form_in_which_a_proxy_may_send_it_back() {
        let password = "p4ss wörd%";
        let login = ProxyLogin {
            user: "ann".to_owned(),
            password: password.into(),
        };
        let secrets = Secrets {
            client_secret: SECRET,
            login: Some(&login),
        };
        let percent = utf8_percent_encode(password, NON_ALPHANUMERIC).to_string();
        let both = format!("ann:{password}");
        let (basic, alone) = (STANDARD.encode(&both), STANDARD.encode(password));
        for text in [password, &percent, &both, &basic, &alone, SECRET] {
            let shown = secrets.removed_from(&format!("bad login <{text}>."));
            assert_eq!(shown, "bad login <[redacted]>.", "{text}");
        }
    }

    #[test]
    fn short_password_hides_the_text_in_which_it_is_a_word() {
        let shown = |text: &str, password: &str| {
            let login = ProxyLogin {
                user: "ann".to_owned(),
                password: password.into(),
            };
            let login = Some(&login);
            Secrets {
                login,
                ..Secrets::default()
            }
            .removed_from(text)
        };
        let text = "a bad login for ann";
        for (password, expected) in [
            ("a", REDACTED),
            ("bad", REDACTED),
            ("ad", text),
            ("n", text),
            ("", text),
        ] {
            assert_eq!(shown(text, password), expected, "{password}");
        }
        let basic = STANDARD.encode("ann:bad");
        assert_eq!(shown(&format!("Basic {basic}"), "bad"), "Basic [redacted]");
    }

    #[test]
    fn text_without_the_secret_is_unchanged() {
        for secret in ["", "s", SECRET] {
            let text = "API key 100% invalid+é: %zz %2";
            assert_eq!(without_secret(text, &format!("{secret}\u{1}")), text);
        }
        assert_eq!(without_secret("as it is", ""), "as it is");
        assert_eq!(
            without_secret("a%25b %25", "%25"),
            "a[redacted]b [redacted]"
        );
    }

    proptest! {
        #[test]
        fn secret_is_redacted_in_any_surrounding_text(
            before in ".{0,12}", secret in ".{1,24}", after in ".{0,12}", percent in any::<bool>(),
        ) {
            let sent = if percent { utf8_percent_encode(&secret, NON_ALPHANUMERIC).to_string() } else { secret.clone() };
            prop_assume!(!REDACTED.contains(&secret));
            let shown = without_secret(&format!("{before}{sent}{after}"), &secret);
            let rest = shown.replace(REDACTED, "\u{0}");
            prop_assert!(!rest.contains(&sent) || secret.contains('\u{0}'), "{}", shown);
        }
    }
}
