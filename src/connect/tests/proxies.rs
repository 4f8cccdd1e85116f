//! Proxies that open a tunnel, and such that do not.

use super::*;

/// Returns a proxy that responds to each CONNECT with `answer` and then forwards to `target`, if there is one.
fn proxy(answer: &'static [u8], target: Option<String>) -> String {
    server(move |mut stream| {
        let target = target.clone();
        thread::spawn(move || {
            read_head(&mut stream);
            let _ = stream.write_all(answer);
            let Some(target) = target else {
                return;
            };
            let mut behind = TcpStream::connect(target).unwrap();
            let (mut from, mut to) = (stream.try_clone().unwrap(), behind.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut from, &mut to));
            let _ = io::copy(&mut behind, &mut stream);
        });
    })
}

/// Returns the error of connecting through a proxy that responds to CONNECT with `answer`.
fn failure_by(answer: &'static [u8], login: Option<ProxyLogin>) -> ConnectError {
    let address = proxy(answer, None);
    let url = format!("http://{address}").parse().unwrap();
    let connector = connector(None, Some(Proxy { url, login }));
    let mut error = failure(&connector, "https://domo.example/oauth/token");
    error.message = error.message.replace(&address, "ADDRESS");
    error
}

#[test]
fn any_2xx_opens_the_tunnel_whatever_its_head_looks_like() {
    let sandbox = Sandbox::builder().https(true).start().unwrap();
    let (ca, url) = (sandbox.ca_pem().unwrap(), sandbox.token_url());
    let parsed: Url = url.parse().unwrap();
    let long: &str = "a".repeat(60_000).leak();
    let long: &str = format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n").leak();
    for answer in [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 OK\n\n",
        "HTTP/1.1 201 Created\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX Y : z\r\n\r\n",
        long,
    ] {
        let behind = address_of(&parsed);
        let proxy = proxy(answer.as_bytes(), Some(behind));
        let connector = connector(Some(&ca), through(&format!("http://{proxy}")));
        let shown = answer.get(..40.min(answer.len()));
        assert_eq!(first_line(&connector, &url), NOT_FOUND, "{shown:?}");
    }
}

#[test]
fn answer_without_a_tunnel_is_named_with_its_status_and_headers() {
    let error = failure_by(b"HTTP/1.1 429 Too Many\r\nRetry-After: 600\r\n\r\n", None);
    assert_eq!(
        error.message,
        "the proxy ADDRESS returned 429 Too Many to CONNECT"
    );
    let ConnectFailure::Proxy(headers) = error.failure else {
        panic!("{error:?}")
    };
    assert_eq!(headers["retry-after"], "600");
    for (answer, message) in [
        (
            "HTTP/1.1 403 Forbidden\r\n\r\nno",
            "returned 403 Forbidden to CONNECT; ask its operator to allow domo.example",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: x\r\n\r\n",
            "returned 302 Found to CONNECT; it may require a login on a page, which is not supported",
        ),
        ("HTTP/1.1 504\r\n\r\n", "returned 504 to CONNECT"),
        (
            "\x05\u{7f}",
            "does not speak HTTP; it may be a SOCKS proxy, which is not supported; set proxy to an HTTP proxy",
        ),
        (
            "SSH-2.0-x\r\n",
            "does not speak HTTP; check the host and port of proxy",
        ),
        (
            "\x15\x03\x01",
            "speaks TLS, not http; write proxy = \"https://ADDRESS\"",
        ),
        (
            "",
            "closed the connection before it responded to CONNECT; check proxy",
        ),
        (
            "HTTP/1.1 200 OK\r\nX: ",
            "closed the connection before it responded to CONNECT; check proxy",
        ),
    ] {
        let error = failure_by(answer.as_bytes(), None);
        assert_eq!(error.message, format!("the proxy ADDRESS {message}"));
        assert!(
            matches!(error.failure, ConnectFailure::Proxy(_)),
            "{error:?}"
        );
    }
}

#[test]
fn page_instead_of_tls_is_attributed_to_the_proxy() {
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>";
    let error = failure_by(page.as_bytes(), None);
    let message = "returned 200 to CONNECT and then sent a page, not TLS";
    assert!(error.message.contains(message), "{error}");
    // It comes after the first bytes of TLS.
    let behind = server(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"<html>login</html>");
    });
    let proxy = proxy(b"HTTP/1.1 200 OK\r\n\r\n", Some(behind));
    let connector = connector(None, through(&format!("http://{proxy}")));
    let error = failure(&connector, "https://domo.example/");
    assert!(error.message.contains(message), "{error}");
    assert!(
        matches!(error.failure, ConnectFailure::Proxy(_)),
        "{error:?}"
    );
}

