//! The CONNECT request for a tunnel through an HTTP proxy, and the head of the response.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::credentials::ProxyLogin;

/// The longest head of a response to CONNECT, in bytes.
pub(in crate::connect) const MAX_HEAD: usize = 64 * 1024;

/// Returns the request for a tunnel to `authority`, a host with its port. The login is sent unchanged.
pub(super) fn request(authority: &str, login: Option<&ProxyLogin>) -> Zeroizing<Vec<u8>> {
    let mut request = Zeroizing::new(Vec::with_capacity(1024));
    let agent = crate::connect::USER_AGENT;
    let head = format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {agent}\r\nProxy-Connection: Keep-Alive\r\n"
    );
    request.extend_from_slice(head.as_bytes());
    if let Some(login) = login {
        let password = login.password.expose_secret();
        let plain = Zeroizing::new(format!("{}:{password}", login.user));
        let encoded = Zeroizing::new(STANDARD.encode(plain.as_bytes()));
        request.extend_from_slice(b"Proxy-Authorization: Basic ");
        request.extend_from_slice(encoded.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

/// The head of a response to CONNECT.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) reason: String,
    /// Without lines that are no headers.
    pub(super) headers: HeaderMap,
    /// Its length in bytes.
    pub(super) length: usize,
}

/// What the bytes received so far are.
#[derive(Debug)]
pub(super) enum Progress {
    /// The head is not complete.
    More,
    Head(Head),
    /// Not the beginning of an HTTP response.
    NotHttp,
    TooLong,
}

/// Parses the head of a response to CONNECT. Lines may end with LF alone; interim responses (1xx) are skipped.
pub(super) fn read(received: &[u8]) -> Progress {
    let mut skipped = 0;
    loop {
        let rest = received.get(skipped..).unwrap_or_default();
        match read_one(rest) {
            Progress::Head(head) if (100..200).contains(&head.status) => skipped += head.length,
            Progress::Head(head) => {
                let length = skipped + head.length;
                return Progress::Head(Head { length, ..head });
            }
            Progress::More if received.len() >= MAX_HEAD => return Progress::TooLong,
            other @ (Progress::More | Progress::NotHttp | Progress::TooLong) => return other,
        }
    }
}

fn read_one(received: &[u8]) -> Progress {
    const BEGINS: &[u8] = b"HTTP/1.";
    let compared = received.len().min(BEGINS.len());
    if received.get(..compared) != BEGINS.get(..compared) {
        return Progress::NotHttp;
    }
    let mut lines = Vec::new();
    let mut length = 0;
    for line in received.split_inclusive(|byte| *byte == b'\n') {
        let Some(content) = line.strip_suffix(b"\n") else {
            return Progress::More;
        };
        length += line.len();
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        if content.is_empty() {
            return head(&lines, length).map_or(Progress::NotHttp, Progress::Head);
        }
        lines.push(content);
    }
    Progress::More
}

fn head(lines: &[&[u8]], length: usize) -> Option<Head> {
    let (first, rest) = lines.split_first()?;
    let first = String::from_utf8_lossy(first);
    let (_, after) = first.split_once(' ')?;
    let after = after.trim_start();
    let (status, reason) = after.split_once(' ').unwrap_or((after, ""));
    let status = status.trim().parse().ok()?;
    let headers = rest.iter().filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        let name = HeaderName::from_bytes(name.trim_ascii_end()).ok()?;
        let value = value.get(1..)?.trim_ascii();
        Some((name, HeaderValue::from_bytes(value).ok()?))
    });
    let mut kept = HeaderMap::new();
    for (name, value) in headers {
        kept.try_append(name, value).ok()?;
    }
    Some(Head {
        status,
        reason: reason.trim().to_owned(),
        headers: kept,
        length,
    })
}

impl Head {
    /// Returns the authentication schemes of the proxy, if Basic is not one of them.
    pub(super) fn unsupported_schemes(&self) -> Option<String> {
        let offers = self.headers.get_all(PROXY_AUTHENTICATE).iter();
        let schemes: Vec<String> = offers
            .flat_map(|offer| schemes(&String::from_utf8_lossy(offer.as_bytes())))
            .collect();
        let has_basic = schemes
            .iter()
            .any(|scheme| scheme.eq_ignore_ascii_case("basic"));
        (!schemes.is_empty() && !has_basic).then(|| schemes.join(", "))
    }
}

