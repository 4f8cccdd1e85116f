//! PURE. What was typed, pasted or piped as an id or a secret: what no paste means is removed, and any
//! other slip is named, without the text itself.

use secrecy::SecretString;

use crate::config::{usable_id, usable_secret};

/// What a terminal puts around text that is pasted, if a program has asked it to.
const PASTE: [&str; 2] = ["\u{1b}[200~", "\u{1b}[201~"];

/// A byte order mark, which Windows puts before text.
const BOM: char = '\u{feff}';

/// Why what was entered cannot be used: the end of a sentence that begins with its name.
pub(super) type Slip = &'static str;

/// The client id in a line. Blanks around it are removed.
pub(super) fn client_id(line: &str) -> Result<String, Slip> {
    let id = pasted(line).trim_matches(|c: char| c.is_whitespace() || is_invisible(c));
    if let Some(slip) = wrapping(id) {
        return Err(slip);
    }
    if !usable_id(id) {
        return Err("is empty, too long, or not one word of ASCII");
    }
    Ok(id.to_owned())
}

/// The client secret in a line. Blanks around it are no part of a secret of Domo's, but may be one of
/// another server's: they are named, not removed.
pub(super) fn client_secret(line: &str) -> Result<SecretString, Slip> {
    let secret = pasted(line);
    if secret.is_empty() {
        return Err("is empty");
    }
    if secret.starts_with(char::is_whitespace) {
        return Err("begins with a blank");
    }
    if secret.ends_with(char::is_whitespace) {
        return Err("ends with a blank");
    }
    if secret.starts_with(is_invisible) || secret.ends_with(is_invisible) {
        return Err("begins or ends with an invisible character");
    }
    if let Some(slip) = wrapping(secret) {
        return Err(slip);
    }
    if !usable_secret(secret) {
        return Err("has a control character in it");
    }
    Ok(secret.into())
}

/// A line without its end, the marks of a paste and byte order marks, in whatever order they come.
fn pasted(line: &str) -> &str {
    let mut text = line;
    loop {
        let before = text.len();
        text = text.trim_end_matches(['\r', '\n']).trim_matches(BOM);
        for mark in PASTE {
            text = text.strip_prefix(mark).unwrap_or(text);
            text = text.strip_suffix(mark).unwrap_or(text);
        }
        if text.len() == before {
            return text;
        }
    }
}

/// Characters that a web page may have around a text, and that nobody sees.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{ad}' | BOM)
}

fn is_quote(c: char) -> bool {
    matches!(
        c,
        '"' | '\'' | '`' | '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}'
    )
}

/// What stands around a value in a file that it was copied from.
fn wrapping(text: &str) -> Option<Slip> {
    if text.starts_with(is_quote) || text.ends_with(is_quote) {
        return Some("begins or ends with a quotation mark");
    }
    is_assignment(text).then_some("is a whole NAME=VALUE line instead of the value")
}

/// Whether a text is a variable's or key's name, `=` and a value. The padding of base64 is no value.
fn is_assignment(text: &str) -> bool {
    let text = text.strip_prefix("export ").unwrap_or(text);
    let Some((name, value)) = text.split_once('=') else {
        return false;
    };
    let name = name.trim_end();
    let is_variable = name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let is_key = ["client_id", "client_secret", "id", "secret"]
        .iter()
        .any(|key| name.eq_ignore_ascii_case(key));
    (is_variable || is_key) && !value.trim_matches('=').is_empty()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const SECRET: &str = "5f3c0c9d8e7b6a59483726150f0e1d2c";

    fn secret(line: &str) -> Result<String, Slip> {
        client_secret(line).map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn line_end_byte_order_mark_and_paste_marks_are_removed() {
        for (before, after) in [
            ("", ""),
            ("", "\n"),
            ("", "\r\n"),
            ("\u{feff}", "\r\n"),
            ("\u{1b}[200~", "\u{1b}[201~\n"),
            ("\u{1b}[200~\u{feff}", "\n\u{1b}[201~\n"),
            ("\u{feff}\u{1b}[200~", "\u{1b}[201~"),
        ] {
            let line = format!("{before}{SECRET}{after}");
            assert_eq!(secret(&line).as_deref(), Ok(SECRET), "{line:?}");
            assert_eq!(client_id(&line).as_deref(), Ok(SECRET), "{line:?}");
        }
    }

    #[test]
    fn blanks_around_an_id_are_removed_and_around_a_secret_named() {
        for blank in [" ", "\t", "\u{a0}", "\u{3000}"] {
            let (first, last) = (format!("{blank}{SECRET}\n"), format!("{SECRET}{blank}\r\n"));
            assert_eq!(client_id(&first).as_deref(), Ok(SECRET), "{blank:?}");
            assert_eq!(client_id(&last).as_deref(), Ok(SECRET), "{blank:?}");
            assert_eq!(secret(&first), Err("begins with a blank"), "{blank:?}");
            assert_eq!(secret(&last), Err("ends with a blank"), "{blank:?}");
        }
        let invisible = format!("{SECRET}\u{200b}\n");
        assert_eq!(client_id(&invisible).as_deref(), Ok(SECRET));
        assert!(secret(&invisible).unwrap_err().contains("invisible"));
    }

    #[test]
    fn quotes_and_assignments_around_a_value_are_named() {
        for quoted in ["\"x\"", "'x'", "`x`", "\u{201c}x\u{201d}", "\"x"] {
            for found in [secret(quoted), client_id(quoted)] {
                assert!(found.unwrap_err().contains("quotation mark"), "{quoted}");
            }
        }
        for line in [
            "DOMO_CLIENT_SECRET=x",
            "export DOMO_CLIENT_SECRET=x",
            "client_secret = x",
            "SECRET=\u{201c}x",
            "Client_Id=x",
        ] {
            for found in [secret(line), client_id(line)] {
                assert!(found.unwrap_err().contains("NAME=VALUE"), "{line}");
            }
        }
    }

    #[test]
    fn secret_with_characters_of_base64_is_taken_as_it_is() {
        for text in [
            "c2VjcmV0=",
            "QUJD==",
            "ABC=",
            "a=b",
            "pass word",
            "a\u{e4}b",
        ] {
            assert_eq!(secret(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn nothing_and_control_characters_are_named() {
        for empty in ["", "\n", "\u{feff}\r\n", "\u{1b}[200~\u{1b}[201~\n"] {
            assert_eq!(secret(empty), Err("is empty"), "{empty:?}");
            assert!(client_id(empty).unwrap_err().starts_with("is empty"));
        }
        assert_eq!(secret("a\u{1b}[Ab\n"), Err("has a control character in it"));
        assert!(client_id("a b\n").unwrap_err().contains("one word"));
    }
}
