//! Hosts that share a store in memory, on a clock that waits for no time.

mod leases;
mod store;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use domo_token_core::fetch_result::{Cause, LifetimeSource, TokenOrigin};
use domo_token_core::schedule::FLEET_WAIT;
use domo_token_core::token::{Token, Validity};
use domo_token_protocol::BootTime;
use secrecy::ExposeSecret;
use tokio::sync::watch;

use super::*;
use crate::source::fleet_monitor::Published;
use crate::store::StoreFailure;
use store::{Fault, MemoryStore};

const HOUR: Duration = Duration::from_secs(3600);

/// A clock that moves to the next time that a task waits for when none can run.
#[derive(Clone)]
struct TestClock(Arc<watch::Sender<BootTime>>, Arc<Mutex<Vec<BootTime>>>);

impl TestClock {
    /// Returns a clock that moves while tasks of this runtime run.
    fn start() -> Self {
        let start = BootTime::from_millis(5_000_000);
        let clock = Self(Arc::new(watch::Sender::new(start)), Arc::default());
        let moved = clock.clone();
        tokio::spawn(async move {
            loop {
                for _turn in 0..20 {
                    tokio::task::yield_now().await;
                }
                let now = moved.now();
                let mut due = lock(&moved.1);
                due.retain(|due| *due > now);
                if let Some(next) = due.iter().min() {
                    moved.0.send_replace(*next);
                }
            }
        });
        clock
    }

    fn after(&self, span: Duration) -> BootTime {
        self.now() + span
    }

    async fn pass(&self, span: Duration) {
        self.sleep_until(self.after(span)).await;
    }

    /// Runs `future` for that long at most.
    async fn limit<T>(&self, span: Duration, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = future => Some(done),
            () = self.pass(span) => None,
        }
    }
}

impl Clock for TestClock {
    fn now(&self) -> BootTime {
        *self.0.borrow()
    }

    fn wall(&self) -> Duration {
        Duration::from_secs(1_700_000_000) + self.now().saturating_since(BootTime::default())
    }

    async fn sleep_until(&self, due: BootTime) {
        lock(&self.1).push(due);
        let mut time = self.0.subscribe();
        time.wait_for(|now| *now >= due).await.ok();
    }
}

/// Domo, which all hosts of a test ask.
struct Domo {
    clock: TestClock,
    requests: AtomicU64,
    answers: Mutex<VecDeque<(Duration, Result<Duration, FetchError>)>>,
}

impl TokenSource for Arc<Domo> {
    async fn fetch(
        &self,
        occasion: &Occasion,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Fetch {
        on_progress(Progress::Requested);
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let next = lock(&self.answers).pop_front();
        let (delay, answer) = next.unwrap_or((Duration::from_millis(100), Ok(HOUR)));
        self.clock.pass(delay).await;
        let fetched = answer.map(|lifetime| Fetched {
            text: format!("t0ken-{number}").into(),
            lifetime,
            expires: None,
            renew_at: None,
            origin: TokenOrigin::Domo,
            lifetime_source: LifetimeSource::Stated,
            granted: occasion.scope.clone(),
        });
        fetched.into()
    }
}

type Host = FleetSource<Arc<Domo>, MemoryStore<TestClock>, TestClock>;

/// Hosts, their store and Domo.
struct World {
    clock: TestClock,
    domo: Arc<Domo>,
    store: MemoryStore<TestClock>,
}

impl World {
    fn new() -> Self {
        let clock = TestClock::start();
        Self {
            domo: Arc::new(Domo {
                clock: clock.clone(),
                requests: AtomicU64::new(0),
                answers: Mutex::default(),
            }),
            store: MemoryStore::new(clock.clone()),
            clock,
        }
    }

    fn host(&self, seed: u64) -> Arc<Host> {
        self.host_with(seed, "0123456789abcdef0123456789abcdef")
    }

