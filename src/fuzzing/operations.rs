//! Random events of the scheduler, and the invariants that must hold after each one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domo_token_protocol::messages::Renew;
use domo_token_protocol::scope::ScopeSet;

use crate::platform::clock::BootTime;
use domo_token_core::fetch_result::{Cause, FetchError, Fetched, LifetimeSource};
use domo_token_core::schedule::{Answer, FetchId, Reply, TokenRequest, WaiterId, floor};
use domo_token_core::scheduler::{
    ClientSpec, Command, MAX_IN_FLIGHT, MAX_IN_FLIGHT_PER_CLIENT, Scheduler, SetId,
};

const CLIENTS: [&str; 2] = ["acme", "other"];
const SCOPES: [&str; 4] = ["data", "user", "audit", "data user"];

/// Each byte is an operation or an argument of the one before it.
pub fn operations(bytes: &[u8]) {
    let mut run = Run {
        bytes: bytes.iter().copied(),
        scheduler: Scheduler::new(1),
        now: BootTime::from_millis(1_000_000),
        waiters: BTreeMap::new(),
        last_waiter: 0,
        in_flight: Vec::new(),
        last_ended: None,
        fresh: BTreeMap::new(),
    };
    run.configure(0xff);
    run.carry_out();
    while let Some(operation) = run.bytes.next() {
        run.step(operation);
        run.carry_out();
        run.check();
    }
}

struct Run<I> {
    bytes: I,
    scheduler: Scheduler,
    now: BootTime,
    /// Waiting callers: how long the token must be valid, and the deadline.
    waiters: BTreeMap<WaiterId, (Duration, BootTime)>,
    last_waiter: u64,
    in_flight: Vec<InFlight>,
    /// A request that has ended already.
    last_ended: Option<InFlight>,
    /// Scope sets whose last attempt obtained a token: when it started, and the token's lifetime.
    fresh: BTreeMap<SetId, (BootTime, Duration)>,
}

#[derive(Clone)]
struct InFlight {
    set: SetId,
    fetch_id: FetchId,
    client: String,
    scope: ScopeSet,
    started: BootTime,
}

impl<I: Iterator<Item = u8>> Run<I> {
    fn byte(&mut self) -> u8 {
        self.bytes.next().unwrap_or_default()
    }

