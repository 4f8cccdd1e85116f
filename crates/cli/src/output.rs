//! Formats tokens and explanations.

use std::iter::repeat_n;
use std::path::Path;
use std::time::SystemTime;

use domo_token_client::Token;
use domo_token_client::clock::since_1970;
use domo_token_protocol::messages::Explanation;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::args::{Format, Get};

/// Characters that PowerShell reads as a single quote.
const POWERSHELL_QUOTES: [char; 5] = ['\'', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}'];

/// Returns a token in the requested format.
pub(crate) fn token(token: &Token, get: &Get) -> Zeroizing<String> {
    let end = if get.newline { "\n" } else { "" };
    in_form(token.secret(), get.format, end, || {
        json!({
            "access_token": token.secret(),
            "token_type": token.token_type(),
            "expires_at": epoch(token.expires_at()),
            "expires_in": token.expires_in().as_secs(),
            "scope": token.scope(),
            "client": token.client(),
            "generation": token.generation(),
            "broker": token.broker().display().to_string(),
        })
    })
}

/// Quotes the secret, so that a shell reads exactly this text.
fn in_form(
    secret: &str,
    format: Format,
    end: &str,
    fields: impl FnOnce() -> Value,
) -> Zeroizing<String> {
    Zeroizing::new(match format {
        Format::Token => format!("{secret}{end}"),
        Format::Header => format!("Authorization: Bearer {secret}{end}"),
        Format::Curl => {
            let quoted = Zeroizing::new(secret.replace('\\', r"\\").replace('"', r#"\""#));
            format!("header = \"Authorization: Bearer {}\"{end}", *quoted)
        }
        Format::Json => format!("{}{end}", fields()),
        Format::Env => format!("DOMO_ACCESS_TOKEN={secret}{end}"),
        Format::Export => {
            let quoted = Zeroizing::new(secret.replace('\'', r"'\''"));
            format!("export DOMO_ACCESS_TOKEN='{}'{end}", *quoted)
        }
        Format::PowerShell => {
            let times = |c| 1 + usize::from(POWERSHELL_QUOTES.contains(&c));
            let quoted = secret.chars().flat_map(|c| repeat_n(c, times(c)));
            let quoted = Zeroizing::new(quoted.collect::<String>());
            format!("$env:DOMO_ACCESS_TOKEN = '{}'{end}", *quoted)
        }
        Format::Fish => {
            let quoted = Zeroizing::new(secret.replace('\\', r"\\").replace('\'', r"\'"));
            format!("set -gx DOMO_ACCESS_TOKEN '{}'{end}", *quoted)
        }
    })
}

/// Returns what the broker at `socket` decides for this process.
pub(crate) fn explanation(explanation: &Explanation, socket: &Path) -> String {
    let decision = if explanation.refused.is_none() {
        "allowed"
    } else {
        "denied"
    };
    let client = explanation.client.as_deref().unwrap_or("none");
    format!(
        "broker: {}\npeer: {}\nclient: {client}\nscope set: {}\ndecision: {decision}\nrule: {}\n",
        socket.display(),
        explanation.peer,
        explanation.scope,
        explanation.rule
    )
}

/// Returns the same as one line of JSON. New versions only add fields.
pub(crate) fn explanation_json(explanation: &Explanation, socket: &Path) -> String {
    let mut fields = json!({
        "broker": socket.display().to_string(),
        "peer": explanation.peer,
        "client": explanation.client,
        "scope": explanation.scope,
        "allowed": explanation.refused.is_none(),
        "rule": explanation.rule,
    });
    if let (Some(kind), Some(fields)) = (explanation.refused, fields.as_object_mut()) {
        fields.insert("kind".to_owned(), kind.name().into());
    }
    format!("{fields}\n")
}

/// Returns the seconds since 1970.
pub(crate) fn epoch(at: SystemTime) -> u64 {
    since_1970(at).as_secs()
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::process::Command;

    use super::*;

    /// Characters that have a special meaning in a shell.
    const SPECIAL_CHARACTERS: &str = "a'b\"c\\d$HOME`id`$(id) e\nf!g%h\\'i;j&k|l*~\\\\'\u{2019}";

    fn not_tried(shell: &str) {
        println!("SKIPPED {shell}: it is not installed");
    }

    /// Returns the variable's value after a shell has read the token in that format.
    fn read_by(shell: &str, format: Format, text: &str, end: &str) -> Option<String> {
        let script = in_form(text, format, end, || Value::Null);
        let script = format!("{}\nprintf %s \"$DOMO_ACCESS_TOKEN\"", *script);
        let output = Command::new(shell).args(["-c", &script]).output();
        match output {
            Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                not_tried(shell);
                None
            }
            Err(error) => panic!("{shell}: {error}"),
        }
    }

    #[test]
    fn token_with_special_characters_is_read_back_by_shells() {
        for (shell, format) in [
            ("sh", Format::Export),
            ("dash", Format::Export),
            ("bash", Format::Export),
            ("zsh", Format::Export),
            ("fish", Format::Fish),
        ] {
            for text in [
                "eyJhbGciOi.a-b_c~d+e/f==",
                SPECIAL_CHARACTERS,
                "",
                "'",
                "\\",
            ] {
                let found = read_by(shell, format, text, "\n");
                assert!(found.is_none_or(|found| found == text), "{shell}: {text:?}");
            }
        }
    }

    #[test]
    fn powershell_form_doubles_every_single_quote() {
        let form = |text| in_form(text, Format::PowerShell, "", || Value::Null);
        assert_eq!(*form("abc"), "$env:DOMO_ACCESS_TOKEN = 'abc'");
        let expected = "$env:DOMO_ACCESS_TOKEN = 'a''b\u{2019}\u{2019}$c\\`d'";
        assert_eq!(*form("a'b\u{2019}$c\\`d"), expected);
        let Some(found) = Command::new("pwsh")
            .args(["-NoProfile", "-Command"])
            .arg(format!(
                "{}; Write-Output $env:DOMO_ACCESS_TOKEN",
                *form("a'b$c")
            ))
            .output()
            .ok()
        else {
            not_tried("pwsh");
            return;
        };
        assert_eq!(String::from_utf8(found.stdout).unwrap().trim(), "a'b$c");
    }
}
