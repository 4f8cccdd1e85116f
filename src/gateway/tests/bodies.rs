//! Bodies of requests.

use super::*;

const PERMISSION: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// Returns bytes of which each part is different.
fn pattern(size: usize) -> Vec<u8> {
    let byte = |at: usize| u8::try_from((at * 7 + at / 251) % 256).unwrap();
    (0..size).map(byte).collect()
}

/// Returns a chunked body, whose chunks have different sizes, with an extension and a trailer.
fn chunked(bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut rest = bytes;
    for size in [1, 10, 70_000, 3, 4096, 65_536, 1000].iter().cycle() {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        if chunk.is_empty() {
            break;
        }
        body.extend_from_slice(format!("{:X};a=b\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
        rest = after;
    }
    body.extend_from_slice(b"0\r\nX-Trailer: 1\r\n\r\n");
    body
}

/// Receives a chunked body without extensions and trailers.
async fn dechunked(peer: &mut Peer) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(peer.bytes(1).await);
        }
        let line = String::from_utf8(line).unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        body.extend(peer.bytes(size).await);
        assert_eq!(peer.text(2).await, "\r\n");
        if size == 0 {
            return body;
        }
    }
}

#[tokio::test]
async fn short_chunked_body_is_sent_with_its_length() {
    let fixture = Fixture::new().await;
    let body = chunked(&pattern(1000));
    let mut put = request(
        "POST /v1/datasets",
        "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n",
        "",
    );
    let mut app = fixture.app().await;
    app.send(&put).await;
    assert_eq!(app.head().await, PERMISSION);
    app.send(&body).await;
    let mut server = fixture.accept().await;
    let head = server.head().await;
    assert!(head.ends_with("\r\nContent-Length: 1000\r\n\r\n"), "{head}");
    assert!(!head.contains("Expect"));
    assert_eq!(server.bytes(1000).await, pattern(1000));
    server.send(OK).await;
    app.message().await;
    // If there is no body, the server receives its length, 0.
    put = request("POST /v1/datasets", "", "");
    app.send(put).await;
    assert!(
        server
            .head()
            .await
            .ends_with("\r\nContent-Length: 0\r\n\r\n")
    );
}

#[tokio::test]
async fn long_chunked_body_is_sent_in_chunks() {
    let fixture = Fixture::new().await;
    let content = pattern(1_000_000);
    let body = chunked(&content);
    let mut app = fixture.app().await;
    app.send(request(
        "POST /v1/datasets",
        "Transfer-Encoding: chunked\r\n",
        "",
    ))
    .await;
    let (mut reader, mut writer) = app.0.split();
    let sending = async {
        for part in body.chunks(9999) {
            writer.write_all(part).await.unwrap();
        }
    };
    let serving = async {
        let mut server = fixture.accept().await;
        let head = server.head().await;
        let end = "\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
        assert!(head.ends_with(end), "{head}");
        server.send(PERMISSION).await;
        let received = dechunked(&mut server).await;
        assert!(received == content);
        server.send(OK).await;
        server
    };
    let receiving = async {
        let mut response = vec![0; OK.len()];
        reader.read_exact(&mut response).await.unwrap();
        assert_eq!(response, OK.as_bytes());
    };
    let ((), _server, ()) = tokio::join!(sending, serving, receiving);
}

#[tokio::test]
async fn application_that_asks_waits_for_the_server() {
    let fixture = Fixture::new().await;
    let fields = "Content-Length: 70000\r\nExpect: 100-Continue\r\n";
    let (mut app, mut server, head) = fixture
        .exchange(&request("PUT /v1/datasets/7", fields, ""))
        .await;
    assert!(head.ends_with("\r\nExpect: 100-continue\r\n\r\n"));
    server
        .send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        .await;
    server.send(PERMISSION).await;
    assert_eq!(app.head().await, PERMISSION);
    app.send("y".repeat(70_000)).await;
    server.bytes(70_000).await;
    server.send(OK).await;
    assert_eq!(app.text(OK.len()).await, OK);
    until(|| {
        fixture
            .usage()
            .bytes(crate::broker::app_usage::Direction::Sent)
            == 70_000
    })
    .await;
}

#[tokio::test]
async fn server_that_rejects_a_body_is_passed_before_it_is_read() {
    let fixture = Fixture::new().await;
    let fields = "Content-Length: 70000\r\nExpect: 100-continue\r\n";
    let (mut app, mut server, _) = fixture
        .exchange(&request("PUT /v1/datasets/7", fields, ""))
        .await;
    server
        .send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        .await;
    let expected =
        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(app.rest().await, expected);
}

#[tokio::test]
async fn early_response_arrives_although_the_server_stops_reading() {
    let fixture = Fixture::new().await;
    let size = 30_000_000;
    let fields = format!("Content-Length: {size}\r\n");
    let mut app = fixture.app().await;
    app.send(request("PUT /v1/datasets/7", &fields, "")).await;
    let (mut reader, mut writer) = app.0.split();
    let sending = async {
        let part = vec![0; 1_000_000];
        for _ in 0..size / part.len() {
            writer.write_all(&part).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    let serving = async {
        let mut server = fixture.accept().await;
        server.head().await;
        server.send(PERMISSION).await;
        server.bytes(100_000).await;
        server
            .send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
            .await;
        server
    };
    let receiving = async {
        let mut response = Vec::new();
        reader.read_to_end(&mut response).await.unwrap();
        let response = String::from_utf8(response).unwrap();
        assert!(
            response.ends_with("\r\nConnection: close\r\n\r\nbig"),
            "{response}"
        );
    };
    let work = async { tokio::join!(sending, serving, receiving) };
    timeout(PATIENCE, work).await.unwrap();
}

#[tokio::test]
async fn invalid_chunks_are_rejected() {
    let fixture = Fixture::new().await;
    let mut app = fixture.app().await;
    let body = "5\r\nhelloX\r\n";
    app.send(request(
        "POST /v1/datasets",
        "Transfer-Encoding: chunked\r\n",
        body,
    ))
    .await;
    assert!(app.head().await.starts_with("HTTP/1.1 400 Bad Request\r\n"));
    // Also after the start of a long one was sent.
    let mut app = fixture.app().await;
    let start = format!("{:x}\r\n{}\r\n", 70_000, "x".repeat(70_000));
    app.send(request(
        "POST /v1/datasets",
        "Transfer-Encoding: chunked\r\n",
        &start,
    ))
    .await;
    let mut server = fixture.accept().await;
    server.head().await;
    server.send(PERMISSION).await;
    server.bytes(70_000).await;
    app.send("x").await;
    assert!(app.head().await.starts_with("HTTP/1.1 400 Bad Request\r\n"));
    assert!(!server.rest().await.contains("0\r\n\r\n"));
}

#[tokio::test]
async fn body_that_does_not_arrive_ends_the_request() {
    let fixture = Fixture::with(|timing| timing.idle = Duration::from_millis(50)).await;
    for (length, permitted) in [(10, false), (70_000, true)] {
        let fields = format!("Content-Length: {length}\r\n");
        let mut app = fixture.app().await;
        app.send(request("PUT /v1/datasets/7", &fields, "abc"))
            .await;
        let mut servers = Vec::new();
        if permitted {
            let mut server = fixture.accept().await;
            server.head().await;
            server.send(PERMISSION).await;
            servers.push(server);
        }
        assert!(
            app.head()
                .await
                .starts_with("HTTP/1.1 408 Request Timeout\r\n")
        );
    }
}
