//! Which header fields are forwarded in each direction, and which are removed or rewritten. Bytes in, bytes out.

use url::{Position, Url};

/// Fields about one connection (RFC 9110 §7.6.1), and about framing, which each connection has its own.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// Fields of a request that the gateway sets, or that are not for Domo.
const OF_REQUESTS: [&str; 5] = ["authorization", "cookie", "expect", "forwarded", "host"];

/// Fields of a response that are not for applications.
const OF_RESPONSES: [&str; 1] = ["set-cookie"];

/// Prefixes of fields that are not forwarded in either direction.
const PREFIXES: [&str; 3] = ["proxy-", "x-forwarded", "domo-token-"];

/// The direction in which a head is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadOf {
    Request,
    Response,
}

/// Returns whether a field is forwarded. `named` are the values of Connection, which name further fields to remove.
pub(super) fn is_forwarded(name: &str, of: HeadOf, named: &[&[u8]]) -> bool {
    let is = |other: &&str| name.eq_ignore_ascii_case(other);
    let own: &[&str] = match of {
        HeadOf::Request => &OF_REQUESTS,
        HeadOf::Response => &OF_RESPONSES,
    };
    let has_prefix = |prefix: &&str| {
        let start = name.get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    !(HOP_BY_HOP.iter().any(is)
        || own.iter().any(is)
        || PREFIXES.iter().any(has_prefix)
        || name.contains('_')
        || named.iter().any(|value| names(value, name)))
}

/// Returns whether the value of a Connection field names this field.
fn names(value: &[u8], name: &str) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

/// Appends a header field.
pub(super) fn append(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// Returns where a redirect within the own upstream leads when it is requested through the gateway at `base`, such as
/// `http://127.0.0.1:8640`. Other locations are returned unchanged.
pub(super) fn rewritten_location(value: &[u8], upstream: &Url, base: &str) -> Vec<u8> {
    let location = str::from_utf8(value).ok();
    // A host of other characters is not that of the upstream, which is in ASCII.
    let has_plain_host = |text: &&str| {
        let authority = text.split(['/', '\\', '?', '#']).nth(2);
        text.is_ascii() && authority.is_some_and(|authority| !authority.contains('%'))
    };
    let location = location.filter(has_plain_host);
    let location = location.and_then(|text| Url::parse(text.trim()).ok());
    let Some(location) = location.filter(|location| location.origin() == upstream.origin()) else {
        return value.to_vec();
    };
    let rest = &location[Position::BeforePath..];
    [base.as_bytes(), rest.as_bytes()].concat()
}

/// Returns whether a request asks for CSV.
pub(super) fn accepts_csv(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|range| {
        let kind = range.split(|byte| *byte == b';').next();
        kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"text/csv"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_connection_and_credentials_are_removed() {
        let named: [&[u8]; 2] = [b"close", b"X-Secret ,keep-alive"];
        for name in [
            "Connection",
            "x-secret",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "content-length",
            "Upgrade",
            "Proxy-Authorization",
            "proxy-connection",
            "X-Forwarded-For",
            "x-forwarded",
            "X_Custom",
            "Domo-Token-Renewed",
        ] {
            for of in [HeadOf::Request, HeadOf::Response] {
                assert!(!is_forwarded(name, of, &named), "{name}");
            }
        }
        for name in ["Authorization", "Cookie", "Forwarded", "Host", "EXPECT"] {
            assert!(!is_forwarded(name, HeadOf::Request, &[]), "{name}");
        }
        assert!(!is_forwarded("Set-Cookie", HeadOf::Response, &[]));
        for name in [
            "Accept",
            "Content-Type",
            "Content-Encoding",
            "User-Agent",
            "Retry-After",
            "X-Request-Id",
        ] {
            for of in [HeadOf::Request, HeadOf::Response] {
                assert!(is_forwarded(name, of, &[b"close"]), "{name}");
            }
        }
    }

    #[test]
    fn location_of_the_own_upstream_alone_is_rewritten() {
        let upstream = Url::parse("https://api.domo.com").unwrap();
        let base = "http://127.0.0.1:8640";
        for (location, rewritten) in [
            (
                "https://api.domo.com/v1/streams/7?a=b#c",
                "http://127.0.0.1:8640/v1/streams/7?a=b#c",
            ),
            ("HTTPS://API.domo.com:443/v1", "http://127.0.0.1:8640/v1"),
            ("https://api.domo.com", "http://127.0.0.1:8640/"),
            ("https://u:p@api.domo.com/x", "http://127.0.0.1:8640/x"),
            ("http://api.domo.com/v1", "http://api.domo.com/v1"),
            ("https://evil.example/v1", "https://evil.example/v1"),
            ("/v1/streams/7", "/v1/streams/7"),
            ("7", "7"),
        ] {
            let value = rewritten_location(location.as_bytes(), &upstream, base);
            assert_eq!(str::from_utf8(&value), Ok(rewritten));
        }
    }

    #[test]
    fn csv_is_recognized_among_several_types() {
        assert!(accepts_csv(b"application/json, Text/CSV; q=0.5"));
        assert!(!accepts_csv(b"text/csv-schema, application/json"));
    }
}
