//! The forms of error bodies: OAuth's, Domo's, and those of gateways.

use hyper::header::HeaderMap;

use super::headers::challenge_error;
use super::json::{self, End, Loose, Members, TEXTS};
use super::responder_name::Responder;
use domo_token_core::fetch_result::Cause;

/// The most messages of a body that are shown.
const MAX_TEXTS: usize = 6;

/// The error in a response.
#[derive(Default)]
pub(super) struct ErrorBody {
    members: Members,
    /// The error in `WWW-Authenticate`.
    challenge: Option<String>,
    /// Its messages.
    texts: Vec<String>,
}

impl ErrorBody {
    /// Parses a body; of an incomplete one the complete members.
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let mut found = match json::read(body) {
            (members, End::Complete | End::Trailing | End::Early)
                if members.repeated(&["error", "status", "message"]).is_none() =>
            {
                Self {
                    texts: texts_of(&members),
                    members,
                    challenge: None,
                }
            }
            _ => Self::default(),
        };
        let (challenge, description) = challenge_error(headers);
        if found.texts.is_empty() {
            found.texts.extend(challenge.clone());
            found.texts.extend(description);
        }
        found.challenge = challenge;
        found
    }

    /// Returns OAuth's error code.
    pub(super) fn oauth_code(&self) -> Option<&str> {
        let code = self.members.get("error").text();
        code.filter(|code| is_oauth_code(code))
    }

    fn has_domos_form(&self) -> bool {
        // A framework's error has another kind of "error" besides them.
        let status = self.members.get("status");
        let is_status = status.is_number()
            || status
                .text()
                .is_some_and(|text| text.parse::<u16>().is_ok());
        is_status
            && self.members.get("message").text().is_some()
            && matches!(self.members.get("error"), Loose::Absent | Loose::Null)
    }

    /// Returns whether the body is an error of a token endpoint: OAuth's or Domo's.
    pub(super) fn is_rejection(&self) -> bool {
        self.oauth_code().is_some() || self.has_domos_form()
    }

    /// Returns whether the response has the form of one of Domo.
    pub(super) fn is_domos(&self) -> bool {
        self.is_rejection() || self.challenge.as_deref().is_some_and(is_oauth_code)
    }

    /// Returns the cause if the error is a temporary one.
    pub(super) fn asks_to_retry(&self) -> Option<Cause> {
        let error = self.members.get("error");
        let code = if let Loose::Object(error) = error {
            error.get("code").text()
        } else {
            error.text()
        };
        let code = code.or(self.members.get("code").text())?;
        let code = code.to_ascii_lowercase().replace([' ', '-'], "_");
        match code.as_str() {
            "slow_down" | "too_many_requests" => Some(Cause::RateLimited),
            _ if code.starts_with("rate_limit") => Some(Cause::RateLimited),
            "temporarily_unavailable" | "server_error" => Some(Cause::Server),
            _ => None,
        }
    }

    /// Returns the messages as one line, with the trace id for Domo's support.
    pub(super) fn text(&self, responder: &Responder<'_>) -> String {
        let mut text = responder.clean(&self.texts.join(": "));
        let toe = self.members.get("toe").text();
        if let Some(toe) = toe.filter(|toe| !toe.is_empty()) {
            let toe = responder.name(toe);
            text = format!("{text} (toe {toe})");
        }
        text
    }
}

fn is_oauth_code(code: &str) -> bool {
    !code.is_empty()
        && code
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Returns the messages of an object, and of the objects and lists in it.
fn texts_of(members: &Members) -> Vec<String> {
    let mut found = Vec::new();
    for name in TEXTS {
        add_texts(members.get(name), &mut found);
    }
    found
}

fn add_texts(value: &Loose, found: &mut Vec<String>) {
    if found.len() >= MAX_TEXTS {
        return;
    }
    match value {
        Loose::Text(text) => {
            if !text.trim().is_empty() && !found.contains(text) {
                found.push(text.clone());
            }
        }
        Loose::List(items) => {
            for item in items {
                add_texts(item, found);
            }
        }
        Loose::Object(members) => {
            for name in TEXTS {
                add_texts(members.get(name), found);
            }
        }
        Loose::Absent | Loose::Null | Loose::Bool | Loose::Number(_) | Loose::Deep => {}
    }
}
