#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in a test, what fails says so"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use domo_sandbox::{Builder, Fault, Sandbox};
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HOST, USER_AGENT};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

use super::*;
use crate::config::TokenMethod;
use crate::connect::tests::tls::{identity, tls_server, with_client_certificates};
use domo_token_core::token::MAX_TOKEN;

const TOKEN: &str = "{\"access_token\":\"a\",\"token_type\":\"bearer\",\"expires_in\":9}";

fn endpoint(url: &str) -> Endpoint {
    Endpoint::new(url.parse().unwrap())
}

fn registration(endpoint: Endpoint) -> Result<Registration, SourceError> {
    let credentials = Credentials {
        client_id: "an-id".to_owned(),
        client_secret: "c4nary".into(),
    };
    Registration::new(endpoint, credentials, None)
}

/// What comes of asking there.
fn fetched_from(endpoint: Endpoint) -> Result<Fetched, FetchError> {
    let source = DomoSource::new(registration(endpoint).unwrap(), &Shared::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let scope = ScopeSet::parse("data").unwrap();
    runtime.block_on(source.fetch(&scope, Duration::from_secs(20), &|| ()))
}

fn server() -> Builder {
    Sandbox::builder().client("an-id", "c4nary", &["data"])
}

/// What comes of asking a server that runs into that fault.
fn fetched(fault: Fault) -> Result<Fetched, FetchError> {
    let sandbox = server().start().unwrap();
    sandbox.always(fault);
    fetched_from(endpoint(&sandbox.token_url()))
}

#[test]
fn rejection_of_a_login_with_a_paste_mistake_names_it() {
    let mut registration = registration(endpoint("https://domo.example/t")).unwrap();
    registration.proxy_login = Some(ProxyLogin {
        user: "ann".to_owned(),
        password: "c4nary ".into(),
    });
    let words = "the proxy answered 407".to_owned();
    let error = with_paste_mistake(FetchError::ProxyLogin { message: words }, &registration);
    let words = "the proxy answered 407; the proxy login ends with a blank; remove it".to_owned();
    assert_eq!(error, FetchError::ProxyLogin { message: words });
    // The secret has none.
    let denied = |scope_only| FetchError::Denied {
        scope_only,
        message: "Domo answered 401".to_owned(),
    };
    assert_eq!(
        with_paste_mistake(denied(false), &registration),
        denied(false)
    );
    registration.credentials.client_secret = "\"c4nary\"".into();
    assert_eq!(
        with_paste_mistake(denied(true), &registration),
        denied(true)
    );
    assert_ne!(
        with_paste_mistake(denied(false), &registration),
        denied(false)
    );
}

#[test]
fn a_redirect_is_not_followed() {
    let other = server().start().unwrap();
    let error = fetched(Fault::redirect(307, &other.token_url())).unwrap_err();
    let cause = Cause::RedirectRefused;
    assert!(matches!(error, FetchError::Transient { cause: is, .. } if is == cause));
    assert!(other.requests().is_empty());
}

#[test]
fn server_is_trusted_by_the_certificates_of_the_ca_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let sandbox = server().https(true).start().unwrap();
    fs::write(&file, sandbox.ca_pem().unwrap()).unwrap();
    let plain = endpoint(&sandbox.token_url());
    let trusting = Endpoint {
        ca_file: Some(file.into()),
        ..plain.clone()
    };
    assert!(fetched_from(trusting).is_ok());
    let Err(FetchError::Transient {
        cause,
        message: words,
        ..
    }) = fetched_from(plain)
    else {
        panic!("it is trusted")
    };
    assert_eq!(cause, Cause::Tls);
    assert!(words.contains("can't be trusted: "), "{words}");
    assert!(words.contains("ca_file must hold"), "{words}");
}

#[test]
fn connect_failure_names_address_and_cause() {
    // Taken, so that nobody else comes to listen there.
    let taken = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::try_from(getsockname(&taken).unwrap()).unwrap();
    let closed = endpoint(&format!("http://{address}/oauth/token"));
    let Err(FetchError::Transient {
        cause,
        message: words,
        ..
    }) = fetched_from(closed)
    else {
        panic!("nobody is there")
    };
    assert_eq!(cause, Cause::Connect);
    let said = format!("{address} can't be reached: Connection refused");
    assert!(words.starts_with(&said), "{words}");
    let through = Endpoint {
        proxy: "http://proxy.example:3128".parse().ok(),
        ..endpoint("https://domo.example/oauth/token")
    };
    let place = "domo.example through the proxy proxy.example:3128";
    assert_eq!(connect::place(&through.url, through.proxy.as_ref()), place);
}

