//! Connections on both sides, stop and reload.

use super::*;
use crate::audit::Audit;
use crate::config::Naming;
use crate::connect::tests::tls::identity;
use crate::platform::clock::timer_now;

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_over_one_connection() {
    let fixture = Fixture::new().await;
    let paths = ["/v1/datasets/1", "/v1/datasets/2", "/v1/datasets/3"];
    let all: String = paths.iter().map(|path| get(path)).collect();
    let (mut app, mut server, head) = fixture.exchange(&all).await;
    assert!(head.starts_with("GET /v1/datasets/1 "));
    for (number, _) in paths.iter().enumerate() {
        if number > 0 {
            let line = format!("GET {} ", paths[number]);
            assert!(server.head().await.starts_with(&line));
        }
        server
            .send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}"
            ))
            .await;
        assert_eq!(app.message().await.1, number.to_string());
    }
}

#[tokio::test]
async fn kept_connection_that_the_server_closed_is_replaced() {
    let fixture = Fixture::new().await;
    let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    server.send(OK).await;
    app.message().await;
    drop(server);
    app.send(get("/v1/datasets")).await;
    let mut server = fixture.accept().await;
    server.head().await;
    server.send(OK).await;
    assert!(app.message().await.0.starts_with("HTTP/1.1 200 "));
    assert_eq!(fixture.usage().retries(), 0);
}

#[tokio::test]
async fn request_that_was_sent_is_not_repeated() {
    let fixture = Fixture::new().await;
    let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    server.send(OK).await;
    app.message().await;
    app.send(get("/v1/datasets")).await;
    server.head().await;
    drop(server);
    let (head, body) = app.message().await;
    assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
    assert!(
        body.contains("closed the connection before its response was complete"),
        "{body}"
    );
}

#[tokio::test]
async fn connection_is_not_kept_if_the_server_ends_it_or_sends_more() {
    let fixture = Fixture::new().await;
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ] {
        let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
        server.send(response).await;
        assert_eq!(app.message().await.1, "{}");
        assert_eq!(server.rest().await, "");
    }
}

#[tokio::test]
async fn unreachable_server_is_a_bad_gateway() {
    let mut fixture = Fixture::new().await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(std::mem::replace(&mut fixture.server, other));
    let mut app = fixture.app().await;
    app.send(get("/v1/datasets")).await;
    let (head, body) = app.message().await;
    assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
    assert!(body.contains("cannot connect to 127.0.0.1:"), "{body}");
}

