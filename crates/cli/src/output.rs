//! What is printed: tokens and explanations.

use std::iter::repeat_n;
use std::path::Path;
use std::time::SystemTime;

use domo_token_client::clock::since_1970;
use domo_token_client::{ErrorKind, Explanation, Token};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::args::{Format, Get};

/// Characters that PowerShell reads as a single quote.
const POWERSHELL_QUOTES: [char; 5] = ['\'', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}'];

/// A token in the form that is asked for.
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

/// Quoted such that the shell reads just this text, whatever it is.
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

/// What the broker at `socket` decides for this process.
pub(crate) fn explanation(explanation: &Explanation, socket: &Path) -> String {
    let verdict = if explanation.denied.is_none() {
        "may have"
    } else {
        "may not have"
    };
    let client = explanation.client.as_deref().unwrap_or("none named");
    format!(
        "broker: {}\nseen as: {}\nclient: {client}\nscope set: {}\ndecision: {verdict} this token\nrule: {}\n",
        socket.display(),
        explanation.peer,
        explanation.scope,
        explanation.rule
    )
}

/// The same as one JSON object on a line. Fields are only ever added.
pub(crate) fn explanation_json(explanation: &Explanation, socket: &Path) -> String {
    let mut fields = json!({
        "broker": socket.display().to_string(),
        "peer": explanation.peer,
        "client": explanation.client,
        "scope": explanation.scope,
        "allowed": explanation.denied.is_none(),
        "rule": explanation.rule,
    });
    if let (Some(kind), Some(fields)) = (explanation.denied, fields.as_object_mut()) {
        fields.insert("kind".to_owned(), denial_name(kind).into());
    }
    format!("{fields}\n")
}

/// The name of a denial in JSON, as in the daemon's metrics and audit lines.
fn denial_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotPermitted => "not_permitted",
        ErrorKind::UnknownClient => "unknown_client",
        ErrorKind::UnknownScope => "unknown_scope",
        ErrorKind::MinTtlTooLong => "min_ttl_too_long",
        ErrorKind::Rejected => "denied",
        ErrorKind::Gone => "gone",
        ErrorKind::Busy => "busy",
        ErrorKind::Unavailable | _ => "unavailable",
    }
}

/// Seconds since 1970.
pub(crate) fn epoch(at: SystemTime) -> u64 {
    since_1970(at).as_secs()
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::process::Command;

    use super::*;
    use domo_token_protocol::messages::RefusalKind;

    #[test]
    fn denials_have_the_same_names_as_in_metrics_and_audit_lines() {
        for (kind, refusal) in [
            (ErrorKind::NotPermitted, RefusalKind::NotPermitted),
            (ErrorKind::UnknownClient, RefusalKind::UnknownClient),
            (ErrorKind::UnknownScope, RefusalKind::UnknownScope),
            (ErrorKind::MinTtlTooLong, RefusalKind::MinTtlTooLong),
            (ErrorKind::Rejected, RefusalKind::Denied),
            (ErrorKind::Gone, RefusalKind::Gone),
            (ErrorKind::Unavailable, RefusalKind::Unavailable),
            (ErrorKind::Busy, RefusalKind::Busy),
        ] {
            assert_eq!(denial_name(kind), refusal.name());
        }
    }

    /// What a shell could read as something else.
    const SPECIAL_CHARACTERS: &str = "a'b\"c\\d$HOME`id`$(id) e\nf!g%h\\'i;j&k|l*~\\\\'\u{2019}";

    fn not_tried(shell: &str) {
        println!("no {shell} here: its form was not tried");
    }

    /// What a shell holds in the variable once it has read the token in that form.
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
