//! The token endpoint.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn login(secret: &[u8], query: &str) -> String {
    let pair = STANDARD.encode([b"etl:", secret].concat());
    format!(
        "GET /oauth/token?grant_type=client_credentials{query} HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Basic {pair}\r\n\r\n"
    )
}

#[tokio::test]
async fn local_token_is_issued_and_accepted() {
    let fixture = Fixture::new().await;
    let mut app = fixture.app().await;
    app.send(login(SECRET, "&scope=data")).await;
    let (head, body) = app.message().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    let token = body.split('"').nth(3).unwrap();
    app.send(format!(
        "GET /v1/datasets HTTP/1.1\r\nHost: localhost\r\nAuthorization: bearer {token}\r\n\r\n"
    ))
    .await;
    let mut server = fixture.accept().await;
    assert!(server.head().await.contains("Bearer t0ken-1\r\n"));
    assert_eq!(fixture.usage().connections(), 1);
}

#[tokio::test]
async fn post_with_a_body_is_read_like_a_query() {
    let fixture = Fixture::new().await;
    let pair = STANDARD.encode([b"etl:", SECRET].concat());
    let mut app = fixture.app().await;
    let body = "grant_type=client_credentials&scope=user";
    let length = body.len();
    app.send(format!(
        "POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {pair}\r\n\
         Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    ))
    .await;
    assert_eq!(app.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    app.send(body).await;
    let (head, body) = app.message().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{body}");
    assert!(body.contains("\"scope\":\"user\""));
    let long = "x".repeat(9000);
    app.send(format!(
        "POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n{long}"
    ))
    .await;
    assert!(
        app.rest()
            .await
            .starts_with("HTTP/1.1 413 Content Too Large\r\n")
    );
}

#[tokio::test]
async fn wrong_secret_and_scope_are_a_bad_request() {
    let fixture = Fixture::new().await;
    let mut app = fixture.app().await;
    app.send(login(b"wrong", "")).await;
    let (head, body) = app.message().await;
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"));
    assert!(body.contains("\"error\":\"invalid_client\""));
    app.send(login(SECRET, "&scope=audit")).await;
    let (head, body) = app.message().await;
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"));
    assert!(body.contains("\"error\":\"invalid_scope\""));
}
