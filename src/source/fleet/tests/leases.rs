//! Who requests a token while the lease is held.

use super::*;

#[tokio::test]
async fn two_hosts_that_start_together_send_one_request() {
    let world = World::new();
    let (first, second) = (world.host(1), world.host(2));
    world.answer(Duration::from_secs(15), Ok(HOUR));
    let occasion = cold();
    let (one, two) = tokio::join!(obtained(&first, &occasion), obtained(&second, &occasion));
    assert_eq!(world.requests(), 1, "the lease is extended for 15 s");
    assert_eq!(one.text.expose_secret(), two.text.expose_secret());
    assert!(looks(&first, Lookup::Held) + looks(&second, Lookup::Held) > 10);
}

#[tokio::test]
async fn other_host_takes_over_when_the_holder_of_the_lease_is_cancelled() {
    let world = World::new();
    let (first, second) = (world.host(1), world.host(2));
    world.answer(HOUR, Ok(HOUR));
    let occasion = cold();
    let cut = first.fetch(&occasion, &|_| {});
    let cut = world.clock.limit(Duration::from_secs(3), cut).await;
    assert!(cut.is_none());
    assert_eq!(world.store.open_sessions(), 0);
    let start = world.clock.now();
    obtained(&second, &occasion).await;
    let waited = world.clock.now().saturating_since(start);
    assert!(waited < Duration::from_secs(6), "{waited:?}");
    assert_eq!(world.requests(), 2);
}

#[tokio::test]
async fn next_attempt_after_a_failure_does_not_wait_for_the_own_lease() {
    let world = World::new();
    let host = world.host(1);
    world.answer(Duration::from_secs(3), Err(unavailable()));
    let failed = fetch(&host, &cold()).await;
    let Fetch::Failed {
        agreed: Some(agreed),
        ..
    } = failed
    else {
        panic!("{failed:?}");
    };
    world.clock.sleep_until(agreed.at).await;
    world.answer(Duration::from_secs(15), Ok(HOUR));
    let start = world.clock.now();
    // It is extended, so that no other host sends a request meanwhile.
    let (other, occasion) = (world.host(2), cold());
    tokio::join!(obtained(&host, &occasion), obtained(&other, &occasion));
    let took = world.clock.now().saturating_since(start);
    assert!(took < Duration::from_secs(16), "{took:?}");
    assert_eq!((world.requests(), looks(&host, Lookup::Held)), (2, 0));
}
