use std::collections::BTreeSet;

use domo_token_client::wire::{Asked, RefusalKind, TokenRequest};

use super::super::Place;
use super::*;
use crate::clock::SystemClock;
use crate::policy::Caller;
use crate::source::Cause;

/// Answers at once, or never, or breaks.
enum Stub {
    Fails,
    Hangs,
    Panics,
}

impl TokenSource for Stub {
    async fn fetch(&self, _scope: &ScopeSet) -> Result<Fetched, FetchError> {
        match self {
            Self::Fails => Err(FetchError::transient(Cause::Server, "503")),
            Self::Hangs => pending().await,
            Self::Panics => panic!("a source with a bug"),
        }
    }
}

fn client(source: Stub, renewed: bool) -> Clients<Stub> {
    let wanted = Wanted {
        name: "acme".to_owned(),
        shown_id: String::new(),
        scopes: BTreeSet::from([ScopeSet::parse("data").unwrap()]),
        renewed,
        loading: None,
    };
    vec![(wanted, Some(Arc::new(source)))]
}

fn engine(source: Stub) -> (Broker<SystemClock>, Engine<Stub, SystemClock>, Helm<Stub>) {
    let broker = Broker::new(SystemClock::new(), 1, About::default());
    let (engine, helm) = Engine::new(&broker, client(source, true));
    (broker, engine, helm)
}

/// One turn of the loop.
async fn turn(engine: &mut Engine<Stub, SystemClock>) {
    engine.carry_out();
    let event = engine.next_event().await;
    engine.apply(event);
}

#[tokio::test]
async fn a_request_that_is_over_leaves_nothing_behind() {
    let (_broker, mut engine, _helm) = engine(Stub::Fails);
    engine.carry_out();
    assert_eq!(engine.aborts.len(), 1);
    turn(&mut engine).await;
    assert_eq!((engine.aborts.len(), engine.flights.len()), (0, 0));
}

#[tokio::test]
async fn a_request_given_up_does_not_take_its_successors_handle_with_it() {
    let (_broker, mut engine, _helm) = engine(Stub::Fails);
    engine.carry_out();
    // It has its answer, and isn't heard before the new credentials are.
    tokio::task::yield_now().await;
    let new = Order::Configure(client(Stub::Hangs, true), Box::default());
    engine.apply(Event::Order(new));
    engine.carry_out();
    assert_eq!(engine.flights.len(), 2);
    turn(&mut engine).await;
    assert_eq!((engine.aborts.len(), engine.flights.len()), (1, 1));
    engine.apply(Event::Order(Order::Configure(Vec::new(), Box::default())));
    turn(&mut engine).await;
    assert_eq!((engine.aborts.len(), engine.flights.len()), (0, 0));
}

#[tokio::test]
async fn a_source_that_panics_costs_its_own_request_alone() {
    let (broker, mut engine, _helm) = engine(Stub::Panics);
    turn(&mut engine).await;
    assert!(engine.flights.is_empty());
    let (parts, _) = broker.status(&Caller::default(), &Place::default());
    assert_eq!(parts.len(), 3);
}

#[tokio::test]
async fn a_loop_is_known_to_live_by_its_turns_alone() {
    let (_broker, mut engine, helm) = engine(Stub::Hangs);
    let mut beat = Box::pin(helm.beat());
    for turned in [false, true] {
        if turned {
            turn(&mut engine).await;
        }
        let lives = tokio::select! {
            biased;
            () = &mut beat => true,
            () = std::future::ready(()) => false,
        };
        assert_eq!(lives, turned);
    }
}

#[tokio::test]
async fn who_waited_for_a_set_that_is_gone_is_counted_and_nothing_of_the_set_is_left() {
    let (broker, mut engine, _helm) = engine(Stub::Hangs);
    engine.carry_out();
    let request = TokenRequest {
        asked: Asked {
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
    engine.apply(Event::Order(Order::Configure(Vec::new(), Box::default())));
    engine.carry_out();
    assert_eq!(waiting.await.unwrap_err().kind, RefusalKind::Gone);
    let tally = &broker.state().tally;
    assert_eq!(tally.strangers, BTreeMap::from([("gone", 1)]));
    assert!(tally.sets.is_empty());
}
