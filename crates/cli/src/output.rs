//! Formats tokens and explanations.

use std::iter::repeat_n;
use std::path::Path;
use std::time::SystemTime;

use domo_token_client::clock::since_1970;
use domo_token_client::{ErrorKind, Explanation, Token};
use domo_token_protocol::json;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::args::{Format, Get};

/// Characters that PowerShell reads as a single quote.
const POWERSHELL_QUOTES: [char; 5] = ['\'', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}'];

/// Returns a token in the requested format.
pub(crate) fn token(token: &Token, get: &Get) -> Zeroizing<String> {
    let end = if get.newline { "\n" } else { "" };
    in_form(token.secret(), get.format, end, || {
        to_json(&json::Token {
            access_token: token.secret(),
            broker: &token.broker().to_string_lossy(),
            client: token.client(),
            expires_at: epoch(token.expires_at()),
            expires_in: token.expires_in().as_secs(),
            generation: token.generation(),
            scope: token.scope(),
            token_type: token.token_type(),
        })
    })
}

/// Quotes the secret, so that a shell reads exactly this text.
fn in_form(
    secret: &str,
    format: Format,
    end: &str,
    json: impl FnOnce() -> Zeroizing<String>,
) -> Zeroizing<String> {
    Zeroizing::new(match format {
        Format::Token => format!("{secret}{end}"),
        Format::Header => format!("Authorization: Bearer {secret}{end}"),
        Format::Curl => {
            let quoted = Zeroizing::new(secret.replace('\\', r"\\").replace('"', r#"\""#));
            format!("header = \"Authorization: Bearer {}\"{end}", *quoted)
        }
        Format::Json => format!("{}{end}", *json()),
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
    let decision = decision(explanation);
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
    let denied = explanation.denied;
    let text = to_json(&json::Explanation {
        allowed: denied.is_none(),
        broker: &socket.to_string_lossy(),
        client: explanation.client.as_deref(),
        decision: decision(explanation),
        kind: denied.map(denial_name),
        peer: &explanation.peer,
        rule: &explanation.rule,
        scope: &explanation.scope,
        seen_as: &explanation.peer,
    });
    format!("{}\n", *text)
}

fn decision(explanation: &Explanation) -> &'static str {
    if explanation.denied.is_none() {
        "allowed"
    } else {
        "denied"
    }
}

/// Returns the JSON text of a value whose fields can all be serialized.
pub(crate) fn to_json(value: &impl Serialize) -> Zeroizing<String> {
    Zeroizing::new(serde_json::to_string(value).unwrap_or_default())
}

/// Returns the name of a denial in JSON, as in the daemon's metrics and audit lines.
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

/// Returns the seconds since 1970.
pub(crate) fn epoch(at: SystemTime) -> u64 {
    since_1970(at).as_secs()
}

#[cfg(test)]
mod tests {
    use std::io;
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

    /// Characters that have a special meaning in a shell.
    const SPECIAL_CHARACTERS: &str = "a'b\"c\\d$HOME`id`$(id) e\nf!g%h\\'i;j&k|l*~\\\\'\u{2019}";

    fn not_tried(shell: &str) {
        println!("SKIPPED {shell}: it is not installed");
    }

    /// Returns the variable's value after a shell has read the token in that format.
    fn read_by(shell: &str, format: Format, text: &str, end: &str) -> Option<String> {
        let script = in_form(text, format, end, Zeroizing::default);
        let script = format!("{}\nprintf %s \"$DOMO_ACCESS_TOKEN\"", *script);
        let output = Command::new(shell).args(["-c", &script]).output();
        match output {
            Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
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
        let form = |text| in_form(text, Format::PowerShell, "", Zeroizing::default);
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
