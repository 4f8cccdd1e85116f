//! Reads the token of a 200, or explains what is wrong with the response.

use domo_token_protocol::messages::is_b64token;
use domo_token_protocol::scope::ScopeSet;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use secrecy::{ExposeSecret, SecretString};

use super::super::MAX_BODY;
use super::content_encoding::{self, Decoded};
use super::error_body::ErrorBody;
use super::headers::{age, ends_with_connection, media_type, server_time, text_of};
use super::json::{self, End, Loose, Members};
use super::responder_name::Responder;
use super::{Answer, lifetime};
use domo_token_core::fetch_result::{Cause, FetchError, Fetched, LifetimeSource};
use domo_token_core::token::MAX_TOKEN;

/// The members that must not be repeated.
const READ: [&str; 4] = ["access_token", "expires_in", "scope", "token_type"];

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns the token of a 200. Only the token is needed; the SDKs disagree on the rest and its types.
pub(super) fn read(
    answer: &Answer,
    requested: &ScopeSet,
    responder: &Responder<'_>,
) -> Result<Fetched, FetchError> {
    let unusable = |problem: String| {
        let message = format!("{} without a usable token: {problem}", responder.anyone());
        FetchError::transient(Cause::Unusable, message)
    };
    check_type(&answer.headers, responder).map_err(unusable)?;
    let cut = answer.cut.as_ref();
    if let Some(cut) = cut.filter(|cut| !may_be_whole(&answer.headers, cut)) {
        return Err(cut.clone());
    }
    let decoded = content_encoding::decode(&answer.headers, &answer.body);
    check_coding(&decoded, responder)?;
    let (mut members, end) = json::read(decoded.bytes());
    if let Some(cut) = cut.filter(|_| end != End::Complete) {
        return Err(cut.clone());
    }
    let text = members.take("access_token");
    if matches!(text, Loose::Absent) && end == End::Complete {
        return Err(without_token(answer, decoded.bytes(), responder));
    }
    check_json(decoded.bytes(), end, &members, responder).map_err(unusable)?;
    let text = access_token(text).map_err(unusable)?;
    check_kind(members.get("token_type"), responder).map_err(unusable)?;
    let granted = granted(members.get("scope"), requested).ok_or_else(|| {
        unusable(format!(
            "its scope is {}, not a list of scopes",
            shown(members.get("scope"), responder)
        ))
    })?;
    let expires_in = members.get("expires_in");
    let (lifetime, source) = lifetime::stated(expires_in).ok_or_else(|| {
        let shown = shown(expires_in, responder);
        unusable(format!(
            "its expires_in is {shown}, not a positive whole number of seconds"
        ))
    })?;
    let missing = requested.missing_from(&granted);
    if !missing.is_empty() {
        let missing = missing.join(" ");
        return Err(FetchError::Denied {
            scope_only: true,
            in_domos_form: true,
            message: format!(
                "Domo granted a token without the scope \"{missing}\"; create an API client with that \
                 scope, or correct tokens in the config"
            ),
        });
    }
    let fetched = Fetched {
        text,
        lifetime,
        expires: None,
        renew_at: None,
        origin: domo_token_core::fetch_result::TokenOrigin::Domo,
        lifetime_source: source,
        granted,
    };
    by_own_expiry(fetched, answer).map_err(unusable)
}

