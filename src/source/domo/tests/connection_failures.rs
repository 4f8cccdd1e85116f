//! Connections that fail, or end before the response does.

use std::net::SocketAddr;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

use super::*;
use crate::connect::tests::tls::{identity, tls_server, with_client_certificates};

#[test]
fn connect_failure_names_address_and_cause() {
    // In use, so that no other process listens there.
    let taken = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::try_from(getsockname(&taken).unwrap()).unwrap();
    let closed = endpoint(&format!("http://{address}/oauth/token"));
    let Err(FetchError::Transient { cause, message, .. }) = fetched_from(closed) else {
        panic!("connected")
    };
    assert_eq!(cause, Cause::Connect);
    let start = format!("cannot connect to {address}: Connection refused");
    assert!(message.starts_with(&start), "{message}");
    let through = Endpoint {
        proxy: "http://proxy.example:3128".parse().ok(),
        ..endpoint("https://domo.example/oauth/token")
    };
    let server_name = "domo.example through the proxy proxy.example:3128";
    assert_eq!(
        connect::display_name(&through.url, through.proxy.as_ref()),
        server_name
    );
}

#[test]
fn request_ends_at_its_limit_and_names_the_step() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}/oauth/token");
    let source = DomoSource::new(registration(endpoint(&url)).unwrap(), &Shared::default());
    let source = source.unwrap();
    let scope = ScopeSet::parse("data").unwrap();
    let result = block_on(source.fetch(&scope, Duration::from_millis(50), &|_| ()));
    let message = transient_message(result, Cause::Timeout);
    assert_eq!(message, format!("no response from {address} in time"));
}

/// Requests a token through a proxy that sends this response to CONNECT.
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

/// Requests a token from a TLS server that sends this and closes TCP without the end of TLS.
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
    transient_message(fetched_without_close_notify(cut), Cause::Unusable);
    let short = answer_with("").strip_suffix('}').unwrap().to_owned();
    let closed = "closed the connection before its response was complete";
    for cut in [short, "HTTP/1.1 200 OK\r\nX: ".to_owned()] {
        let message = transient_message(fetched_without_close_notify(cut), Cause::Connect);
        assert!(message.ends_with(closed), "{message}");
    }
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{TOKEN}\r\n",
        TOKEN.len()
    );
    let message = transient_message(fetched_without_close_notify(chunked), Cause::Connect);
    assert!(message.ends_with(closed), "{message}");
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
    let message = transient_message(fetched_with_ca(&url, &ca), Cause::Tls);
    assert!(
        message.ends_with("requires a client certificate, which is not supported"),
        "{message}"
    );
}

#[test]
fn end_of_a_connection_is_not_blamed_on_a_client_certificate_that_was_requested() {
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{";
    let closed = "closed the connection before its response was complete";
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
        let message = transient_message(fetched_with_ca(&url, &ca), Cause::Connect);
        assert!(message.ends_with(&end), "{message}");
    }
}