#[test]
fn body_in_pieces_is_read_up_to_its_limit() {
    let token = "{\"access_token\":\"a\",\"token_type\":\"bearer\",\"expires_in\":9}";
    let padded = |bytes: usize| {
        let body = token.to_owned() + &" ".repeat(bytes - token.len());
        fetched(Fault::status(200).body(body))
    };
    for bytes in [token.len(), 100_000, MAX_BODY] {
        assert_eq!(padded(bytes).unwrap().text.expose_secret(), "a", "{bytes}");
    }
    let error = format!("{:?}", padded(MAX_BODY + 1).unwrap_err());
    assert!(error.contains("longer than 1048576 bytes"), "{error}");
}

#[test]
fn registration_has_client_id_and_token_url() {
    let registration = registration(endpoint("https://domo.example/oauth/token")).unwrap();
    assert_eq!(registration.client_id(), "an-id");
    assert_eq!(registration.token_url(), "https://domo.example/oauth/token");
}

/// What comes of loading a client whose CA file has that content.
fn source_with_ca(content: &[u8], shared: &Shared) -> Result<DomoSource, SourceError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, content).unwrap();
    let endpoint = Endpoint {
        ca_file: Some(file.into()),
        ..endpoint("https://domo.example/oauth/token")
    };
    DomoSource::new(registration(endpoint).unwrap(), shared)
}

#[test]
fn ca_file_that_is_broken_fails_to_load_and_is_named() {
    let https = Sandbox::builder().https(true).start().unwrap();
    let pem = https.ca_pem().unwrap();
    let shared = Shared::default();
    source_with_ca(pem.as_bytes(), &shared).unwrap();
    let broken = format!("{pem}-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    let error = source_with_ca(broken.as_bytes(), &shared).err().unwrap();
    let (line, words) = (pem.lines().count() + 1, error.to_string());
    let certificate = format!("certificate 2 (line {line}) is broken");
    assert!(
        words.contains(&certificate) && words.contains("ca.pem"),
        "{words}"
    );
    assert!(!error.is_exhausted());
}

#[test]
fn ca_file_content_is_shared_by_all_clients() {
    let https = Sandbox::builder().https(true).start().unwrap();
    let pem = https.ca_pem().unwrap();
    let shared = Shared::default();
    let [first, second] = [(); 2].map(|()| source_with_ca(pem.as_bytes(), &shared).unwrap());
    let ca = |source: &DomoSource| source.registration().ca.clone().unwrap();
    assert!(Arc::ptr_eq(&ca(&first), &ca(&second)));
    assert_eq!(*ca(&first), *pem.as_bytes());
}

#[test]
fn document_states_the_current_bounds() {
    let document = include_str!("../../../docs/architecture.md");
    let (_, part) = document.split_once("## What is read of an answer").unwrap();
    let seconds = |span: Duration| format!("{} s", span.as_secs());
    let bytes = |count: usize| format!("{count} B");
    let bounds = [
        ("CONNECT_TIMEOUT", seconds(connect::CONNECT_TIMEOUT)),
        ("ERROR_BODY", seconds(ERROR_BODY)),
        ("MAX_HEAD", bytes(transport::MAX_HEAD)),
        ("MAX_HEADERS", transport::MAX_HEADERS.to_string()),
        ("MAX_BODY", bytes(MAX_BODY)),
        ("MAX_TOKEN", bytes(MAX_TOKEN)),
        ("LIFETIME_ASSUMED", seconds(response::LIFETIME_ASSUMED)),
        ("LIFETIME_MAX", format!("{} s", response::LIFETIME_MAX)),
        ("EXPIRY_TOLERANCE", seconds(response::EXPIRY_TOLERANCE)),
        ("MAX_CODINGS", response::MAX_CODINGS.to_string()),
        ("MAX_MEMBERS", response::MAX_MEMBERS.to_string()),
        ("MAX_ITEMS", response::MAX_ITEMS.to_string()),
        ("MAX_WORDS", connect::MAX_WORDS.to_string()),
    ];
    for (name, value) in bounds {
        let row = format!("| `{name}` | {value} |");
        assert!(part.contains(&row), "{row}");
    }
}

/// Reads a request with its form.
fn read_request(stream: &mut impl Read) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"&scope=data") && stream.read(&mut byte).is_ok_and(|count| count > 0)
    {
        request.extend_from_slice(&byte);
    }
}

/// What comes of a server that answers with these bytes and closes the connection.
fn fetched_raw(answer: impl Into<Vec<u8>>) -> Result<Fetched, FetchError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/oauth/token", listener.local_addr().unwrap());
    let answer = answer.into();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream);
        stream.write_all(&answer).unwrap();
    });
    fetched_from(endpoint(&url))
}

fn words_of(result: Result<Fetched, FetchError>, expected: Cause) -> String {
    let Err(FetchError::Transient {
        cause,
        message: words,
        ..
    }) = result
    else {
        panic!("{result:?}")
    };
    assert_eq!(cause, expected, "{words}");
    words
}

