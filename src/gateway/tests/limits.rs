//! Limits on connections.

use super::*;
use crate::gateway::limits::MAX_PER_APP;

#[tokio::test]
async fn application_has_a_limited_number_of_connections() {
    let fixture = Fixture::new().await;
    let mut open = Vec::new();
    for _ in 0..MAX_PER_APP {
        let mut app = fixture.app().await;
        app.send(get("/v1/datasets")).await;
        open.push(app);
    }
    let usage = fixture.usage();
    until(|| usage.connections() == MAX_PER_APP).await;
    let mut late = fixture.app().await;
    late.send(get("/v1/datasets")).await;
    let rest = late.rest().await;
    assert!(
        rest.starts_with("HTTP/1.1 429 Too Many Requests\r\n"),
        "{rest}"
    );
    assert!(rest.contains("\r\nRetry-After: 1\r\n") && rest.contains("\r\nConnection: close\r\n"));
    drop(open.pop());
    until(|| usage.connections() < MAX_PER_APP).await;
}

#[tokio::test]
async fn connection_without_credentials_makes_room_for_a_newer_one() {
    let fixture = Fixture::new().await;
    let mut oldest = fixture.app().await;
    let mut others = Vec::new();
    for _ in 0..32 {
        others.push(fixture.app().await);
    }
    assert_eq!(oldest.rest().await, "");
    let (_app, mut server, _) = fixture.exchange(&get("/v1/datasets")).await;
    server.send(OK).await;
}
