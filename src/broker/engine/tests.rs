use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use domo_token_protocol::messages::{RefusalKind, Response, TokenRequest, TokenSubject};
use domo_token_protocol::scope::ScopeSet;

use super::super::{AccessTables, StatusCursor};
use super::*;
use crate::audit::Audit;
use crate::platform::clock::SystemClock;
use domo_token_core::access_policy::{Access, Caller};
use domo_token_core::fetch::Occasion;
use domo_token_core::fetch_result::{Cause, FetchError, Fetched, LifetimeSource};

/// Responds immediately, never, or panics.
enum Stub {
    Grants,
    Fails,
    Hangs,
    /// Waits for a token of another host, without a request.
    Waits,
    Panics,
}

impl TokenSource for Stub {
    async fn fetch(
        &self,
        occasion: &Occasion,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Fetch {
        if !matches!(self, Self::Waits) {
            on_progress(Progress::Requested);
        }
        match self {
            Self::Grants => Fetch::Obtained(Fetched {
                text: "c4nary-token".into(),
                lifetime: Duration::from_secs(3599),
                expires: None,
                renew_at: None,
                origin: domo_token_core::fetch_result::TokenOrigin::Domo,
                lifetime_source: LifetimeSource::Stated,
                granted: occasion.scope.clone(),
            }),
            Self::Fails => Err(FetchError::transient(Cause::Server, "503")).into(),
            Self::Hangs | Self::Waits => pending().await,
            Self::Panics => panic!("a source with a bug"),
        }
    }
}

fn client(source: Stub, renewed: bool) -> Clients<Stub> {
    client_of("acme", source, renewed)
}

fn client_of(name: &str, source: Stub, renewed: bool) -> Clients<Stub> {
    let spec = ClientSpec {
        name: name.to_owned(),
        shown_id: String::new(),
        scopes: BTreeSet::from([ScopeSet::parse("data").unwrap()]),
        renewed,
        proxy_login: None,
        loading: None,
        shares: false,
    };
    vec![(spec, Some(Arc::new(source)))]
}

fn engine(
    source: Stub,
) -> (
    Broker<SystemClock>,
    Engine<Stub, SystemClock>,
    EngineHandle<Stub>,
) {
    let broker = Broker::new(SystemClock::new(), 1, BrokerConfig::default());
    let (engine, handle) = Engine::new(&broker, client(source, true));
    (broker, engine, handle)
}

/// Turns of the loop until an event that is no progress of a request.
async fn turn(engine: &mut Engine<Stub, SystemClock>) {
    loop {
        engine.execute_commands();
        let event = engine.next_event().await;
        let is_progress = matches!(event, Event::Progress(..));
        engine.apply(event);
        if !is_progress {
            return;
        }
    }
}

/// Turns of the loop until `done` is.
async fn turn_until<T>(engine: &mut Engine<Stub, SystemClock>, done: impl Future<Output = T>) -> T {
    let mut done = std::pin::pin!(done);
    loop {
        engine.execute_commands();
        tokio::select! {
            biased;
            result = &mut done => return result,
            event = engine.next_event() => drop(engine.apply(event)),
        }
    }
}

#[tokio::test]
async fn completed_request_leaves_no_entry() {
    let (_broker, mut engine, _handle) = engine(Stub::Fails);
    engine.execute_commands();
    assert_eq!(engine.aborts.len(), 1);
    turn(&mut engine).await;
    assert_eq!((engine.aborts.len(), engine.requests.len()), (0, 0));
}

#[tokio::test]
async fn request_is_counted_before_its_end() {
    let (broker, mut engine, _handle) = engine(Stub::Fails);
    engine.execute_commands();
    let requests = |broker: &Broker<SystemClock>| {
        let now = broker.0.clock.now();
        let status = broker.state().scheduler.status(now).next().unwrap();
        status.requests
    };
    assert_eq!(requests(&broker), 0, "nothing is sent yet");
    turn(&mut engine).await;
    assert_eq!(requests(&broker), 1);
    engine.execute_commands();
    let state = broker.state();
    let counts = state.counters.sets.values().next().unwrap();
    assert_eq!(counts.failures["server"], 1);
}

#[tokio::test]
async fn aborted_request_keeps_the_handle_of_its_successor() {
    let (_broker, mut engine, _handle) = engine(Stub::Fails);
    engine.execute_commands();
    // Its response has arrived, and is not applied before the new credentials are.
    tokio::task::yield_now().await;
    let new = EngineMessage::Configure(client(Stub::Hangs, true), Box::default());
    engine.apply(Event::Message(new));
    engine.execute_commands();
    assert_eq!(engine.requests.len(), 2);
    turn(&mut engine).await;
    assert_eq!((engine.aborts.len(), engine.requests.len()), (1, 1));
    engine.apply(Event::Message(EngineMessage::Configure(
        Vec::new(),
        Box::default(),
    )));
    turn(&mut engine).await;
    assert_eq!((engine.aborts.len(), engine.requests.len()), (0, 0));
}

#[tokio::test]
async fn other_source_of_the_same_credentials_ends_a_wait_but_no_request() {
    for (before, is_ended) in [(Stub::Waits, true), (Stub::Hangs, false)] {
        let (_broker, mut engine, _handle) = engine(before);
        engine.execute_commands();
        // What it reports arrives before the config.
        tokio::task::yield_now().await;
        let running = engine.aborts.values().next().unwrap().0;
        let other = client(Stub::Hangs, false);
        engine.apply(Event::Message(EngineMessage::Configure(
            other,
            Box::default(),
        )));
        engine.execute_commands();
        let now_running = engine.aborts.values().next().unwrap().0;
        assert_eq!(running != now_running, is_ended);
    }
}

#[tokio::test]
async fn panicking_source_fails_only_its_own_request() {
    let (broker, mut engine, _handle) = engine(Stub::Panics);
    turn(&mut engine).await;
    assert!(engine.requests.is_empty());
    let (page, next) = broker.status(&Caller::default(), &StatusCursor::default());
    assert!(matches!(
        page[..],
        [Response::Broker(_), Response::Scope(_)]
    ));
    assert!(next.is_none());
}

#[tokio::test]
async fn ping_is_answered_only_when_the_loop_turns() {
    let (_broker, mut engine, handle) = engine(Stub::Hangs);
    let mut ping = Box::pin(handle.ping());
    for turned in [false, true] {
        if turned {
            turn(&mut engine).await;
        }
        let is_running = tokio::select! {
            biased;
            () = &mut ping => true,
            () = std::future::ready(()) => false,
        };
        assert_eq!(is_running, turned);
    }
}

#[tokio::test]
async fn waiter_of_a_removed_scope_set_is_counted_and_the_scope_set_leaves_no_entry() {
    let (broker, mut engine, _handle) = engine(Stub::Hangs);
    engine.execute_commands();
    let request = TokenRequest {
        subject: TokenSubject {
            client: Some("acme".to_owned()),
            scope: "data".to_owned(),
        },
        min_ttl_ms: None,
        time_left_ms: 60_000,
        renew: None,
    };
    let caller = Caller::default();
    let mut waiting = Box::pin(broker.token(&request, &caller));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("there is no token yet"),
        () = std::future::ready(()) => {}
    }
    engine.apply(Event::Message(EngineMessage::Configure(
        Vec::new(),
        Box::default(),
    )));
    engine.execute_commands();
    assert_eq!(waiting.await.unwrap_err().kind, RefusalKind::Gone);
    let counters = &broker.state().counters;
    assert_eq!(counters.unmatched, BTreeMap::from([("gone", 1)]));
    assert!(counters.sets.is_empty());
}