#[tokio::test]
async fn application_that_disconnects_ends_its_request() {
    let fixture = Fixture::new().await;
    let (app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    drop(app);
    assert_eq!(server.rest().await, "");
    let (app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        .await;
    drop(app);
    assert_eq!(server.rest().await, "");
    let usage = fixture.usage();
    until(|| usage.connections() == 0).await;
    assert_eq!(
        (usage.requests("GET", "4xx"), usage.requests("GET", "2xx")),
        (1, 1)
    );
}

#[tokio::test]
async fn stop_closes_idle_connections_and_finishes_requests() {
    let mut fixture = Fixture::new().await;
    let (mut idle, mut kept, _) = fixture.exchange(&get("/v1/datasets")).await;
    kept.send(OK).await;
    idle.message().await;
    let mut app = fixture.app().await;
    app.send(get("/v1/datasets")).await;
    kept.head().await;
    let mut new = fixture.app().await;
    fixture.stop.cancel();
    assert_eq!(idle.rest().await, "");
    assert_eq!(new.rest().await, "");
    kept.send(OK).await;
    assert_eq!(app.rest().await, OK);
    timeout(PATIENCE, &mut fixture.serving)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn request_on_an_idle_connection_just_after_the_stop_is_answered() {
    let fixture = Fixture::new().await;
    let (mut idle, mut kept, _) = fixture.exchange(&get("/v1/datasets")).await;
    kept.send(OK).await;
    idle.message().await;
    fixture.stop.cancel();
    idle.send(get("/v1/datasets")).await;
    kept.head().await;
    kept.send(OK).await;
    let (head, _) = idle.message().await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("\r\nConnection: close\r\n"),
        "{head}"
    );
    assert_eq!(idle.rest().await, "");
}

#[tokio::test]
async fn stop_ends_what_takes_too_long() {
    let mut fixture = Fixture::with(|timing| timing.stop = Duration::from_millis(20)).await;
    let (mut app, _server, _) = fixture.exchange(&get("/v1/datasets")).await;
    fixture.stop.cancel();
    assert_eq!(app.rest().await, "");
    timeout(PATIENCE, &mut fixture.serving)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn removed_application_finishes_its_response() {
    let fixture = Fixture::new().await;
    let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        .await;
    app.head().await;
    assert_eq!(app.text(3).await, "abc");
    fixture.gateway.apply(GatewaySettings::default());
    assert!(fixture.gateway.0.broker.apps().is_empty());
    server.send("def").await;
    assert_eq!(app.text(3).await, "def");
    app.send(get("/v1/datasets")).await;
    assert!(
        app.message()
            .await
            .0
            .starts_with("HTTP/1.1 401 Unauthorized\r\n")
    );
}

#[tokio::test]
async fn reload_keeps_usage_and_connections() {
    let fixture = Fixture::new().await;
    let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    server.send(OK).await;
    app.message().await;
    let usage = fixture.usage();
    fixture.apply("expect = false");
    assert!(Arc::ptr_eq(&usage, &fixture.usage()));
    app.send(get("/v1/datasets")).await;
    server.head().await;
}

#[tokio::test]
async fn head_must_arrive_in_time_and_be_of_limited_size() {
    let fixture = Fixture::with(|timing| timing.first_head = Duration::from_millis(50)).await;
    let mut silent = fixture.app().await;
    assert_eq!(silent.rest().await, "");
    let mut slow = fixture.app().await;
    slow.send("GET /v1/datasets HTTP/1.1\r\n").await;
    assert!(
        slow.rest()
            .await
            .starts_with("HTTP/1.1 408 Request Timeout\r\n")
    );
    let mut large = fixture.app().await;
    large
        .send(format!(
            "GET /v1/datasets HTTP/1.1\r\nA: {}",
            "a".repeat(70_000)
        ))
        .await;
    assert!(large.rest().await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn application_can_use_tls() {
    let fixture = Fixture::new().await;
    let identity = identity(|_| ());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut settings = fixture.settings("");
    settings.tls = Some(Arc::new(identity.config));
    fixture.gateway.apply(settings);
    let listeners = Listeners {
        http: Vec::new(),
        tls: vec![listener],
    };
    let (running, until) = (fixture.gateway.clone(), fixture.stop.clone());
    let serving = tokio::spawn(async move { running.serve(listeners, until).await });
    let ca = Some((identity.ca.as_bytes(), "ca.pem"));
    let shared = connect::Shared::default();
    let connector = connect::Connector::new(&shared, ca, None, Naming::Keys).unwrap();
    let url = format!("https://{address}").parse().unwrap();
    let deadline = timer_now() + PATIENCE;
    let app = connector.connect(&url, deadline, &|| ()).await.unwrap();
    let mut app = app.stream;
    app.write_all(get("/v1/datasets").as_bytes()).await.unwrap();
    let mut server = fixture.accept().await;
    server.head().await;
    let host = fixture.server.local_addr().unwrap();
    let size = 1_000_000;
    server
        .send(format!(
            "HTTP/1.1 200 OK\r\nLocation: http://{host}/a\r\nContent-Length: {size}\r\n\r\n"
        ))
        .await;
    server.send("x".repeat(size)).await;
    let head = format!(
        "HTTP/1.1 200 OK\r\nLocation: https://127.0.0.1:8640/a\r\nContent-Length: {size}\r\n\r\n"
    );
    let mut response = vec![0; head.len() + size];
    app.read_exact(&mut response).await.unwrap();
    assert!(response.starts_with(head.as_bytes()) && response.ends_with(b"xxx"));
    fixture.stop.cancel();
    let mut rest = Vec::new();
    app.read_to_end(&mut rest).await.ok();
    serving.await.unwrap();
}

#[tokio::test]
async fn requests_with_a_valid_local_token_are_in_the_audit() {
    let fixture = Fixture::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let (audit, writer) = Audit::open(&path).unwrap();
    let writer = tokio::spawn(writer.run());
    fixture.gateway.0.broker.audit_to(audit.clone());
    let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets/7?a=b")).await;
    server.send(OK).await;
    app.message().await;
    app.send(get("/v1/pages")).await;
    app.message().await;
    app.send("GET /v1/datasets HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    app.message().await;
    audit.finish(writer).await;
    let lines = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let entry = "\"app\":\"etl\",\"client\":\"acme\",\"method\":\"GET\",\"path\":";
    assert!(lines[0].ends_with(&format!("{entry}\"/v1/datasets/7\",\"status\":200}}")));
    assert!(lines[1].ends_with(&format!("{entry}\"/v1/pages\",\"status\":403}}")));
}

#[tokio::test]
async fn kept_connection_is_checked_by_a_task_without_budget() {
    let fixture = Fixture::new().await;
    let (mut app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    server.send(OK).await;
    app.message().await;
    let upstream = Arc::clone(&fixture.gateway.state().apps["etl"].upstream);
    until(|| upstream.kept() == 1).await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nP01S0N")
        .await;
    // The runtime learns that there is something to read.
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
    let mut connecting = std::pin::pin!(upstream.connection());
    let mut is_exhausted = false;
    let link = std::future::poll_fn(|context| {
        while !is_exhausted {
            let budget = std::pin::pin!(tokio::task::consume_budget());
            is_exhausted = budget.poll(context).is_pending();
        }
        connecting.as_mut().poll(context)
    });
    assert!(!link.await.unwrap().is_reused);
}
