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
