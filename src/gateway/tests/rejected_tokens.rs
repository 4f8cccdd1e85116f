//! What happens when the server rejects the token.

use super::*;

const REJECTED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nA: b\r\n\r\nno";
const PASSED: &str = "HTTP/1.1 401 Unauthorized\r\nA: b\r\nContent-Length: 2\r\n";
const LARGE_BODY: usize = 200_000;

fn large_put() -> String {
    let body = "x".repeat(LARGE_BODY);
    let fields = format!("Content-Length: {LARGE_BODY}\r\n");
    request("PUT /v1/datasets/7", &fields, &body)
}

#[tokio::test]
async fn request_is_sent_once_more_with_a_new_token() {
    let fixture = Fixture::new().await;
    let put = request("PUT /v1/datasets/7", "Content-Length: 5\r\n", "hello");
    let (mut app, mut server, head) = fixture.exchange(&put).await;
    assert!(head.contains("\r\nAuthorization: Bearer t0ken-1\r\nContent-Length: 5\r\n\r\n"));
    assert_eq!(server.text(5).await, "hello");
    server.send(REJECTED).await;
    // The first connection is closed before the second request.
    assert_eq!(server.rest().await, "");
    let mut server = fixture.accept().await;
    let (head, body) = server.message().await;
    assert!(head.contains("\r\nAuthorization: Bearer t0ken-2\r\n"));
    assert_eq!(body, "hello");
    server.send(OK).await;
    assert_eq!(
        app.message().await.0,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    );
    let usage = fixture.usage();
    until(|| usage.requests("PUT", "2xx") == 1).await;
    assert_eq!((usage.retries(), usage.requests("PUT", "4xx")), (1, 0));
}

#[tokio::test]
async fn second_rejection_is_passed() {
    let fixture = Fixture::new().await;
    let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    server.send(REJECTED).await;
    let mut server = fixture.accept().await;
    server.head().await;
    server.send(REJECTED).await;
    let (head, body) = app.message().await;
    assert_eq!(head, format!("{PASSED}Domo-Token-Renewed: 1\r\n\r\n"));
    assert_eq!(body, "no");
    // The connection goes on.
    app.send(get("/v1/datasets")).await;
    assert!(server.head().await.contains("t0ken-2"));
    server.send(OK).await;
    assert!(app.message().await.0.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn rejection_is_passed_if_there_is_no_new_token() {
    let fixture = Fixture::with(|timing| timing.token = Duration::from_millis(20)).await;
    let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    fixture.tokens.fails.store(true, Ordering::Relaxed);
    server.send(REJECTED).await;
    let (head, body) = app.message().await;
    assert_eq!(head, format!("{PASSED}\r\n"));
    assert_eq!(body, "no");
}

#[tokio::test]
async fn long_body_that_was_not_started_is_sent_with_a_new_token() {
    let fixture = Fixture::new().await;
    let put = large_put();
    let (mut app, mut server, head) = fixture.exchange(&put).await;
    assert!(head.ends_with("Content-Length: 200000\r\nExpect: 100-continue\r\n\r\n"));
    server.send(REJECTED).await;
    assert_eq!(server.rest().await, "");
    let mut server = fixture.accept().await;
    assert!(server.head().await.contains("t0ken-2"));
    server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(
        server.bytes(LARGE_BODY).await,
        "x".repeat(LARGE_BODY).as_bytes()
    );
    server.send(OK).await;
    let (head, _) = app.message().await;
    assert_eq!(head, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(fixture.usage().retries(), 1);
}

#[tokio::test]
async fn rejection_of_a_body_that_was_started_is_passed() {
    let fixture = Fixture::new().await;
    for received in [1, LARGE_BODY] {
        let put = large_put();
        let mut app = fixture.app().await;
        let (mut reader, mut writer) = app.0.split();
        let sending = async {
            writer.write_all(put.as_bytes()).await.unwrap();
        };
        let serving = async {
            let mut server = fixture.accept().await;
            server.head().await;
            server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            server.bytes(received).await;
            server.send(REJECTED).await;
            let mut rest = Vec::new();
            server.0.read_to_end(&mut rest).await.ok();
        };
        let receiving = async {
            let mut response = vec![0; PASSED.len() + 23];
            reader.read_exact(&mut response).await.unwrap();
            String::from_utf8(response).unwrap()
        };
        let ((), (), response) = tokio::join!(sending, serving, receiving);
        assert_eq!(response, format!("{PASSED}Domo-Token-Renewed: 1\r\n"));
    }
    assert_eq!(fixture.usage().retries(), 0);
}

#[tokio::test]
async fn server_that_never_permits_the_body_receives_it_after_a_while() {
    let fixture = Fixture::with(|timing| timing.permission = Duration::from_millis(20)).await;
    let put = large_put();
    let (mut app, mut server, _) = fixture.exchange(&put).await;
    server.bytes(LARGE_BODY).await;
    server.send(REJECTED).await;
    let (head, body) = app.message().await;
    assert_eq!(head, format!("{PASSED}Domo-Token-Renewed: 1\r\n\r\n"));
    assert_eq!(body, "no");
    // The whole request was read, so the connection stays open.
    app.send(get("/v1/datasets")).await;
    let mut server = fixture.accept().await;
    assert!(server.head().await.contains("t0ken-2"));
}

#[tokio::test]
async fn not_acceptable_is_a_rejection_if_csv_was_asked_for() {
    let fixture = Fixture::new().await;
    let refused = "HTTP/1.1 406 Not Acceptable\r\nContent-Length: 0\r\n\r\n";
    let csv = request("GET /v1/datasets/7/data", "Accept: text/csv\r\n", "");
    let (mut app, mut server, _) = fixture.exchange(&csv).await;
    server.send(refused).await;
    let mut server = fixture.accept().await;
    server.head().await;
    server.send(OK).await;
    assert!(app.message().await.0.starts_with("HTTP/1.1 200 "));
    app.send(get("/v1/datasets/7/data")).await;
    server.head().await;
    server.send(refused).await;
    assert_eq!(app.message().await.0, refused);
}

#[tokio::test]
async fn incomplete_rejection_does_not_delay_the_renewal() {
    let fixture = Fixture::with(|timing| {
        timing.rejection = Duration::from_millis(20);
        timing.token = Duration::from_millis(20);
    })
    .await;
    let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    fixture.tokens.fails.store(true, Ordering::Relaxed);
    server
        .send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 9\r\n\r\nno")
        .await;
    let (head, _) = app.message().await;
    assert_eq!(
        head,
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(server.rest().await, "");
}

#[tokio::test]
async fn long_body_gets_a_token_that_is_valid_for_a_while() {
    let fixture = Fixture::new().await;
    fixture.tokens.lifetime_s.store(100, Ordering::Relaxed);
    fixture.apply("expect = false");
    let (_app, _server, head) = fixture.exchange(&large_put()).await;
    assert!(head.contains("Bearer t0ken-1\r\n") && !head.contains("Expect"));
}
