//! What was typed, pasted or piped as an id or a secret: what no paste means is removed, and any
//! other mistake is named, without the text itself.

use secrecy::SecretString;

use crate::config::{is_valid_secret, validate_id};
use crate::credentials::{InvisibleChar, PasteMistake};

/// What a terminal puts around pasted text, if a program has enabled that.
const PASTE: [&str; 2] = ["\u{1b}[200~", "\u{1b}[201~"];

/// A byte order mark, which Windows puts before text.
const BOM: char = '\u{feff}';

/// Returns the client id in a line, without blanks around it, or why it cannot be one: the end of a
/// sentence that begins with its name.
pub(super) fn client_id(line: &str) -> Result<String, String> {
    let id =
        pasted(line).trim_matches(|c: char| c.is_whitespace() || InvisibleChar::of(c).is_some());
    match validate_id(id) {
        Some(_) if id.is_empty() => Err("is empty".to_owned()),
        Some(fault) => Err(fault.to_owned()),
        None => Ok(id.to_owned()),
    }
}

/// Returns the client secret in a line, or why it cannot be one. Blanks around it are no part of a
/// secret of Domo's, but may be one of another server's: they are named, not removed.
pub(super) fn client_secret(line: &str) -> Result<SecretString, String> {
    let secret = pasted(line);
    if secret.is_empty() {
        return Err("is empty".to_owned());
    }
    // A passphrase may have blanks, and the test shows whether it is the secret.
    let mistake = PasteMistake::of(secret)
        .filter(|mistake| *mistake != PasteMistake::Has(InvisibleChar::Blank));
    if let Some(mistake) = mistake {
        return Err(mistake.to_string());
    }
    if !is_valid_secret(secret) {
        return Err("contains a control character".to_owned());
    }
    Ok(secret.into())
}

/// Returns a line without its end, the marks of a paste and byte order marks, in any order.
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

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const SECRET: &str = "5f3c0c9d8e7b6a59483726150f0e1d2c";

    fn secret(line: &str) -> Result<String, String> {
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
    fn blanks_are_removed_around_an_id_and_reported_around_a_secret() {
        for blank in [" ", "\t", "\u{a0}", "\u{3000}"] {
            let (first, last) = (format!("{blank}{SECRET}\n"), format!("{SECRET}{blank}\r\n"));
            assert_eq!(client_id(&first).as_deref(), Ok(SECRET), "{blank:?}");
            assert_eq!(client_id(&last).as_deref(), Ok(SECRET), "{blank:?}");
            for (line, end) in [(first, "begins with "), (last, "ends with ")] {
                let mistake = secret(&line).unwrap_err();
                let is_named = mistake.starts_with(end) || mistake.starts_with("has a control");
                assert!(is_named, "{blank:?}: {mistake}");
            }
        }
        let invisible = format!("{SECRET}\u{200b}\n");
        assert_eq!(client_id(&invisible).as_deref(), Ok(SECRET));
        assert!(secret(&invisible).unwrap_err().contains("zero-width"));
    }

    #[test]
    fn quotes_and_assignments_around_a_value_are_reported() {
        for quoted in ["\"x\"", "'x'", "`x`", "\u{201c}x\u{201d}"] {
            for found in [secret(quoted), client_id(quoted)] {
                assert!(found.unwrap_err().contains("quotes"), "{quoted}");
            }
        }
        assert!(secret("\"x").unwrap_err().contains("quotation mark"));
        for line in [
            "DOMO_CLIENT_SECRET=x",
            "export DOMO_CLIENT_SECRET=x",
            "client_secret = x",
        ] {
            let mistake = secret(line).unwrap_err();
            assert!(mistake.contains("begins with"), "{line}: {mistake}");
        }
        for line in ["DOMO_CLIENT_ID=x", "Client_Id=x"] {
            let mistake = client_id(line).unwrap_err();
            assert!(mistake.contains("name of a variable"), "{line}: {mistake}");
        }
    }

    #[test]
    fn secret_with_characters_of_base64_is_unchanged() {
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
    fn empty_input_and_control_characters_are_errors() {
        for empty in ["", "\n", "\u{feff}\r\n", "\u{1b}[200~\u{1b}[201~\n"] {
            assert_eq!(secret(empty), Err("is empty".to_owned()), "{empty:?}");
            assert_eq!(client_id(empty), Err("is empty".to_owned()), "{empty:?}");
        }
        let escape = secret("a\u{1b}[Ab\n").unwrap_err();
        assert!(escape.contains("control character"), "{escape}");
        assert!(client_id("a b\n").unwrap_err().contains("without a space"));
    }
}