/// A 200 with these lines besides those that it needs.
fn answer_with(lines: &str) -> String {
    let length = TOKEN.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{lines}\r\n{TOKEN}"
    )
}

#[test]
fn response_headers_are_limited_in_number_and_size() {
    let many = |count| "Set-Cookie: a=b; Path=/\r\n".repeat(count);
    let long = |bytes| format!("X-Long: {}\r\n", "a".repeat(bytes));
    for lines in [many(150), many(transport::MAX_HEADERS - 2), long(500_000)] {
        assert!(fetched_raw(answer_with(&lines)).is_ok());
    }
    for lines in [many(transport::MAX_HEADERS), long(transport::MAX_HEAD)] {
        let words = words_of(fetched_raw(answer_with(&lines)), Cause::Connect);
        assert!(
            words.contains("524288 bytes or 1024 header lines"),
            "{words}"
        );
    }
}

#[test]
fn unusual_response_heads_are_parsed() {
    let lf = answer_with("").replace("\r\n", "\n");
    let early = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}",
        answer_with("")
    );
    let old = format!("HTTP/1.0 200\r\n\r\n{TOKEN}");
    for answer in [
        lf,
        early,
        old,
        answer_with(&format!("Content-Length: {}\r\n", TOKEN.len())),
    ] {
        assert!(fetched_raw(answer.clone()).is_ok(), "{answer}");
    }
    let mut latin1 = answer_with("X-Note: caf?\r\n").into_bytes();
    let place = latin1.iter().position(|byte| *byte == b'?').unwrap();
    latin1[place] = 0xe9;
    assert!(fetched_raw(latin1).is_ok());
}

#[test]
fn invalid_response_is_named_in_the_error() {
    let malformed = "is malformed, which is not supported";
    for (answer, expected) in [
        (
            String::new(),
            "closed the connection before its answer was complete",
        ),
        (
            "HTTP/1.1 200 OK\r\nX: ".to_owned(),
            "closed the connection before its answer was complete",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "does not speak HTTP"),
        (
            "\x15\x03\x01\0\x02\x02\x46".to_owned(),
            "does not speak HTTP",
        ),
        (answer_with("X-Bad : 1\r\n"), malformed),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "is malformed, or in HTTP/1.0, which is not supported",
        ),
        (
            answer_with("Content-Length: 1\r\n"),
            "is malformed, or two differ",
        ),
        (answer_with("X Y: 1\r\n"), malformed),
        (answer_with("X-Fold: a\r\n b\r\n"), malformed),
    ] {
        let words = words_of(fetched_raw(answer.clone()), Cause::Connect);
        assert!(
            words.contains("127.0.0.1:") && words.contains(expected),
            "{answer}: {words}"
        );
    }
}

/// What comes of a TLS server that answers so and closes TCP without the end of TLS.
fn fetched_without_close_notify(answer: String) -> Result<Fetched, FetchError> {
    let identity = identity(|_| ());
    let url = tls_server(identity.config, move |stream| {
        read_request(stream);
        stream.write_all(answer.as_bytes())?;
        stream.flush()
    });
    fetched_with_ca(&url, &identity.ca)
}

fn fetched_with_ca(url: &str, ca: &str) -> Result<Fetched, FetchError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, ca).unwrap();
    fetched_from(Endpoint {
        ca_file: Some(file.into()),
        ..endpoint(url)
    })
}

#[test]
fn end_of_tcp_without_close_notify_ends_a_body_without_a_length() {
    let complete = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{TOKEN}");
    assert!(fetched_without_close_notify(complete.clone()).is_ok());
    assert!(fetched_without_close_notify(answer_with("")).is_ok());
    let cut = complete.strip_suffix("9}").unwrap().to_owned();
    words_of(fetched_without_close_notify(cut), Cause::Unusable);
    let short = answer_with("").strip_suffix('}').unwrap().to_owned();
    let closed = "closed the connection before its answer was complete";
    for cut in [short, "HTTP/1.1 200 OK\r\nX: ".to_owned()] {
        let words = words_of(fetched_without_close_notify(cut), Cause::Connect);
        assert!(words.ends_with(closed), "{words}");
    }
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{TOKEN}\r\n",
        TOKEN.len()
    );
    let words = words_of(fetched_without_close_notify(chunked), Cause::Connect);
    assert!(words.ends_with(closed), "{words}");
}

#[test]
fn client_certificate_that_is_required_is_named_with_tls_1_3() {
    let mut identity = identity(|_| ());
    with_client_certificates(&mut identity, &rustls::version::TLS13, true);
    let ca = identity.ca.clone();
    let url = tls_server(identity.config, |stream| {
        // The handshake is over for the client before the server misses the certificate.
        let ended = stream.read(&mut [0; 1]);
        ended.map(drop)
    });
    let words = words_of(fetched_with_ca(&url, &ca), Cause::Tls);
    assert!(
        words.ends_with("requires a client certificate, which is not supported"),
        "{words}"
    );
}