/// Returns the token with the lifetime that its own `exp` leaves it, if that is shorter.
fn by_own_expiry(fetched: Fetched, answer: &Answer) -> Result<Fetched, String> {
    let server_time = server_time(&answer.headers);
    let now = server_time.unwrap_or(answer.received);
    let text = fetched.text.expose_secret();
    let Some(left) = lifetime::left_by_itself(text, now, fetched.lifetime) else {
        return Ok(fetched);
    };
    if server_time.is_none() {
        // The clock here may be wrong, so it changes nothing.
        let lifetime_source = if fetched.lifetime_source == LifetimeSource::Stated {
            LifetimeSource::Unchecked
        } else {
            fetched.lifetime_source
        };
        return Ok(Fetched {
            lifetime_source,
            ..fetched
        });
    }
    if left.as_secs() == 0 {
        let hint = match age(&answer.headers) {
            Some(_) => "the response is from a cache (it has an Age header)",
            None => "the response may be from a cache",
        };
        return Err(format!("the token has expired by its exp claim; {hint}"));
    }
    let mut stated = fetched.lifetime;
    if let LifetimeSource::Capped { stated: uncapped } = fetched.lifetime_source {
        stated = uncapped;
    }
    Ok(Fetched {
        lifetime: left,
        lifetime_source: LifetimeSource::OwnExpiry { stated },
        ..fetched
    })
}

/// Returns whether a body that ended with its connection may be complete although TLS's own end is missing.
fn may_be_whole(headers: &HeaderMap, cut: &FetchError) -> bool {
    let is_closed = matches!(
        cut,
        FetchError::Transient {
            cause: Cause::Connect | Cause::Tls,
            ..
        }
    );
    is_closed && ends_with_connection(headers)
}

/// Checks that `Content-Type` is JSON (RFC 6749 §5.1) or absent.
fn check_type(headers: &HeaderMap, responder: &Responder<'_>) -> Result<(), String> {
    let Some(named) = text_of(headers, &CONTENT_TYPE) else {
        return Ok(());
    };
    // A proxy may have joined two headers, or left one empty.
    let kinds = named.split(',').map(media_type);
    let kinds: Vec<String> = kinds.filter(|kind| !kind.is_empty()).collect();
    let is_json = |kind: &String| {
        ["application/json", "text/json"].contains(&kind.as_str()) || kind.ends_with("+json")
    };
    if kinds.iter().all(is_json) {
        return Ok(());
    }
    if kinds.iter().any(|kind| kind.contains("html")) {
        return Err(responder.web_page());
    }
    let named = responder.name(named);
    Err(format!(
        "its Content-Type is \"{named}\", not application/json"
    ))
}

/// Checks that the body was decoded in full.
fn check_coding(decoded: &Decoded<'_>, responder: &Responder<'_>) -> Result<(), FetchError> {
    let server_name = responder.server_name;
    let (cause, message) = match &decoded.end {
        content_encoding::End::Whole => return Ok(()),
        content_encoding::End::Cut => (
            Cause::Connect,
            format!("the compressed response of {server_name} is truncated"),
        ),
        content_encoding::End::TooLong => (
            Cause::Unusable,
            format!("the decoded response of {server_name} exceeds {MAX_BODY} bytes"),
        ),
        content_encoding::End::Corrupt => (
            Cause::Unusable,
            format!(
                "cannot decode the response of {server_name}: its body does not match its \
                 Content-Encoding"
            ),
        ),
        content_encoding::End::Unsupported(name) => {
            let name = responder.name(name);
            let message = format!(
                "cannot decode the response of {server_name}: Content-Encoding \"{name}\" is not \
                 supported, only gzip and deflate"
            );
            (Cause::Unusable, message)
        }
    };
    Err(FetchError::transient(cause, message))
}

/// Checks that the body is one JSON object with each member that is read once.
fn check_json(
    body: &[u8],
    end: End,
    members: &Members,
    sender: &Responder<'_>,
) -> Result<(), String> {
    if let Some(name) = members.repeated(&READ).filter(|_| end == End::Complete) {
        return Err(format!("the JSON has \"{name}\" twice"));
    }
    let problem = match end {
        End::Complete => return Ok(()),
        End::Early => "the JSON is truncated",
        End::Trailing if body.contains(&0) => "a NUL byte follows the JSON",
        End::Trailing => "text follows the JSON",
        End::Invalid => return Err(not_json(body, sender)),
    };
    Err(problem.to_owned())
}