/// Returns a broker with the clients `acme`, which returns tokens, and `other`, and with `acme` as default.
fn engine_of_two() -> (
    Broker<SystemClock>,
    Engine<Stub, SystemClock>,
    EngineHandle<Stub>,
) {
    let broker = Broker::new(SystemClock::new(), 1, default_client("acme"));
    let acme = client(Stub::Grants, true);
    let other = client_of("other", Stub::Hangs, true);
    let (engine, handle) = Engine::new(&broker, acme.into_iter().chain(other).collect());
    (broker, engine, handle)
}

fn default_client(name: &str) -> BrokerConfig {
    BrokerConfig {
        default_client: Some(name.to_owned()),
        ..BrokerConfig::default()
    }
}

/// Returns the config with `other` as default, whose sets nobody may have.
fn change_default_client() -> EngineMessage<Stub> {
    let clients = client(Stub::Grants, false).into_iter();
    let config = BrokerConfig {
        access: AccessTables(BTreeMap::from([("other".to_owned(), Access::default())])),
        ..default_client("other")
    };
    let other = client_of("other", Stub::Hangs, false);
    EngineMessage::Configure(clients.chain(other).collect(), Box::new(config))
}

fn data_of_default() -> TokenSubject {
    TokenSubject {
        client: None,
        scope: "data".to_owned(),
    }
}

/// Returns the clients and outcomes in an audit that is over.
async fn recorded(
    path: &std::path::Path,
    audit: Audit,
    writer: crate::audit::Writer,
) -> Vec<String> {
    audit.finish(tokio::spawn(writer.run())).await;
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("{} {}", line["client"], line["outcome"])
    });
    lines.collect()
}

#[tokio::test]
async fn waiting_caller_is_recorded_under_the_client_that_was_default_when_it_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let (audit, writer) = Audit::open(&path).unwrap();
    let (broker, mut engine, _handle) = engine_of_two();
    broker.audit_to(audit.clone());
    let request = TokenRequest {
        subject: data_of_default(),
        min_ttl_ms: None,
        time_left_ms: 60_000,
        renew: None,
    };
    let caller = Caller::default();
    let mut waiting = Box::pin(broker.token(&request, &caller));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("there is no token yet"),
        () = std::future::ready(()) => {}
    }
    engine.apply(Event::Message(change_default_client()));
    turn_until(&mut engine, waiting).await.unwrap();
    assert_eq!(
        recorded(&path, audit, writer).await,
        ["\"acme\" \"served\""]
    );
}

#[tokio::test]
async fn watch_keeps_its_client_when_the_default_client_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let (audit, writer) = Audit::open(&path).unwrap();
    let (broker, mut engine, _handle) = engine_of_two();
    broker.audit_to(audit.clone());
    let caller = Caller::default();
    let mut watch = broker.watch(&data_of_default(), &caller).unwrap();
    engine.apply(Event::Message(change_default_client()));
    let token = turn_until(&mut engine, watch.next()).await.unwrap();
    watch.confirm(token, &caller).unwrap();
    broker.watch(&data_of_default(), &caller).unwrap_err();
    assert_eq!(
        recorded(&path, audit, writer).await,
        ["\"acme\" \"served\"", "\"other\" \"not_permitted\""]
    );
}
