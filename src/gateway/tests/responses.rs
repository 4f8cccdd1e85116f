//! Responses of the server.

use super::*;

/// Returns what the application receives of that response, up to the end of the connection.
async fn received(fixture: &Fixture, request_line: &str, response: &str) -> String {
    let sent = request(request_line, "Connection: close\r\n", "");
    let (mut app, mut server, _) = fixture.exchange(&sent).await;
    server.send(response).await;
    drop(server);
    app.rest().await
}

#[tokio::test]
async fn framing_of_a_response_is_the_gateways() {
    let fixture = Fixture::new().await;
    let get = "GET /v1/datasets";
    for (line, response, expected) in [
        (
            get,
            "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n",
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        ),
        (
            get,
            "A: b\r\n\r\nto the end",
            "A: b\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\na\r\nto the end\r\n0\r\n\r\n",
        ),
        (
            get,
            "\r\n",
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        ),
        (
            "HEAD /v1/datasets",
            "Content-Length: 7\r\n\r\n",
            "Content-Length: 7\r\nConnection: close\r\n\r\n",
        ),
        (
            "HEAD /v1/datasets",
            "Transfer-Encoding: chunked\r\n\r\n",
            "Connection: close\r\n\r\n",
        ),
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{response}");
        let expected = format!("HTTP/1.1 200 OK\r\n{expected}");
        assert_eq!(received(&fixture, line, &response).await, expected);
    }
    let none = "HTTP/1.1 204 No Content\r\n\r\n";
    let expected = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    assert_eq!(
        received(&fixture, "DELETE /v1/datasets/7", none).await,
        expected
    );
}

#[tokio::test]
async fn incomplete_response_is_recognizable() {
    let fixture = Fixture::new().await;
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc";
    assert_eq!(
        received(&fixture, "GET /v1/datasets", response).await,
        expected
    );
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc";
    let received = received(&fixture, "GET /v1/datasets", response).await;
    assert!(received.ends_with("\r\n\r\n3\r\nabc\r\n"), "{received}");
}

#[tokio::test]
async fn unusable_response_is_a_bad_gateway() {
    let fixture = Fixture::new().await;
    for response in [
        "",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b",
    ] {
        let received = received(&fixture, "GET /v1/datasets", response).await;
        assert!(
            received.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
            "{response}"
        );
        assert!(received.contains("\r\nDomo-Token-Gateway: 1\r\n"));
        assert!(!received.contains("t0ken"));
    }
    let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(70_000));
    let received = received(&fixture, "GET /v1/datasets", &long).await;
    assert!(received.starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
}

#[tokio::test]
async fn location_leads_back_to_the_gateway() {
    let fixture = Fixture::new().await;
    let server = fixture.server.local_addr().unwrap();
    let response = format!(
        "HTTP/1.1 303 See Other\r\nLocation: http://{server}/v1/datasets/8\r\nContent-Length: 0\r\n\r\n"
    );
    let received = received(&fixture, "POST /v1/datasets", &response).await;
    assert!(received.contains("\r\nLocation: http://127.0.0.1:8640/v1/datasets/8\r\n"));
}

#[tokio::test]
async fn slow_application_slows_the_server_down() {
    let fixture = Fixture::new().await;
    let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    let size = 40_000_000;
    server
        .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"))
        .await;
    let mut sent = 0;
    // Nothing is read meanwhile, so that only buffers can take it.
    let part = vec![b'x'; 100_000];
    let sending = async {
        while sent < size {
            sent += server.0.write(&part).await.unwrap();
        }
    };
    assert!(timeout(Duration::from_millis(300), sending).await.is_err());
    assert!(sent < size);
    let sending = async {
        while sent < size {
            let left = part.len().min(size - sent);
            sent += server.0.write(&part[..left]).await.unwrap();
        }
    };
    let receiving = async {
        app.head().await;
        assert!(app.bytes(size).await.iter().all(|byte| *byte == b'x'));
    };
    tokio::join!(sending, receiving);
    until(|| fixture.usage().requests("GET", "2xx") == 1).await;
}

#[tokio::test]
async fn server_that_does_not_answer_is_a_timeout() {
    let fixture = Fixture::with(|timing| {
        timing.response = Duration::from_millis(20);
        timing.idle = Duration::from_millis(50);
    })
    .await;
    let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    let (head, body) = app.message().await;
    assert!(head.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"));
    assert!(body.contains("Domo did not answer in time"));
    assert_eq!(server.rest().await, "");
    // The connection goes on; a response that stops ends it.
    app.send(get("/v1/datasets")).await;
    let mut server = fixture.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        .await;
    assert!(app.rest().await.ends_with("\r\n\r\nabc"));
}
