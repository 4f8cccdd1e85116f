//! Anything that can happen to the schedules, in any order, with what must hold after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domo_token_protocol::messages::Renew;
use domo_token_protocol::scope::ScopeSet;

use crate::platform::clock::BootTime;
use domo_token_core::fetch::{Cause, FetchError, Fetched, LifetimeSource};
use domo_token_core::schedule::{Answer, FetchId, Reply, TokenRequest, WaiterId, floor};
use domo_token_core::scheduler::{
    ClientSpec, Command, MAX_IN_FLIGHT, MAX_IN_FLIGHT_PER_CLIENT, Scheduler, SetId,
};

const CLIENTS: [&str; 2] = ["acme", "other"];
const SCOPES: [&str; 4] = ["data", "user", "audit", "data user"];

/// Each byte is an operation or says more of the one before it.
pub fn operations(bytes: &[u8]) {
    let mut run = Run {
        bytes: bytes.iter().copied(),
        scheduler: Scheduler::new(1),
        now: BootTime::from_millis(1_000_000),
        waiters: BTreeMap::new(),
        last_waiter: 0,
        flights: Vec::new(),
        landed: None,
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
    /// Those that wait: the life they need, and by when they must have their answer.
    waiters: BTreeMap<WaiterId, (Duration, BootTime)>,
    last_waiter: u64,
    flights: Vec<Flight>,
    /// A flight that came back already.
    landed: Option<Flight>,
    /// Sets whose last attempt brought a token: when it began, and how long the token lives.
    fresh: BTreeMap<SetId, (BootTime, Duration)>,
}

#[derive(Clone)]
struct Flight {
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
            5 => self.leave(),
            6 => self.land_well(),
            7 => self.land_badly(),
            8 => self.scheduler.retry(self.now),
            _ => self.land_twice(),
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.scheduler.handle_timeout(self.now);
    }

    /// Bits 0 to 3 are scope sets, bits 4 and 5 clients, bits 6 and 7 whose credentials are new.
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
        let (least, patience, renew) = (self.byte(), self.byte(), self.byte());
        let Ok(set) = self.scheduler.find(client, &scope(text)) else {
            return;
        };
        let min_ttl = (least > 0).then(|| Duration::from_secs(u64::from(least) * 20));
        let ask = TokenRequest {
            min_ttl,
            deadline: self.now + Duration::from_millis(u64::from(patience) * 250),
            renew: match renew % 4 {
                0 | 1 => None,
                2 => Some(Renew::Current),
                _ => Some(Renew::Rejected(u64::from(renew))),
            },
        };
        if let Some(Renew::Rejected(generation)) = ask.renew {
            self.scheduler
                .record_rejection(set, generation, "uid 7".to_owned());
        }
        self.last_waiter += 1;
        let waiter = WaiterId(self.last_waiter);
        let least = min_ttl.unwrap_or_default();
        match self.scheduler.request(set, waiter, &ask, self.now) {
            Answer::Now(reply) => decide(&reply, least, self.now),
            Answer::Later => drop(self.waiters.insert(waiter, (least, ask.deadline))),
        }
    }

    fn leave(&mut self) {
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
        // It doesn't say for which set it waits.
        for client in CLIENTS {
            for text in SCOPES {
                if let Ok(set) = self.scheduler.find(client, &scope(text)) {
                    self.scheduler.cancel(set, waiter, self.now);
                }
            }
        }
    }

    fn flight(&mut self) -> Option<Flight> {
        let which = usize::from(self.byte());
        let count = self.flights.len();
        let flight = (count > 0).then(|| self.flights.swap_remove(which % count))?;
        self.landed = Some(flight.clone());
        Some(flight)
    }

    fn land_well(&mut self) {
        let (life, text) = (self.byte(), self.byte());
        let Some(flight) = self.flight() else {
            return;
        };
        let lifetime = Duration::from_secs(1 + u64::from(life) * u64::from(life));
        if self.now < flight.started + lifetime {
            self.fresh.insert(flight.set, (flight.started, lifetime));
        }
        let fetched = Fetched {
            // Now and then the text that is held already.
            text: format!("token-{}-{}", flight.scope, text % 8).into(),
            lifetime,
            expires: None,
            lifetime_source: if text > 200 {
                LifetimeSource::Assumed
            } else {
                LifetimeSource::Stated
            },
            granted: flight.scope.clone(),
        };
        self.land(&flight, Ok(fetched));
    }

    fn land_badly(&mut self) {
        let kind = self.byte();
        let Some(flight) = self.flight() else {
            return;
        };
        let words = "no".to_owned();
        let error = match kind % 4 {
            0 | 1 => FetchError::Denied {
                scope_only: kind % 4 == 1,
                message: words,
            },
            2 => FetchError::transient(Cause::Tls, words),
            _ => FetchError::Transient {
                cause: Cause::RateLimited,
                message: words,
                retry_after: Some(Duration::from_secs(u64::from(kind) * 30)),
            },
        };
        self.fresh.remove(&flight.set);
        self.land(&flight, Err(error));
    }

    /// An answer that has been taken already counts no more.
    fn land_twice(&mut self) {
        if let Some(flight) = self.landed.clone() {
            let error = FetchError::transient(Cause::Connect, "late");
            self.land(&flight, Err(error));
        }
    }

    fn land(&mut self, flight: &Flight, result: Result<Fetched, FetchError>) {
        self.scheduler.handle_timeout(self.now);
        self.scheduler
            .handle_fetched(flight.set, flight.fetch_id, result, self.now);
    }

    fn carry_out(&mut self) {
        while let Some(command) = self.scheduler.poll_command() {
            match command {
                Command::Fetch(set, fetch_id) => self.start(set, fetch_id),
                Command::Abort(set) | Command::Remove(set) => {
                    self.fresh.remove(&set);
                    self.flights.retain(|flight| flight.set != set);
                }
                Command::Reply(waiter, reply) => {
                    let (least, _) = self.waiters.remove(&waiter).expect("it waits");
                    decide(&reply, least, self.now);
                }
                Command::Report(..) | Command::NotifyWatchers(_) => {}
            }
        }
    }

    fn start(&mut self, set: SetId, fetch_id: FetchId) {
        // A set can be gone before its request was sent.
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
        self.flights.push(Flight {
            set,
            fetch_id,
            client,
            scope,
            started: self.now,
        });
    }

    fn check(&self) {
        assert!(self.flights.len() <= MAX_IN_FLIGHT);
        for client in CLIENTS {
            let of_client = self.flights.iter().filter(|flight| flight.client == client);
            assert!(of_client.count() <= MAX_IN_FLIGHT_PER_CLIENT, "{client}");
        }
        let sets: BTreeSet<SetId> = self.flights.iter().map(|flight| flight.set).collect();
        assert_eq!(sets.len(), self.flights.len(), "two requests for one set");
        let due = self.scheduler.poll_timeout();
        let late = |at: &BootTime| due.is_none_or(|due| due > *at) && *at <= self.now;
        let late = self.waiters.values().find(|(_, deadline)| late(deadline));
        assert_eq!(late, None, "a caller is forgotten");
    }
}

fn scope(text: &str) -> ScopeSet {
    ScopeSet::parse(text).expect("it is one")
}

/// Whoever gets a token gets one that lives as long as it asked for.
fn decide(reply: &Reply, least: Duration, now: BootTime) {
    if let Ok(token) = reply {
        let left = token.life().left(now);
        assert!(!left.is_zero() && left >= least, "{left:?} of {least:?}");
    }
}
