#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]

use std::fs;
use std::net::SocketAddr;

use domo_sandbox::{Builder, Fault, Sandbox};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

use super::*;
use crate::token::MAX_TOKEN;

fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        url: url.parse().unwrap(),
        method: TokenMethod::Post,
        ca_file: None,
        proxy: None,
        proxy_auth_file: None,
    }
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
    let source = DomoSource::new(registration(endpoint).unwrap(), None).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let scope = ScopeSet::parse("data").unwrap();
    runtime.block_on(source.fetch(&scope, Duration::from_secs(20)))
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
fn rejection_of_a_login_with_a_slip_names_the_slip() {
    let mut registration = registration(endpoint("https://domo.example/t")).unwrap();
    registration.proxy_login = Some(ProxyLogin {
        user: "ann".to_owned(),
        password: "c4nary ".into(),
    });
    let words = "the proxy answered 407".to_owned();
    let error = hint::with_slip(FetchError::ProxyLogin { words }, &registration);
    let words = "the proxy answered 407; the proxy login ends with a blank; remove it".to_owned();
    assert_eq!(error, FetchError::ProxyLogin { words });
    // The secret has none.
    let denied = |scope_only| FetchError::Denied {
        scope_only,
        words: "Domo answered 401".to_owned(),
    };
    assert_eq!(hint::with_slip(denied(false), &registration), denied(false));
    registration.credentials.client_secret = "\"c4nary\"".into();
    assert_eq!(hint::with_slip(denied(true), &registration), denied(true));
    assert_ne!(hint::with_slip(denied(false), &registration), denied(false));
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
fn a_server_is_trusted_by_the_certificates_of_the_file() {
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
    let Err(FetchError::Transient { cause, words, .. }) = fetched_from(plain) else {
        panic!("it is trusted")
    };
    assert_eq!(cause, Cause::Tls);
    assert!(words.contains("can't be trusted, TLS: "), "{words}");
    assert!(words.contains("UnknownIssuer"), "{words}");
}

#[test]
fn a_failure_names_the_place_and_what_it_came_from() {
    // Taken, so that nobody else comes to listen there.
    let taken = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::try_from(getsockname(&taken).unwrap()).unwrap();
    let closed = endpoint(&format!("http://{address}/oauth/token"));
    let Err(FetchError::Transient { cause, words, .. }) = fetched_from(closed) else {
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
    assert_eq!(transport::place(&through), place);
}

#[test]
fn a_body_is_read_up_to_its_bound_in_however_many_pieces_it_comes() {
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
fn a_registration_tells_whom_it_is_for_and_where() {
    let registration = registration(endpoint("https://domo.example/oauth/token")).unwrap();
    assert_eq!(registration.client_id(), "an-id");
    assert_eq!(registration.token_url(), "https://domo.example/oauth/token");
}

#[test]
fn an_http_client_is_shared_where_ca_proxy_and_its_login_are_the_same() {
    let login = |password: &str| ProxyLogin {
        user: "ann".to_owned(),
        password: password.into(),
    };
    let of = |ca: Option<&str>, proxy: Option<&str>, login: Option<ProxyLogin>| Registration {
        ca: ca.map(|ca| ca.as_bytes().to_vec()),
        proxy_login: login,
        ..registration(Endpoint {
            proxy: proxy.map(|url| url.parse().unwrap()),
            ..endpoint("https://domo.example/oauth/token")
        })
        .unwrap()
    };
    let proxy = Some("http://proxy.example");
    let usual = of(Some("ca"), proxy, Some(login("word")));
    assert!(usual.same_way(&of(Some("ca"), proxy, Some(login("word")))));
    for other in [
        of(None, proxy, Some(login("word"))),
        of(
            Some("ca"),
            Some("http://other.example"),
            Some(login("word")),
        ),
        of(Some("ca"), proxy, Some(login("other"))),
    ] {
        assert!(!usual.same_way(&other), "{other:?}");
    }
}

#[test]
fn certificates_are_those_of_the_file_and_one_there_must_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let certificates = |pem: &str| {
        fs::write(&file, pem).unwrap();
        let endpoint = Endpoint {
            ca_file: Some(file.clone().into()),
            ..endpoint("https://domo.example/oauth/token")
        };
        let found = registration(endpoint).unwrap().certificates();
        found
            .map(|all| all.len())
            .map_err(|error| error.to_string())
    };
    let https = Sandbox::builder().https(true).start().unwrap();
    let pem = https.ca_pem().unwrap();
    assert_eq!(certificates(&pem), Ok(1));
    assert_eq!(certificates(&format!("{pem}{pem}")), Ok(2));
    for (wrong, words) in [
        ("", "no certificate in PEM form in it"),
        ("# nothing\n", "no certificate in PEM form in it"),
        (
            "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n",
            "ca_file",
        ),
    ] {
        let error = certificates(wrong).unwrap_err();
        assert!(error.contains(words) && error.contains("ca.pem"), "{error}");
    }
    let none = registration(endpoint("https://domo.example/oauth/token")).unwrap();
    assert!(none.certificates().unwrap().is_empty());
}

#[test]
fn the_document_has_the_bounds_as_they_are() {
    let document = include_str!("../../../docs/architecture.md");
    let (_, part) = document.split_once("## What is read of an answer").unwrap();
    let seconds = |span: Duration| format!("{} s", span.as_secs());
    let bytes = |count: usize| format!("{count} B");
    let bounds = [
        ("CONNECT_TIMEOUT", seconds(transport::CONNECT_TIMEOUT)),
        ("ERROR_BODY", seconds(ERROR_BODY)),
        ("MAX_BODY", bytes(MAX_BODY)),
        ("MAX_TOKEN", bytes(MAX_TOKEN)),
        ("LIFETIME_ASSUMED", seconds(answer::LIFETIME_ASSUMED)),
        ("LIFETIME_MAX", format!("{} s", answer::LIFETIME_MAX)),
        ("EXPIRY_TOLERANCE", seconds(answer::EXPIRY_TOLERANCE)),
        ("MAX_CODINGS", answer::MAX_CODINGS.to_string()),
        ("MAX_MEMBERS", answer::MAX_MEMBERS.to_string()),
        ("MAX_ITEMS", answer::MAX_ITEMS.to_string()),
        ("MAX_WORDS", answer::MAX_WORDS.to_string()),
    ];
    for (name, value) in bounds {
        let row = format!("| `{name}` | {value} |");
        assert!(part.contains(&row), "{row}");
    }
}

#[test]
fn id_and_secret_are_form_encoded() {
    assert_eq!(form_encode("a b+c:d%é").as_str(), "a+b%2Bc%3Ad%25%C3%A9");
}