    fn step(&mut self, operation: u8) {
        match operation % 10 {
            0 => {
                let span = Duration::from_millis(u64::from(self.byte()) * 100);
                self.pass(span);
            }
            1 => {
                let span = Duration::from_secs(u64::from(self.byte()) * 60);
                self.pass(span);
            }
            2 => {
                let due = self.scheduler.poll_timeout().unwrap_or(self.now);
                self.pass(due.saturating_since(self.now));
            }
            3 => {
                let wanted = self.byte();
                self.configure(wanted);
            }
            4 => self.request(),
            5 => self.cancel(),
            6 => self.succeed(),
            7 => self.fail(),
            8 => self.scheduler.retry(self.now),
            _ => self.repeat_end(),
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.scheduler.handle_timeout(self.now);
    }

    /// Bits 0 to 3 are scope sets, bits 4 and 5 clients, bits 6 and 7 clients with new credentials.
    fn configure(&mut self, bits: u8) {
        let bit = |number: usize| bits >> number & 1 == 1;
        let mut wanted = Vec::new();
        for (number, name) in CLIENTS.iter().enumerate().filter(|(at, _)| bit(4 + at)) {
            let scopes = SCOPES.iter().enumerate().filter(|(at, _)| bit(*at));
            let scopes: BTreeSet<ScopeSet> = scopes.map(|(_, text)| scope(text)).collect();
            wanted.push(ClientSpec {
                name: (*name).to_owned(),
                shown_id: "441e…".to_owned(),
                scopes,
                renewed: bit(6 + number),
                proxy_login: None,
                loading: None,
                shares: false,
            });
        }
        for wanted in wanted.iter().filter(|wanted| wanted.renewed) {
            for text in SCOPES {
                if let Ok(set) = self.scheduler.find(&wanted.name, &scope(text)) {
                    self.fresh.remove(&set);
                }
            }
        }
        self.scheduler.configure(wanted, self.now);
    }

    fn request(&mut self) {
        let which = usize::from(self.byte());
        let client = CLIENTS.get(which % 2).copied().unwrap_or_default();
        let text = SCOPES.get(which / 2 % 4).copied().unwrap_or_default();
        let (min_left, wait, renew) = (self.byte(), self.byte(), self.byte());
        let Ok(set) = self.scheduler.find(client, &scope(text)) else {
            return;
        };
        let min_ttl = (min_left > 0).then(|| Duration::from_secs(u64::from(min_left) * 20));
        let conditions = TokenRequest {
            min_ttl,
            deadline: self.now + Duration::from_millis(u64::from(wait) * 250),
            renew: match renew % 4 {
                0 | 1 => None,
                2 => Some(Renew::Current),
                _ => Some(Renew::Rejected(u64::from(renew))),
            },
        };
        if let Some(Renew::Rejected(generation)) = conditions.renew {
            self.scheduler
                .record_rejection(set, generation, "uid 7".to_owned());
        }
        self.last_waiter += 1;
        let waiter = WaiterId(self.last_waiter);
        let min_left = min_ttl.unwrap_or_default();
        match self.scheduler.request(set, waiter, &conditions, self.now) {
            Answer::Now(reply) => check_reply(&reply, min_left, self.now),
            Answer::Later => drop(self.waiters.insert(waiter, (min_left, conditions.deadline))),
        }
    }

    fn cancel(&mut self) {
        let which = usize::from(self.byte());
        let waiting = self
            .waiters
            .keys()
            .nth(which % self.waiters.len().max(1))
            .copied();
        let Some(waiter) = waiting else {
            return;
        };
        self.waiters.remove(&waiter);
        // For which scope set it waits is not recorded.
        for client in CLIENTS {
            for text in SCOPES {
                if let Ok(set) = self.scheduler.find(client, &scope(text)) {
                    self.scheduler.cancel(set, waiter, self.now);
                }
            }
        }
    }

    fn take_request(&mut self) -> Option<InFlight> {
        let which = usize::from(self.byte());
        let count = self.in_flight.len();
        let request = (count > 0).then(|| self.in_flight.swap_remove(which % count))?;
        self.last_ended = Some(request.clone());
        Some(request)
    }

    fn succeed(&mut self) {
        let (lifetime, text) = (self.byte(), self.byte());
        let Some(request) = self.take_request() else {
            return;
        };
        let lifetime = Duration::from_secs(1 + u64::from(lifetime) * u64::from(lifetime));
        // At times the token was obtained earlier, by another host.
        let earlier = request.started + lifetime / 2;
        let expires = (text % 3 == 0).then_some(earlier);
        if self.now < expires.unwrap_or(request.started + lifetime) {
            self.fresh.insert(request.set, (request.started, lifetime));
        }
        let fetched = Fetched {
            // At times the same text again.
            text: format!("token-{}-{}", request.scope, text % 8).into(),
            lifetime,
            expires,
            renew_at: None,
            origin: domo_token_core::fetch_result::TokenOrigin::Domo,
            lifetime_source: if text > 200 {
                LifetimeSource::Assumed
            } else {
                LifetimeSource::Stated
            },
            granted: request.scope.clone(),
        };
        self.end(&request, Ok(fetched));
    }

    fn fail(&mut self) {
        let kind = self.byte();
        let Some(request) = self.take_request() else {
            return;
        };
        let message = "no".to_owned();
        let error = match kind % 4 {
            0 | 1 => FetchError::Denied {
                scope_only: kind % 4 == 1,
                in_domos_form: true,
                message,
            },
            2 => FetchError::transient(Cause::Tls, message),
            _ => FetchError::Transient {
                cause: Cause::RateLimited,
                message,
                retry_after: Some(Duration::from_secs(u64::from(kind) * 30)),
            },
        };
        self.fresh.remove(&request.set);
        self.end(&request, Err(error));
    }

    /// The second result of a request does not count.
    fn repeat_end(&mut self) {
        if let Some(request) = self.last_ended.clone() {
            let error = FetchError::transient(Cause::Connect, "late");
            self.end(&request, Err(error));
        }
    }

    fn end(&mut self, request: &InFlight, result: Result<Fetched, FetchError>) {
        self.scheduler.handle_timeout(self.now);
        self.scheduler
            .handle_fetched(request.set, request.fetch_id, result, self.now);
    }

    fn carry_out(&mut self) {
        while let Some(command) = self.scheduler.poll_command() {
            match command {
                Command::Fetch(set, fetch_id) => self.start(set, fetch_id),
                Command::Abort(set) | Command::Remove(set) => {
                    self.fresh.remove(&set);
                    self.in_flight.retain(|request| request.set != set);
                }
                Command::Reply(waiter, reply) => {
                    let (min_left, _) = self.waiters.remove(&waiter).expect("it waits");
                    check_reply(&reply, min_left, self.now);
                }
                Command::Report(..) | Command::NotifyWatchers(_) => {}
            }
        }
    }

    fn start(&mut self, set: SetId, fetch_id: FetchId) {
        // A scope set can be removed before its request is sent.
        let Some((client, scope)) = self.scheduler.name_of(set) else {
            return;
        };
        let (client, scope) = (client.to_owned(), scope.clone());
        if let Some((began, lifetime)) = self.fresh.get(&set) {
            let span = self.now.saturating_since(*began);
            assert!(
                span >= floor(*lifetime),
                "{span:?} after a token of {lifetime:?}"
            );
        }
        self.in_flight.push(InFlight {
            set,
            fetch_id,
            client,
            scope,
            started: self.now,
        });
    }

    fn check(&self) {
        assert!(self.in_flight.len() <= MAX_IN_FLIGHT);
        for client in CLIENTS {
            let of_client = self
                .in_flight
                .iter()
                .filter(|request| request.client == client);
            assert!(of_client.count() <= MAX_IN_FLIGHT_PER_CLIENT, "{client}");
        }
        let sets: BTreeSet<SetId> = self.in_flight.iter().map(|request| request.set).collect();
        assert_eq!(sets.len(), self.in_flight.len(), "two requests for one set");
        let due = self.scheduler.poll_timeout();
        let late = |at: &BootTime| due.is_none_or(|due| due > *at) && *at <= self.now;
        let late = self.waiters.values().find(|(_, deadline)| late(deadline));
        assert_eq!(late, None, "a caller got no reply");
    }
}

fn scope(text: &str) -> ScopeSet {
    ScopeSet::parse(text).expect("it is one")
}

/// A served token is valid for as long as the caller requires.
fn check_reply(reply: &Reply, min_left: Duration, now: BootTime) {
    if let Ok(token) = reply {
        let left = token.validity().left(now);
        assert!(
            !left.is_zero() && left >= min_left,
            "{left:?} of {min_left:?}"
        );
    }
}