    fn host_with(&self, seed: u64, secret: &str) -> Arc<Host> {
        let monitor = Arc::new(FleetMonitor::new("memory".to_owned()));
        let rng = fastrand::Rng::with_seed(seed);
        let fleet = Fleet::new(self.store.clone(), self.clock.clone(), monitor, rng);
        let keys = FleetKeys::new(&secret.into(), None, "https://domo/token", "an-id");
        let domo = Arc::clone(&self.domo);
        Arc::new(FleetSource::new(
            domo,
            Arc::new(fleet),
            keys.unwrap(),
            "acme",
        ))
    }

    fn answer(&self, delay: Duration, answer: Result<Duration, FetchError>) {
        lock(&self.domo.answers).push_back((delay, answer));
    }

    fn requests(&self) -> u64 {
        self.domo.requests.load(Ordering::Relaxed)
    }

    /// Lets publications end.
    async fn settle(&self) {
        self.clock.pass(Duration::from_secs(3)).await;
    }

    /// Returns a token that is valid for that long.
    fn held(&self, left: Duration) -> Token {
        let now = self.clock.now();
        let validity = Validity {
            generation: 1,
            obtained: now,
            lifetime: HOUR,
            expires: now + left,
        };
        Token::new("acme", &scope(), &"held".into(), validity).unwrap()
    }
}

fn scope() -> ScopeSet {
    ScopeSet::parse("data").unwrap()
}

fn unavailable() -> FetchError {
    FetchError::transient(Cause::Server, "503")
}

fn cold() -> Occasion {
    Occasion {
        ignores_notes: false,
        ..Occasion::once(scope(), Duration::from_secs(20))
    }
}

fn renewal(held: Token) -> Occasion {
    Occasion {
        held: Some(held),
        is_urgent: false,
        ..cold()
    }
}

async fn fetch(host: &Host, occasion: &Occasion) -> Fetch {
    let limit = FLEET_WAIT + occasion.timeout;
    let fetch = host.fetch(occasion, &|_| {});
    host.fleet.clock.limit(limit, fetch).await.unwrap()
}

async fn obtained(host: &Host, occasion: &Occasion) -> Fetched {
    match fetch(host, occasion).await {
        Fetch::Obtained(fetched) => fetched,
        other @ (Fetch::Failed { .. } | Fetch::Postponed(_)) => panic!("{other:?}"),
    }
}

fn looks(host: &Host, outcome: Lookup) -> u64 {
    let counts = host.fleet().monitor().counts();
    counts.lookups("acme", "data", outcome)
}

fn published(host: &Host, outcome: Published) -> u64 {
    host.fleet().monitor().counts().published(outcome)
}

#[tokio::test]
async fn cold_host_takes_the_stored_token_without_a_request() {
    let world = World::new();
    let (first, second) = (world.host(1), world.host(2));
    let requested = AtomicU64::new(0);
    let count = |_| {
        requested.fetch_add(1, Ordering::Relaxed);
    };
    let own = first.fetch(&cold(), &count).await.into_result().unwrap();
    assert_eq!(requested.swap(0, Ordering::Relaxed), 1);
    // The answer comes before the publication.
    assert_eq!(published(&first, Published::Stored), 0);
    world.settle().await;
    assert_eq!(published(&first, Published::Stored), 1);
    let taken = second.fetch(&cold(), &count).await.into_result().unwrap();
    assert_eq!(requested.load(Ordering::Relaxed), 0, "it sends no request");
    assert_eq!(taken.origin, TokenOrigin::Fleet);
    assert_eq!(taken.text.expose_secret(), own.text.expose_secret());
    assert!(taken.expires < own.expires);
    let counts = [&first, &second].map(|host| Lookup::ALL.map(|outcome| looks(host, outcome)));
    assert_eq!(counts, [[0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]);
    assert_eq!(world.store.open_sessions(), 0);
}

#[tokio::test]
async fn stored_token_that_outlives_the_obtained_one_is_not_replaced() {
    let world = World::new();
    let (first, second) = (world.host(1), world.host(2));
    world.answer(Duration::from_secs(1), Ok(HOUR / 2));
    let occasion = cold();
    // The second host fetches without the lease, which is lost.
    let slow = async { obtained(&first, &occasion).await };
    let quick = async {
        world.clock.pass(Duration::from_millis(500)).await;
        world.store.lose_lease();
        obtained(&second, &occasion).await
    };
    tokio::join!(slow, quick);
    world.settle().await;
    assert_eq!(published(&first, Published::Outlived), 1);
    assert_eq!(published(&second, Published::Stored), 1);
    let third = obtained(&world.host(3), &occasion).await;
    assert_eq!(third.text.expose_secret(), "t0ken-2");
}

#[tokio::test]
async fn failure_of_domo_is_adopted_and_removed_by_a_success() {
    let world = World::new();
    let (first, second) = (world.host(1), world.host(2));
    let error = FetchError::Transient {
        cause: Cause::Server,
        message: "503".to_owned(),
        retry_after: Some(Duration::from_secs(60)),
    };
    world.answer(Duration::from_secs(1), Err(error));
    let own = fetch(&first, &cold()).await;
    let Fetch::Failed {
        agreed: Some(own), ..
    } = own
    else {
        panic!("{own:?}");
    };
    world.settle().await;
    let adopted = fetch(&second, &cold()).await;
    let Fetch::Failed {
        agreed: Some(agreed),
        ..
    } = adopted
    else {
        panic!("{adopted:?}");
    };
    assert_eq!((agreed.failures, world.requests()), (1, 1));
    let later = Duration::from_secs(4);
    assert!(agreed.at + Duration::from_secs(1) >= own.at && agreed.at <= own.at + later);
    assert_eq!(looks(&second, Lookup::Note), 1);
    // A reload ignores it.
    let reload = Occasion {
        ignores_notes: true,
        ..cold()
    };
    obtained(&second, &reload).await;
    world.settle().await;
    assert!(!world.store.has_note());
}

#[tokio::test]
async fn rejected_proxy_login_is_not_shared() {
    let world = World::new();
    let message = "407".to_owned();
    world.answer(
        Duration::from_secs(1),
        Err(FetchError::ProxyLogin { message }),
    );
    let failed = fetch(&world.host(1), &cold()).await;
    assert!(matches!(failed, Fetch::Failed { agreed: None, .. }));
    world.settle().await;
    assert!(!world.store.has_note());
}

#[tokio::test]
async fn record_that_does_not_open_is_counted_once_and_replaced() {
    let world = World::new();
    let (first, second) = (world.host(1), world.host(2));
    obtained(&first, &cold()).await;
    world.settle().await;
    world.store.damage_token();
    world.store.lose_lease();
    obtained(&second, &cold()).await;
    assert_eq!(
        Lookup::ALL.map(|outcome| looks(&second, outcome)),
        [0, 0, 0, 0, 0, 1]
    );
    world.settle().await;
    obtained(&world.host(3), &cold()).await;
    assert_eq!(world.requests(), 2);
}

#[tokio::test]
async fn store_that_fails_postpones_a_renewal_once_and_is_left_alone_meanwhile() {
    let world = World::new();
    let host = world.host(1);
    world.store.set(Fault::Fails);
    let occasion = renewal(world.held(HOUR / 4));
    let postponed = fetch(&host, &occasion).await;
    assert!(matches!(postponed, Fetch::Postponed(_)), "{postponed:?}");
    assert_eq!((world.store.looks(), world.requests()), (1, 0));
    // Within ten seconds there is no look, and what is obtained is not published.
    obtained(&host, &occasion).await;
    assert_eq!((world.store.looks(), world.requests()), (1, 1));
    world.store.set(Fault::None);
    world.clock.pass(Duration::from_secs(10)).await;
    obtained(&host, &cold()).await;
    world.settle().await;
    assert_eq!(published(&host, Published::Stored), 1);
    assert!(host.fleet().monitor().fleet_state().is_up);
}

/// Gets tokens of six scope sets without one, one after the other, and returns how long that takes.
async fn time_for_six_scope_sets(world: &World, host: &Arc<Host>) -> Duration {
    let start = world.clock.now();
    for name in ["data", "user", "audit", "workflow", "buzz", "account"] {
        let occasion = Occasion {
            scope: ScopeSet::parse(name).unwrap(),
            ..cold()
        };
        obtained(host, &occasion).await;
    }
    world.clock.now().saturating_since(start)
}

#[tokio::test]
async fn waits_of_scope_sets_without_a_token_do_not_add_up_while_the_store_fails() {
    let world = World::new();
    let host = world.host(1);
    world.store.set(Fault::Fails);
    let took = time_for_six_scope_sets(&world, &host).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(world.requests(), 6);
}

#[tokio::test]
async fn waits_for_leases_that_never_end_do_not_add_up() {
    let world = World::new();
    let host = world.host(1);
    world.store.set(Fault::KeepsLeases);
    let took = time_for_six_scope_sets(&world, &host).await;
    assert!(took < Duration::from_secs(40), "{took:?}");
}

#[tokio::test]
async fn token_that_another_host_has_written_shows_that_the_store_can_be_used() {
    let world = World::new();
    let (host, other) = (world.host(1), world.host(2));
    world.store.set(Fault::ReadOnly);
    obtained(&host, &cold()).await;
    world.settle().await;
    assert!(!host.fleet().monitor().fleet_state().is_up);
    world.store.set(Fault::None);
    world.clock.pass(Duration::from_secs(60)).await;
    obtained(&other, &cold()).await;
    world.settle().await;
    let taken = obtained(&host, &cold()).await;
    assert_eq!(taken.origin, TokenOrigin::Fleet);
    assert!(host.fleet().monitor().fleet_state().is_up);
}

#[tokio::test]
async fn read_only_store_counts_as_failed_until_a_write_succeeds() {
    let world = World::new();
    let host = world.host(1);
    // Callers wait, so the request is not delayed.
    let occasion = Occasion {
        held: Some(world.held(HOUR / 4)),
        ..cold()
    };
    world.store.set(Fault::ReadOnly);
    for (looks, pause) in [(1, 10), (2, 20), (3, 40)] {
        obtained(&host, &occasion).await;
        assert_eq!(world.store.looks(), looks);
        assert!(!host.fleet().monitor().fleet_state().is_up);
        world.clock.pass(Duration::from_secs(pause - 4)).await;
        obtained(&host, &occasion).await;
        assert_eq!(
            world.store.looks(),
            looks,
            "the breaker is open for {pause} s"
        );
        world.clock.pass(Duration::from_secs(4)).await;
    }
    let failures = host
        .fleet()
        .monitor()
        .counts()
        .failures(StoreFailure::ReadOnly);
    assert_eq!((failures, looks(&host, Lookup::Failed)), (3, 3));
    world.store.set(Fault::None);
    obtained(&host, &occasion).await;
    assert!(host.fleet().monitor().fleet_state().is_up);
}

#[tokio::test]
async fn short_lived_token_is_not_shared_nor_its_failures() {
    let world = World::new();
    let host = world.host(1);
    world.answer(Duration::ZERO, Ok(Duration::from_secs(19)));
    obtained(&host, &cold()).await;
    world.answer(Duration::ZERO, Err(unavailable()));
    let failed = fetch(&host, &cold()).await;
    assert!(matches!(failed, Fetch::Failed { agreed: None, .. }));
    world.settle().await;
    assert_eq!((world.store.looks(), world.requests()), (1, 2));
    assert!(!world.store.has_note() && !world.store.has_token());
}

#[tokio::test]
async fn hosts_with_other_secrets_share_nothing() {
    let world = World::new();
    obtained(&world.host(1), &cold()).await;
    world.settle().await;
    let other = world.host_with(2, "fedcba9876543210fedcba9876543210");
    obtained(&other, &cold()).await;
    assert_eq!(world.requests(), 2);
}
