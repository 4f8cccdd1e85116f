//! What is printed: tokens and explanations.

use std::path::Path;
use std::time::SystemTime;

use domo_token_client::Token;
use domo_token_client::clock::since_1970;
use domo_token_client::wire::Explanation;
use serde_json::json;
use zeroize::Zeroizing;

use crate::args::Format;

/// The line that carries a token, with its newline.
pub(crate) fn token(token: &Token, format: Format) -> Zeroizing<String> {
    let secret = token.secret();
    Zeroizing::new(match format {
        Format::Token => format!("{secret}\n"),
        Format::Header => format!("Authorization: Bearer {secret}\n"),
        Format::Curl => {
            let quoted = secret.replace('\\', "\\\\").replace('"', "\\\"");
            format!("header = \"Authorization: Bearer {quoted}\"\n")
        }
        Format::Env => format!("DOMO_ACCESS_TOKEN={secret}\n"),
        Format::Json => {
            let fields = json!({
                "access_token": secret,
                "token_type": token.token_type(),
                "expires_at": epoch(token.expires_at()),
                "expires_in": token.expires_in().as_secs(),
                "scope": token.scope(),
                "client": token.client(),
                "generation": token.generation(),
                "broker": token.broker().display().to_string(),
            });
            format!("{fields}\n")
        }
    })
}

/// What the broker at `socket` decides for this process.
pub(crate) fn explanation(given: &Explanation, socket: &Path) -> String {
    let verdict = if given.refused.is_none() {
        "may have"
    } else {
        "may not have"
    };
    let client = given.client.as_deref().unwrap_or("none named");
    format!(
        "broker: {}\nseen as: {}\nclient: {client}\nscope set: {}\ndecision: {verdict} this token\nrule: {}\n",
        socket.display(),
        given.peer,
        given.scope,
        given.rule
    )
}

/// Seconds since 1970.
pub(crate) fn epoch(at: SystemTime) -> u64 {
    since_1970(at).as_secs()
}