#[test]
fn rejected_login_names_the_key_and_what_the_proxy_takes() {
    let login = || {
        Some(ProxyLogin {
            user: "alice".to_owned(),
            password: "100%25sure".into(),
        })
    };
    let ntlm =
        "HTTP/1.1 407 Login\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n";
    let basic = "HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n";
    for (answer, login, message) in [
        (
            ntlm,
            login(),
            "it accepts only NTLM, Negotiate authentication, and only Basic is supported",
        ),
        (
            basic,
            login(),
            "it rejected the login; correct the file of proxy_auth_file",
        ),
        (
            basic,
            None,
            "it requires a login; write user:password to a file and set proxy_auth_file",
        ),
    ] {
        let error = failure_by(answer.as_bytes(), login);
        assert!(
            matches!(error.failure, ConnectFailure::ProxyLogin),
            "{error:?}"
        );
        assert!(error.message.contains(message), "{error}");
        assert!(!error.message.contains("sure"), "{error}");
    }
}

#[test]
fn login_that_a_proxy_sends_back_is_redacted() {
    for (answer, expected) in [
        (
            "407 bad password pwCANARY99x",
            "407 bad password [redacted] to",
        ),
        (
            "407 rejected Basic YWxpY2U6cHdDQU5BUlk5OXg=",
            "407 rejected Basic [redacted] to",
        ),
        (
            "403 no alice:pwCANARY99x, pw%43ANARY99x",
            "403 no [redacted], [redacted] to",
        ),
        (
            "407 x\r\nProxy-Authenticate: pwCANARY99x",
            "only [redacted] authentication",
        ),
    ] {
        let login = ProxyLogin {
            user: "alice".to_owned(),
            password: "pwCANARY99x".into(),
        };
        let answer = format!("HTTP/1.1 {answer}\r\n\r\n").leak();
        let error = failure_by(answer.as_bytes(), Some(login));
        assert!(error.message.contains(expected), "{error}");
        assert!(!error.message.contains("CANARY"), "{error}");
    }
}

#[test]
fn https_proxy_is_trusted_by_the_same_certificates() {
    let sandbox = Sandbox::builder().https(true).start().unwrap();
    let (ca, url) = (sandbox.ca_pem().unwrap(), sandbox.token_url());
    // As a proxy the sandbox answers as it answers any path that it does not have.
    let proxy = through(url.strip_suffix("/oauth/token").unwrap());
    let error = failure(&connector(Some(&ca), proxy), "https://domo.example/");
    assert!(error.message.contains(" to CONNECT"), "{error}");
    let proxy = through(url.strip_suffix("/oauth/token").unwrap());
    let error = failure(&connector(None, proxy), "https://domo.example/");
    assert!(
        error
            .message
            .starts_with("cannot verify the proxy 127.0.0.1:"),
        "{error}"
    );
    assert!(error.message.contains("ca_file must contain"), "{error}");
}

#[test]
fn https_proxy_that_requires_a_client_certificate_is_named() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut identity = tls::identity(|_| ());
        tls::with_client_certificates(&mut identity, version, true);
        let url = tls::tls_server(identity.config, |stream| stream.read(&mut [0; 1]).map(drop));
        let connector = connector(Some(&identity.ca), through(&url));
        let error = failure(&connector, "https://domo.example/");
        let message = "the server requires a client certificate, which is not supported";
        assert!(error.message.ends_with(message), "{error}");
        assert!(error.message.contains("the proxy 127.0.0.1:"), "{error}");
        assert!(matches!(error.failure, ConnectFailure::Tls), "{error:?}");
    }
}

#[test]
fn https_proxy_that_speaks_http_is_distinguished() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let address = server(move |mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        });
        let connector = connector(None, through(&format!("https://{address}")));
        let error = failure(&connector, "https://domo.example/");
        let hint = format!("; if it speaks http, write proxy = \"http://{address}\"");
        assert!(error.message.ends_with(&hint), "{error}");
    }
}
