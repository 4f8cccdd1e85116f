//! Requests that the gateway rejects, and what it removes from those that it forwards, as bytes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::HOUR;
use crate::common::gateway::{Answer, Gateway, builder, real_token};
use crate::common::wait::until;

/// A server that records each request and answers it with the same bytes, in which `ORIGIN` stands for its URL.
struct Origin {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    fn start(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = answer.replace("ORIGIN", &url);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (answer, record) = (answer.clone(), Arc::clone(&record));
                thread::spawn(move || serve(stream, &answer, &record));
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Reads requests, whose bodies are short and arrive at once, and answers each.
fn serve(mut stream: TcpStream, answer: &str, record: &Mutex<Vec<String>>) {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        received.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let is_posted = head.starts_with("POST");
        if is_posted && body.is_empty() {
            continue;
        }
        record.lock().unwrap().push(text);
        received.clear();
        let _ = stream.write_all(answer.as_bytes());
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";

/// A request with `TOKEN` in place of a local token for `data`.
struct Case {
    name: &'static str,
    request: &'static str,
    status: u16,
}

const fn case(name: &'static str, request: &'static str, status: u16) -> Case {
    Case {
        name,
        request,
        status,
    }
}

/// Continues the head of a request that would be forwarded.
macro_rules! with {
    ($target:literal, $lines:literal) => {
        concat!(
            "GET ",
            $target,
            " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer TOKEN\r\nConnection: close\r\n",
            $lines,
            "\r\n"
        )
    };
}

const CASES: &[Case] = &[
    // Browsers and DNS rebinding.
    case(
        "rebinding",
        "GET /v1/datasets HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer TOKEN\r\n\r\n",
        403,
    ),
    case(
        "address",
        "GET /v1/datasets HTTP/1.1\r\nHost: 192.0.2.1:8640\r\nAuthorization: Bearer TOKEN\r\n\r\n",
        403,
    ),
    case(
        "Origin",
        with!("/v1/datasets", "Origin: http://localhost\r\n"),
        403,
    ),
    case(
        "null Origin",
        with!("/v1/datasets", "Origin: null\r\n"),
        403,
    ),
    case(
        "Referer",
        with!("/v1/datasets", "Referer: http://localhost/\r\n"),
        403,
    ),
    case(
        "Sec-Fetch-Site",
        with!("/v1/datasets", "Sec-Fetch-Site: none\r\n"),
        403,
    ),
    case(
        "token request of a page",
        "POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nContent-Length: 0\r\n\r\n",
        403,
    ),
    // Ambiguous requests.
    case(
        "no Host",
        "GET /v1/datasets HTTP/1.1\r\nAuthorization: Bearer TOKEN\r\n\r\n",
        400,
    ),
    case(
        "two Host",
        with!("/v1/datasets", "Host: localhost\r\n"),
        400,
    ),
    case(
        "two Authorization",
        with!("/v1/datasets", "Authorization: Bearer TOKEN\r\n"),
        400,
    ),
    case(
        "length and chunked",
        with!(
            "/v1/datasets",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
        ),
        400,
    ),
    case(
        "two lengths",
        with!("/v1/datasets", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        400,
    ),
    case(
        "list of lengths",
        with!("/v1/datasets", "Content-Length: 5, 5\r\n"),
        400,
    ),
    case(
        "signed length",
        with!("/v1/datasets", "Content-Length: +5\r\n"),
        400,
    ),
    case(
        "chunked twice",
        with!("/v1/datasets", "Transfer-Encoding: chunked, chunked\r\n"),
        501,
    ),
    case(
        "other coding",
        with!("/v1/datasets", "Transfer-Encoding: gzip, chunked\r\n"),
        501,
    ),
    case(
        "bare LF",
        "GET /v1/datasets HTTP/1.1\nHost: localhost\nAuthorization: Bearer TOKEN\n\n",
        400,
    ),
    case(
        "bare LF in a line",
        with!("/v1/datasets", "X: 1\nX-Other: 2\r\n"),
        400,
    ),
    case(
        "folded line",
        with!("/v1/datasets", "X: 1\r\n folded\r\n"),
        400,
    ),
    case(
        "space before the colon",
        with!("/v1/datasets", "X : 1\r\n"),
        400,
    ),
    // Targets.
    case(
        "absolute form",
        with!("http://localhost/v1/datasets", ""),
        400,
    ),
    case(
        "CONNECT",
        "CONNECT api.domo.com:443 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer TOKEN\r\n\r\n",
        400,
    ),
    case(
        "Upgrade",
        with!(
            "/v1/datasets",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        ),
        400,
    ),
    case("dot segments", with!("/v1/datasets/../users", ""), 400),
    case("dot segment", with!("/v1/./datasets", ""), 400),
    case("dot segment at the end", with!("/v1/datasets/..", ""), 400),
    case("%2e", with!("/v1/datasets/%2e%2e/users", ""), 400),
    case("%2E", with!("/v1/datasets/%2E./users", ""), 400),
    case("%2f", with!("/v1/datasets%2fusers", ""), 400),
    case("%5c", with!("/v1/datasets/%5c..%5cusers", ""), 400),
    case("backslash", with!("/v1/datasets\\..\\users", ""), 400),
    case("//", with!("/v1//datasets", ""), 400),
    case("// at the start", with!("//v1/datasets", ""), 400),
    case("NUL", with!("/v1/datasets/%00", ""), 400),
    case("raw NUL", with!("/v1/datasets/\0", ""), 400),
    case("fragment", with!("/v1/datasets#x", ""), 400),
    // Other paths and permission.
    case("outside", with!("/v2/datasets", ""), 404),
    case("root", with!("/", ""), 404),
    case("metrics", with!("/metrics", ""), 404),
    case("no rule", with!("/v1/accounts", ""), 403),
    case(
        "no prefix of a segment",
        with!("/v1/datasets-of-others", ""),
        403,
    ),
    case("scope of another rule", with!("/v1/users", ""), 403),
    // Credentials.
    case(
        "no token",
        "GET /v1/datasets HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        401,
    ),
    case(
        "wrong token",
        "GET /v1/datasets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer starterTokenThatIsInvalid\r\nConnection: close\r\n\r\n",
        401,
    ),
    case(
        "changed token",
        "GET /v1/datasets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer TOKENx\r\nConnection: close\r\n\r\n",
        401,
    ),
    // {"alg":"none","typ":"JWT"}
    case(
        "unsigned token",
        "GET /v1/datasets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.PAYLOAD.\r\nConnection: close\r\n\r\n",
        401,
    ),
    case(
        "Basic",
        "GET /v1/datasets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic ZXRsOng=\r\nConnection: close\r\n\r\n",
        401,
    ),
    case(
        "token in the query",
        "GET /v1/datasets?access_token=TOKEN HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        401,
    ),
    case(
        "HTTP/1.0",
        "GET /v1/datasets HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer TOKEN\r\n\r\n",
        505,
    ),
];

#[track_caller]
fn assert_is_own(name: &str, answer: &Answer, status: u16) {
    assert_eq!(answer.status(), status, "{name}: {}", answer.text);
    assert_eq!(answer.header("domo-token-gateway"), Some("1"), "{name}");
    let json = answer.json();
    assert_eq!(json["status"], status, "{name}: {json}");
    for field in ["statusReason", "message", "toe", "path"] {
        assert!(json[field].is_string(), "{name}: {json}");
    }
}

#[test]
fn rejected_requests_get_their_status_and_never_reach_domo() {
    let sandbox = builder(HOUR).start().unwrap();
    let origin = Origin::start(OK);
    let gateway = Gateway::with_upstream(&sandbox, &origin.url);
    let token = gateway.local_token("data");
    let payload = token.split('.').nth(1).unwrap();
    let forwarded = with!("/v1/datasets", "").replace("TOKEN", &token);
    assert_eq!(gateway.raw(&forwarded).status(), 200);
    for Case {
        name,
        request,
        status,
    } in CASES
    {
        let request = request.replace("TOKEN", &token).replace("PAYLOAD", payload);
        assert_is_own(name, &gateway.raw(request), *status);
    }
    assert_eq!(origin.requests().len(), 1, "{:?}", origin.requests());
}

/// A request with headers that must not reach Domo, and some that must.
const CROWDED: &str = "POST /v1/datasets/?limit=2 HTTP/1.1\r\nHost: localhost:8640\r\nauthorization: bearer TOKEN\r\n\
    Connection: close, x-named\r\nX-Named: 1\r\nKeep-Alive: 1\r\nTE: trailers\r\nTrailer: X-Trailer\r\n\
    Proxy-Authorization: Basic eA==\r\nProxy-Connection: close\r\nCookie: a=b\r\nForwarded: for=1\r\n\
    X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: evil.example\r\nx_under: 1\r\nX_Forwarded_For: 1\r\n\
    Content_Length: 7\r\nAccept: application/json\r\nContent-Encoding: gzip\r\nX-Kept: 1\r\n\
    Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\nX-Trailer: 1\r\n\r\n";

#[test]
fn headers_of_hops_proxies_and_ambiguous_names_are_not_forwarded() {
    let sandbox = builder(HOUR).start().unwrap();
    let origin = Origin::start(OK);
    let gateway = Gateway::with_upstream(&sandbox, &origin.url);
    let token = gateway.local_token("data");
    let answer = gateway.raw(CROWDED.replace("TOKEN", &token));
    assert_eq!(answer.status(), 200, "{}", answer.text);
    let requests = origin.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /v1/datasets/?limit=2 HTTP/1.1\r\n"),
        "{head}"
    );
    let lower = head.to_ascii_lowercase();
    for name in [
        "x-named",
        "keep-alive",
        "te:",
        "trailer",
        "proxy-",
        "cookie",
        "forwarded",
        "x-forwarded",
        "x_",
        "content_",
    ] {
        assert!(!lower.contains(&format!("\n{name}")), "{name}: {head}");
    }
    let host = origin.url.strip_prefix("http://").unwrap();
    for line in [
        &format!("host: {host}"),
        "accept: application/json",
        "content-encoding: gzip",
        "x-kept: 1",
        // A short body is held, so that its length is known.
        "content-length: 2",
    ] {
        assert_eq!(
            lower.matches(&format!("\n{line}")).count(),
            1,
            "{line}: {head}"
        );
    }
    assert_eq!(lower.matches("\nauthorization:").count(), 1);
    assert!(!head.contains(&token), "the local token stays here");
    assert!(head.contains(&real_token(&sandbox, "data")));
    assert_eq!(body, "[]");
}

#[test]
fn headers_of_hops_and_cookies_are_removed_from_answers() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: session=1\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
                  Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nETag: \"1\"\r\n\r\n[]";
    let sandbox = builder(HOUR).start().unwrap();
    let gateway = Gateway::with_upstream(&sandbox, &Origin::start(answer).url);
    let answer = gateway.get("/v1/datasets", &gateway.local_token("data"));
    assert_eq!((answer.status(), answer.body()), (200, "[]"));
    for name in [
        "set-cookie",
        "x-hop",
        "keep-alive",
        "proxy-authenticate",
        "domo-token-gateway",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("etag"), Some("\"1\""));
}

#[test]
fn redirect_is_not_followed_and_names_the_gateway_only_for_its_own_origin() {
    let sandbox = builder(HOUR).start().unwrap();
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    target.set_nonblocking(true).unwrap();
    let elsewhere = format!("http://{}/v1/users", target.local_addr().unwrap());
    for (location, expected) in [
        (elsewhere.as_str(), elsewhere.as_str()),
        ("/v1/datasets/1", "/v1/datasets/1"),
        ("ORIGIN/v1/datasets/1", "http://GATEWAY/v1/datasets/1"),
    ] {
        let answer =
            format!("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n");
        let gateway = Gateway::with_upstream(&sandbox, &Origin::start(&answer).url);
        let token = gateway.local_token("data");
        let host = gateway.ports.http();
        let answer = gateway.raw(format!(
            "GET /v1/datasets HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(answer.status(), 302);
        let expected = expected.replace("GATEWAY", &host);
        assert_eq!(answer.header("location"), Some(expected.as_str()));
    }
    assert!(target.accept().is_err(), "the redirect was followed");
}

#[test]
fn smuggled_request_in_a_body_is_not_forwarded() {
    let sandbox = builder(HOUR).start().unwrap();
    let origin = Origin::start(OK);
    let gateway = Gateway::with_upstream(&sandbox, &origin.url);
    let token = gateway.local_token("data");
    let second = "GET /v1/users HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (lines, status) in [
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", 400),
        ("Transfer-Encoding:\x0bchunked\r\n", 400),
        ("Transfer-Encoding: xchunked\r\n", 501),
    ] {
        let answer = gateway.raw(format!(
            "POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{lines}\r\n\
             0\r\n\r\n{second}"
        ));
        assert_is_own(lines, &answer, status);
    }
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn token_requests_have_oauth_errors_and_never_a_401() {
    let sandbox = builder(HOUR).start().unwrap();
    let gateway = Gateway::start(&sandbox);
    let secret = gateway.secret.clone();
    for (secret, scope, error) in [
        ("wrong", "data", "invalid_client"),
        ("", "data", "invalid_client"),
        (secret.as_str(), "audit", "invalid_scope"),
        (&secret, "data audit", "invalid_scope"),
    ] {
        let answer = gateway.token_request(secret, scope);
        assert_is_own(error, &answer, 400);
        let json = answer.json();
        assert_eq!(json["error"], error, "{json}");
        assert!(json["error_description"].is_string(), "{json}");
    }
    let answer = gateway.token_request(&secret, "data user");
    assert_eq!(answer.status(), 200, "{}", answer.text);
    let json = answer.json();
    assert_eq!(
        (&json["token_type"], &json["scope"]),
        (&"bearer".into(), &"data user".into())
    );
    assert_eq!(json["expires_in"], 3599);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[test]
fn removed_application_and_its_local_token_are_rejected_after_a_reload() {
    let sandbox = builder(HOUR).start().unwrap();
    let mut gateway = Gateway::start(&sandbox);
    let token = gateway.local_token("data");
    assert_eq!(gateway.get("/v1/datasets", &token).status(), 200);
    gateway.daemon.write("etl.hash", "");
    gateway.daemon.reload();
    until(|| match gateway.get("/v1/datasets", &token).status() {
        401 => Ok(()),
        status => Err(status),
    });
    let answer = gateway.token_request(&gateway.secret, "data");
    assert_is_own("removed", &answer, 400);
}

#[test]
fn server_that_cannot_be_reached_is_502_and_a_missing_token_503_with_retry_after() {
    let sandbox = builder(HOUR).start().unwrap();
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let gateway = Gateway::with_upstream(&sandbox, &upstream);
    let token = gateway.local_token("data");
    assert_is_own("502", &gateway.get("/v1/datasets", &token), 502);

    let sandbox = builder(HOUR).fail_with(vec![503]).start().unwrap();
    let origin = Origin::start(OK);
    let gateway = Gateway::with_upstream(&sandbox, &origin.url);
    let answer = gateway.get("/v1/datasets", &gateway.local_token("data"));
    assert_is_own("503", &answer, 503);
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 0);
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn answers_of_domo_are_passed_with_their_headers() {
    let answer =
        "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\nRetry-After: 7\r\n\r\nslow";
    let sandbox = builder(HOUR).start().unwrap();
    let origin = Origin::start(answer);
    let gateway = Gateway::with_upstream(&sandbox, &origin.url);
    let answer = gateway.get("/v1/datasets", &gateway.local_token("data"));
    assert_eq!((answer.status(), answer.body()), (429, "slow"));
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(answer.header("domo-token-gateway"), None);
    assert_eq!(origin.requests().len(), 1, "it is not repeated");
}