/// Returns the schemes of a list of challenges (RFC 9110 §11.6.1): of each part between commas the first word, unless
/// that is a parameter. A quoted text may contain commas.
fn schemes(challenges: &str) -> Vec<String> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = challenges.split(|c| {
        is_quoted ^= c == '"' && !is_escaped;
        is_escaped = is_quoted && c == '\\' && !is_escaped;
        c == ',' && !is_quoted
    });
    let schemes = parts.filter_map(|part| {
        let part = part.trim();
        let end = part.find([' ', '\t', '=']).unwrap_or(part.len());
        let (word, rest) = part.split_at(end);
        let is_scheme = !word.is_empty() && !rest.trim_start().starts_with('=');
        is_scheme.then(|| word.to_owned())
    });
    schemes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(received: &[u8]) -> Option<(u16, usize)> {
        match read(received) {
            Progress::Head(head) => Some((head.status, head.length)),
            Progress::More | Progress::NotHttp | Progress::TooLong => None,
        }
    }

    #[test]
    fn head_is_read_with_crlf_lf_http_1_0_and_after_interim_answers() {
        for (text, status) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", 200),
            ("HTTP/1.0 200 OK\n\n", 200),
            ("HTTP/1.1 201\r\n\r\n", 201),
            (
                "HTTP/1.1 204 D\u{e9}j\u{e0}\r\nContent-Length: 7\r\n\r\n",
                204,
            ),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200),
            (
                "HTTP/1.1 403 Forbidden\r\nno header\r\nX Y: 1\r\n folded\r\n\r\n",
                403,
            ),
        ] {
            assert_eq!(
                status_of(text.as_bytes()),
                Some((status, text.len())),
                "{text}"
            );
            let more = format!("{text}\u{16}\u{3}");
            assert_eq!(status_of(more.as_bytes()), Some((status, text.len())));
            for cut in 0..text.len() {
                let begun = text.as_bytes().get(..cut).unwrap();
                assert!(
                    matches!(read(begun), Progress::More),
                    "{cut} bytes of {text}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_http_is_seen_at_the_first_byte_that_differs() {
        let socks: &[u8] = b"\x05\xff";
        for other in [
            socks,
            b"SSH-2.0",
            b"\x15\x03\x01\0\x02",
            b"HTTP/2",
            b"HTTP/1.1 x\n\n",
        ] {
            assert!(matches!(read(other), Progress::NotHttp), "{other:?}");
        }
    }

    #[test]
    fn head_may_have_64_kib_and_not_more() {
        let head = |bytes: usize| format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(bytes));
        let fits = head(MAX_HEAD - 40);
        assert_eq!(status_of(fits.as_bytes()), Some((200, fits.len())));
        let long = head(MAX_HEAD);
        assert!(matches!(
            read(&long.as_bytes()[..MAX_HEAD]),
            Progress::TooLong
        ));
    }

    #[test]
    fn login_is_sent_byte_for_byte() {
        for (user, password) in [
            ("alice", "100%25sure"),
            ("CORP\\al", "a:b@c"),
            ("ä", "p#q?r/s "),
        ] {
            let login = ProxyLogin {
                user: user.to_owned(),
                password: password.into(),
            };
            let request = request("domo.example:443", Some(&login));
            let request = str::from_utf8(&request).unwrap();
            let (_, encoded) = request.split_once("Proxy-Authorization: Basic ").unwrap();
            let encoded = encoded.strip_suffix("\r\n\r\n").unwrap();
            let decoded = STANDARD.decode(encoded).unwrap();
            assert_eq!(decoded, format!("{user}:{password}").into_bytes());
            let first = "CONNECT domo.example:443 HTTP/1.1\r\nHost: domo.example:443\r\n";
            assert!(request.starts_with(first), "{request}");
        }
        let without = request("domo.example:443", None);
        assert!(
            !without
                .windows(19)
                .any(|part| part == b"Proxy-Authorization")
        );
    }

    #[test]
    fn schemes_are_named_only_if_basic_is_not_among_them() {
        for (offers, schemes) in [
            (
                "Proxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n",
                Some("NTLM, Negotiate"),
            ),
            (
                "Proxy-Authenticate: Negotiate, NTLM\r\n",
                Some("Negotiate, NTLM"),
            ),
            (
                "Proxy-Authenticate: Digest realm=\"a b\", nonce=\"c\"\r\n",
                Some("Digest"),
            ),
            (
                "Proxy-Authenticate: Digest realm=\"corp, basic \\\", users\", nonce = \"c\"\r\n",
                Some("Digest"),
            ),
            ("Proxy-Authenticate: NTLM, basic realm=\"x\"\r\n", None),
            ("", None),
        ] {
            let text = format!("HTTP/1.1 407 Login\r\n{offers}\r\n");
            let Progress::Head(head) = read(text.as_bytes()) else {
                panic!("{text}")
            };
            assert_eq!(head.unsupported_schemes().as_deref(), schemes, "{offers}");
        }
    }
}