#[test]
fn end_of_a_connection_is_not_blamed_on_a_client_certificate_that_was_requested() {
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{";
    let closed = "closed the connection before its answer was complete";
    let hint = "; it may require a client certificate, which is not supported";
    for (version, answer, end) in [
        (&rustls::version::TLS12, "", closed.to_owned()),
        (&rustls::version::TLS13, "", format!("{closed}{hint}")),
        (&rustls::version::TLS13, begun, closed.to_owned()),
    ] {
        let mut identity = identity(|_| ());
        with_client_certificates(&mut identity, version, false);
        let ca = identity.ca.clone();
        let url = tls_server(identity.config, move |stream| {
            read_request(stream);
            stream.write_all(answer.as_bytes())?;
            stream.flush()
        });
        let words = words_of(fetched_with_ca(&url, &ca), Cause::Connect);
        assert!(words.ends_with(&end), "{words}");
    }
}

#[test]
fn request_ends_at_its_limit_and_names_the_step() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}/oauth/token");
    let source = DomoSource::new(registration(endpoint(&url)).unwrap(), &Shared::default());
    let source = source.unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let scope = ScopeSet::parse("data").unwrap();
    let result = runtime.block_on(source.fetch(&scope, Duration::from_millis(50), &|| ()));
    let words = words_of(result, Cause::Timeout);
    assert_eq!(words, format!("no answer from {address} in time"));
}

#[test]
fn request_asks_for_json_as_it_is() {
    for method in [TokenMethod::Post, TokenMethod::Get] {
        let endpoint = Endpoint {
            method,
            ..endpoint("https://domo.example:8443/oauth/token")
        };
        let credentials = registration(endpoint.clone()).unwrap().credentials;
        let scope = ScopeSet::parse("data user").unwrap();
        let request = request::token_request(&endpoint, &credentials, &scope).unwrap();
        let headers = request.headers();
        assert_eq!(headers[ACCEPT_ENCODING], "identity");
        assert_eq!(headers[ACCEPT], "application/json");
        assert_eq!(headers[HOST], "domo.example:8443");
        assert_eq!(
            headers[USER_AGENT],
            format!("domo-token/{}", env!("CARGO_PKG_VERSION"))
        );
        assert_eq!(headers[AUTHORIZATION], "Basic YW4taWQ6YzRuYXJ5");
        assert!(headers[AUTHORIZATION].is_sensitive());
        let query = "grant_type=client_credentials&scope=data+user";
        let path = match method {
            TokenMethod::Post => "/oauth/token".to_owned(),
            TokenMethod::Get => format!("/oauth/token?{query}"),
        };
        assert_eq!(request.uri().to_string(), path);
    }
}

/// What comes of a proxy that answers CONNECT so.
fn fetched_by(answer: &'static str) -> Result<Fetched, FetchError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        stream.write_all(answer.as_bytes()).unwrap();
    });
    fetched_from(Endpoint {
        proxy: proxy.parse().ok(),
        ..endpoint("https://domo.example/oauth/token")
    })
}

#[test]
fn answer_of_a_proxy_is_transient_with_its_retry_after_and_a_rejected_login_is_not() {
    let error = fetched_by("HTTP/1.1 429 Too Many\r\nRetry-After: 600\r\n\r\n").unwrap_err();
    let FetchError::Transient {
        cause, retry_after, ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        (cause, retry_after),
        (Cause::Proxy, Some(Duration::from_secs(600)))
    );
    let dates = "HTTP/1.1 503 Busy\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                 Retry-After: Thu, 01 Jan 2026 00:01:00 GMT\r\n\r\n";
    let Err(FetchError::Transient { retry_after, .. }) = fetched_by(dates) else {
        panic!("a tunnel")
    };
    assert_eq!(retry_after, Some(Duration::from_secs(60)));
    let login = fetched_by("HTTP/1.1 407 Login\r\n\r\n").unwrap_err();
    assert!(matches!(login, FetchError::ProxyLogin { .. }), "{login:?}");
}

#[test]
fn error_with_an_incomplete_body_is_used_as_far_as_it_arrived() {
    let body = "{\"error\":\"invalid_scope\"}";
    let status = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n";
    let padding = " ".repeat(MAX_BODY);
    for answer in [
        format!("{status}Content-Length: 1000\r\n\r\n{body}"),
        format!(
            "{status}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
            body.len()
        ),
        format!("{status}\r\n{body}{padding}{padding}"),
    ] {
        let error = fetched_raw(answer).unwrap_err();
        let is_denied = matches!(
            error,
            FetchError::Denied {
                scope_only: true,
                ..
            }
        );
        assert!(is_denied, "{error:?}");
    }
}
