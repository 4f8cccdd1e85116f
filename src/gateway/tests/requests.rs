//! Which requests are forwarded, and how.

use super::*;

#[tokio::test]
async fn get_is_forwarded_with_the_token_of_domo() {
    let fixture = Fixture::new().await;
    let fields = "Accept: application/json\r\nX-Forwarded-For: 1.2.3.4\r\nCookie: a=b\r\n\
                  Keep-Alive: 5\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX_Under: 1\r\n";
    let get = request("GET /v1/datasets/?limit=5&a=%20b", fields, "");
    let (mut app, mut server, head) = fixture.exchange(&get).await;
    let host = fixture.server.local_addr().unwrap();
    assert_eq!(
        head,
        format!(
            "GET /v1/datasets/?limit=5&a=%20b HTTP/1.1\r\nHost: {host}\r\n\
             Accept: application/json\r\nAuthorization: Bearer t0ken-1\r\n\r\n"
        )
    );
    server
        .send("HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nSet-Cookie: c=d\r\nETag: x\r\n\r\nhello")
        .await;
    let (head, body) = app.message().await;
    assert_eq!(
        head,
        "HTTP/1.1 200 Fine\r\nETag: x\r\nContent-Length: 5\r\n\r\n"
    );
    assert_eq!(body, "hello");
    let usage = fixture.usage();
    until(|| usage.requests("GET", "2xx") == 1).await;
    assert_eq!(usage.connections(), 1);
}

/// Returns what the application receives for a request that is not forwarded, up to the end of the connection.
async fn refused(fixture: &Fixture, request: &str) -> String {
    let mut app = fixture.app().await;
    app.send(request).await;
    let (head, body) = app.message().await;
    assert!(head.contains("\r\nDomo-Token-Gateway: 1\r\n"), "{head}");
    head + &body
}

#[tokio::test]
async fn request_without_a_valid_local_token_is_unauthorized() {
    let fixture = Fixture::new().await;
    let expired = local_token("data", 3599);
    let mut forged = local_token("data", 0);
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'E' } else { 'A' });
    for login in [
        String::new(),
        format!("Authorization: Bearer {expired}\r\n"),
        format!("Authorization: Bearer {forged}\r\n"),
        "Authorization: Bearer t0ken-1\r\n".to_owned(),
        "Authorization: Basic ZXRsOng=\r\n".to_owned(),
    ] {
        let request = format!("GET /v1/datasets HTTP/1.1\r\nHost: localhost\r\n{login}\r\n");
        let response = refused(&fixture, &request).await;
        assert!(
            response.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
            "{login}"
        );
    }
    assert_eq!(fixture.usage().requests("GET", "4xx"), 0);
}

#[tokio::test]
async fn request_that_no_rule_or_scope_permits_is_forbidden() {
    let fixture = Fixture::new().await;
    for (line, cause) in [
        ("GET /v1/pages", "no rule"),
        ("POST /v1/users", "no rule"),
        ("GET /v1/users/7", "needs the scopes user"),
    ] {
        let response = refused(&fixture, &request(line, "", "")).await;
        assert!(response.starts_with("HTTP/1.1 403 Forbidden\r\n"));
        assert!(response.contains(cause), "{response}");
    }
    let usage = fixture.usage();
    assert_eq!(
        (usage.requests("GET", "4xx"), usage.requests("POST", "4xx")),
        (2, 1)
    );
}

#[tokio::test]
async fn invalid_request_is_refused_and_closes_the_connection() {
    let fixture = Fixture::new().await;
    for (line, fields, status) in [
        ("GET /v1/datasets/../users", "", "400"),
        ("GET /v2/datasets", "", "404"),
        ("GET http://api.domo.com/v1/datasets", "", "400"),
        ("GET /v1/datasets", "Host: localhost\r\n", "400"),
        ("GET /v1/datasets", "Upgrade: h2c\r\n", "400"),
        ("GET /v1/datasets", "Origin: http://localhost\r\n", "403"),
        ("GET /v1/datasets", "Transfer-Encoding: gzip\r\n", "501"),
        ("GET /v1/datasets", "Expect: more\r\n", "417"),
        (
            "GET /v1/datasets",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "400",
        ),
    ] {
        let mut app = fixture.app().await;
        app.send(request(line, fields, "")).await;
        let response = app.rest().await;
        let start = format!("HTTP/1.1 {status} ");
        assert!(response.starts_with(&start), "{line} {fields}: {response}");
        assert!(response.contains("\r\nConnection: close\r\n"));
    }
}

#[tokio::test]
async fn refused_body_is_discarded() {
    let fixture = Fixture::new().await;
    let body = "x".repeat(5_000_000);
    let fields = format!("Content-Length: {}\r\n", body.len());
    let mut app = fixture.app().await;
    app.send(request("PUT /v1/pages", &fields, &body)).await;
    let (head, _) = app.message().await;
    assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"));
    assert!(head.contains("\r\nConnection: close\r\n"));
}

#[tokio::test]
async fn request_without_a_token_of_domo_is_unavailable() {
    let fixture = Fixture::with(|timing| timing.token = Duration::from_millis(20)).await;
    fixture.tokens.fails.store(true, Ordering::Relaxed);
    let response = refused(&fixture, &get("/v1/datasets")).await;
    assert!(
        response.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{response}"
    );
    assert!(response.contains("\r\nRetry-After: ") && response.contains("Domo answered 503"));
    assert_eq!(fixture.usage().requests("GET", "5xx"), 1);
}

#[tokio::test]
async fn each_request_of_a_connection_needs_its_own_valid_token() {
    let fixture = Fixture::new().await;
    let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    server.send(OK).await;
    app.message().await;
    let other = get("/v1/datasets").replace("Bearer ey", "Bearer eX");
    app.send(other).await;
    assert!(app.message().await.0.starts_with("HTTP/1.1 401 "));
    app.send(request("GET /v1/users", "", "")).await;
    assert!(app.message().await.0.starts_with("HTTP/1.1 403 "));
    app.send(get("/v1/datasets")).await;
    assert!(server.head().await.contains("Bearer t0ken-1\r\n"));
}