/// Returns the problem of a body that is no JSON object.
fn not_json(body: &[u8], responder: &Responder<'_>) -> String {
    let is_wide = match body.first_chunk() {
        Some([0xff, 0xfe] | [0xfe, 0xff] | [0, _] | [_, 0]) => true,
        Some(_) | None => false,
    };
    let problem = if body.trim_ascii().is_empty() {
        "the body is empty"
    } else if body.starts_with(BYTE_ORDER_MARK) {
        "a byte order mark (BOM) precedes the JSON"
    } else if is_wide {
        "the body is UTF-16 or UTF-32, but JSON must be UTF-8"
    } else if body.contains(&0) {
        "the JSON contains a NUL byte"
    } else if str::from_utf8(body).is_err() {
        "the body is not UTF-8"
    } else if body.trim_ascii_start().starts_with(b"<") {
        return responder.web_page();
    } else if body.trim_ascii_start().starts_with(b"{") {
        "the body is not valid JSON"
    } else {
        "the body is not a JSON object"
    };
    problem.to_owned()
}

/// Returns the error of a complete JSON object without `access_token`: perhaps an error with the wrong status.
fn without_token(answer: &Answer, body: &[u8], responder: &Responder<'_>) -> FetchError {
    let error = ErrorBody::read(&answer.headers, body);
    let who = if error.is_domos() {
        responder.domo()
    } else {
        responder.anyone()
    };
    let text = error.text(responder);
    let message = if text.is_empty() {
        let check = responder.check_url();
        format!("{who} without a token: the JSON has no access_token; {check}")
    } else {
        format!("{who} without a token: {text}")
    };
    let cause = error.asks_to_retry().unwrap_or(Cause::Unusable);
    FetchError::transient(cause, message)
}

/// Returns the token, if it is one (RFC 6750 §2.1).
fn access_token(value: Loose) -> Result<SecretString, String> {
    let kind = value.kind();
    let Loose::Text(text) = value else {
        return Err(format!("its access_token is {kind}"));
    };
    let text = SecretString::from(text);
    let most = MAX_TOKEN / 1024;
    if text.expose_secret().is_empty() {
        Err("its access_token is empty".to_owned())
    } else if text.expose_secret().len() > MAX_TOKEN {
        Err(format!("its access_token exceeds {most} KiB"))
    } else if is_b64token(text.expose_secret()) {
        Ok(text)
    } else {
        Err("its access_token contains invalid characters".to_owned())
    }
}

fn check_kind(token_type: &Loose, responder: &Responder<'_>) -> Result<(), String> {
    let kind = token_type.text();
    if matches!(token_type, Loose::Absent | Loose::Null)
        || kind.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"))
    {
        return Ok(());
    }
    let shown = shown(token_type, responder);
    Err(format!("its token_type is {shown}, not \"bearer\""))
}

/// Returns the granted scopes: by default the requested ones (RFC 6749 §5.1).
fn granted(scope: &Loose, requested: &ScopeSet) -> Option<ScopeSet> {
    match scope {
        Loose::Absent | Loose::Null => Some(requested.clone()),
        Loose::Text(text) if text.is_empty() => Some(requested.clone()),
        Loose::Text(text) => ScopeSet::parse(text).ok(),
        Loose::List(items) => {
            let items: Option<Vec<&str>> = items.iter().map(Loose::text).collect();
            ScopeSet::parse(&items?.join(" ")).ok()
        }
        Loose::Bool | Loose::Number(_) | Loose::Object(_) | Loose::Deep => None,
    }
}

/// Returns a member's value for a message.
fn shown(value: &Loose, responder: &Responder<'_>) -> String {
    if let Loose::Number(number) = value {
        return number.to_string();
    }
    value.text().map_or_else(
        || value.kind().to_owned(),
        |text| format!("the string \"{}\"", responder.name(text)),
    )
}
