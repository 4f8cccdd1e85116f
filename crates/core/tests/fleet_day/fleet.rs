//! The fleet: runs a day of events, and counts.

use std::fmt;
use std::time::Duration;

use domo_token_core::fetch::Fetch;
use domo_token_core::fetch_result::{Cause, FetchError, Fetched};
use domo_token_core::fleet::{
    EXTEND_EVERY, FleetFetch, LEASE, Looked, Publication, Step, StoreFailed, StoreTime,
};
use domo_token_core::schedule::FetchId;
use secrecy::ExposeSecret;

use crate::domo::{Domo, Outage};
use crate::events::Events;
use crate::host::{Due, Host, Running, boot_time, engine_ms, virtual_ms};
use crate::store::{Answer, Engine, EngineFault, Operation};
use crate::{DAY, IN_STEP};

const HOSTS: usize = 1_000;

/// The time limit of an operation on the store, in milliseconds.
const STORE_LIMIT_MS: u64 = 1_000;

/// What happens on the day.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Hosts start within this time.
    pub(crate) start_spread: Duration,
    /// Wall clocks are wrong by at most this.
    pub(crate) skew: Duration,
    pub(crate) domo: Vec<Outage>,
    /// When the engine fails, for how many seconds, and how.
    pub(crate) engine: Vec<(u64, u64, EngineFault)>,
    /// When a replica of the engine takes over; half of them lose the last write.
    pub(crate) failovers: Vec<u64>,
    /// How many hosts cannot reach Domo.
    pub(crate) without_way: usize,
    /// Whether hosts restart, each about every four hours.
    pub(crate) restarts: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            start_spread: Duration::ZERO,
            skew: IN_STEP,
            domo: Vec::new(),
            engine: Vec::new(),
            failovers: Vec::new(),
            without_way: 0,
            restarts: false,
        }
    }
}

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Report {
    requests: Vec<u64>,
    pub(crate) tokens_obtained: usize,
    /// Tokens that a host would have served after their expiry.
    pub(crate) expired_served: usize,
    /// How often a host's token expired more than a second before its successor.
    pub(crate) without_token: usize,
    looks: usize,
}

impl Report {
    pub(crate) fn requests(&self) -> usize {
        self.requests.len()
    }

    /// Returns the largest number of requests within that many seconds.
    pub(crate) fn most_within(&self, seconds: u64) -> usize {
        let mut first = 0;
        let mut most = 0;
        for (position, at) in self.requests.iter().enumerate() {
            while self.requests[first] + seconds * 1_000 <= *at {
                first += 1;
            }
            most = most.max(position - first + 1);
        }
        most
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, at most {} in 1 s, {} in 10 s, {} in 60 s; {} expired tokens served; \
             {} times without a token; {} looks at the store",
            self.requests(),
            self.most_within(1),
            self.most_within(10),
            self.most_within(60),
            self.expired_served,
            self.without_token,
            self.looks
        )
    }
}

enum Event {
    Start,
    Stop,
    Timer(domo_token_protocol::BootTime),
    /// An operation reaches the engine, which answers at that time, or too late.
    Arrived(Sent, Option<u64>),
    Answered(Sent, Result<(Answer, u64), StoreFailed>),
    Waited(FetchId),
    Responded(FetchId, Result<Fetched, FetchError>),
    ExtensionDue(FetchId),
    FailOver {
        loses_writes: bool,
    },
}

/// An operation that a host has sent.
#[derive(Clone)]
struct Sent {
    operation: Operation,
    asked_ms: u64,
    purpose: Purpose,
}

/// What the answer to an operation is for.
#[derive(Clone)]
enum Purpose {
    Fetch(FetchId),
    /// The look before a publication.
    Publish(std::rc::Rc<Publication>),
    Nothing,
}

pub(crate) struct Fleet {
    plan: Plan,
    rng: fastrand::Rng,
    now_ms: u64,
    /// Each with its host and the epoch of that.
    events: Events<(usize, u32, Event)>,
    hosts: Vec<Host>,
    engine: Engine,
    domo: Domo,
    report: Report,
}

impl Fleet {
    pub(crate) fn new(mut plan: Plan) -> Self {
        let mut rng = fastrand::Rng::with_seed(plan.seed);
        let skew = i64::try_from(plan.skew.as_millis()).unwrap();
        let hosts = (0..HOSTS)
            .map(|number| Host::new(number, rng.i64(-skew..=skew), number >= plan.without_way));
        let hosts = hosts.collect();
        let domo = Domo::new(std::mem::take(&mut plan.domo));
        Self {
            rng,
            now_ms: 0,
            events: Events::new(),
            hosts,
            engine: Engine::default(),
            domo,
            report: Report::default(),
            plan,
        }
    }

    pub(crate) fn run(mut self) -> Report {
        let spread = u64::try_from(self.plan.start_spread.as_millis()).unwrap();
        for host in 0..HOSTS {
            // Processes that are started at the same time are not ready within the same millisecond.
            let at = self.rng.u64(0..=spread.max(50));
            self.events.add(at, (host, 0, Event::Start));
        }
        for at in std::mem::take(&mut self.plan.failovers) {
            let loses_writes = self.rng.bool();
            let event = Event::FailOver { loses_writes };
            self.events.add(at * 1_000, (0, 0, event));
        }
        while let Some((at, (host, epoch, event))) = self.events.next() {
            if at >= DAY * 1_000 {
                break;
            }
            self.now_ms = at;
            self.apply(host, epoch, event);
        }
        self.report.tokens_obtained = self.domo.tokens();
        self.report.requests = self.domo.requests;
        self.report
    }

    fn apply(&mut self, host: usize, epoch: u32, event: Event) {
        match event {
            // The engine executes what a host has sent before its end.
            Event::Arrived(sent, answers_at) => {
                return self.arrived(host, epoch, sent, answers_at);
            }
            Event::FailOver { loses_writes } => return self.engine.fail_over(loses_writes),
            Event::Start => return self.start(host),
            _ if self.hosts[host].epoch != epoch => return,
            Event::Stop => return self.stop(host),
            Event::Timer(due) => self.hosts[host].handle_timeout(due, self.now_ms),
            Event::Answered(sent, answer) => self.answered(host, sent, answer),
            Event::Waited(id) => {
                if let Some(running) = self.running(host, id) {
                    let step = running.fetch.waited();
                    self.execute(host, step);
                }
            }
            Event::Responded(id, result) => self.responded(host, id, result),
            Event::ExtensionDue(id) => {
                if self.running(host, id).is_some() {
                    self.extend_later(host, id);
                    self.send(host, Operation::Extend { lease: LEASE }, Purpose::Nothing);
                }
            }
        }
        self.follow(host);
    }

    fn start(&mut self, host: usize) {
        self.hosts[host].start(host, self.now_ms);
        if self.plan.restarts {
            let hours = -4.0 * (1.0 - self.rng.f64()).ln();
            let runs = Duration::from_secs_f64((hours * 3600.0).min(1e6));
            let runs_ms = u64::try_from(runs.as_millis()).unwrap();
            let epoch = self.hosts[host].epoch;
            self.events
                .add(self.now_ms + runs_ms + 1, (host, epoch, Event::Stop));
        }
        self.follow(host);
    }

    fn stop(&mut self, host: usize) {
        self.hosts[host].stop();
        let absent = self.rng.u64(1_000..30_000);
        let epoch = self.hosts[host].epoch;
        self.events
            .add(self.now_ms + absent, (host, epoch, Event::Start));
    }

    fn running(&mut self, host: usize, id: FetchId) -> Option<&mut Running> {
        let running = self.hosts[host].running.as_mut();
        running.filter(|running| running.fetch_id == id)
    }

    /// Carries out what the host's scheduler decides.
    fn follow(&mut self, host: usize) {
        while let Some(due) = self.hosts[host].next_due() {
            match due {
                Due::Timer(due) => {
                    let at = virtual_ms(due).max(self.now_ms);
                    let epoch = self.hosts[host].epoch;
                    self.events.add(at, (host, epoch, Event::Timer(due)));
                    return;
                }
                Due::Fetch(set, fetch_id) => {
                    let now = boot_time(self.now_ms);
                    let Some(occasion) = self.hosts[host].occasion(set, self.now_ms) else {
                        continue;
                    };
                    let timeout = occasion.timeout;
                    let of = &mut self.hosts[host];
                    let may_look = !of.breaker.is_open(now);
                    let (fetch, step) =
                        FleetFetch::start(of.id, occasion, of.memory, may_look, now, &mut of.rng);
                    of.running = Some(Running {
                        set,
                        fetch_id,
                        fetch,
                        sent: None,
                        timeout,
                    });
                    self.execute(host, step);
                }
            }
        }
    }

    fn execute(&mut self, host: usize, step: Step) {
        let Some(running) = &self.hosts[host].running else {
            return;
        };
        let (id, timeout) = (running.fetch_id, running.timeout);
        let epoch = self.hosts[host].epoch;
        match step {
            Step::Look => self.send(host, Operation::Look, Purpose::Fetch(id)),
            Step::Claim(lease) => {
                self.send(host, Operation::Claim { lease }, Purpose::Fetch(id));
            }
            Step::Extend => {
                self.send(host, Operation::Extend { lease: LEASE }, Purpose::Fetch(id));
            }
            Step::Wait(until) | Step::WaitAlone(until) => {
                let at = virtual_ms(until);
                self.events.add(at, (host, epoch, Event::Waited(id)));
            }
            Step::Request { is_extended } => {
                self.hosts[host].requested(self.now_ms);
                let (at, result) = if self.hosts[host].has_way {
                    self.domo.request(self.now_ms, timeout, &mut self.rng)
                } else {
                    let error = FetchError::transient(Cause::Connect, "no such host");
                    (self.now_ms + 50, Err(error))
                };
                self.events
                    .add(at, (host, epoch, Event::Responded(id, result)));
                if is_extended {
                    self.extend_later(host, id);
                }
            }
            Step::End(end) => {
                self.hosts[host].memory = end.memory;
                self.count(host, &end.fetch);
                self.hosts[host].ended(end.fetch, self.now_ms);
                let may_publish = !self.hosts[host].breaker.is_open(boot_time(self.now_ms));
                if let Some(publication) = end.publication.filter(|_| may_publish) {
                    let purpose = Purpose::Publish(publication.into());
                    self.send(host, Operation::Look, purpose);
                }
            }
        }
    }

    fn extend_later(&mut self, host: usize, id: FetchId) {
        let every = u64::try_from(EXTEND_EVERY.as_millis()).unwrap();
        let epoch = self.hosts[host].epoch;
        self.events
            .add(self.now_ms + every, (host, epoch, Event::ExtensionDue(id)));
    }

    fn count(&mut self, host: usize, fetch: &Fetch) {
        let Fetch::Obtained(fetched) = fetch else {
            return;
        };
        let until = fetched.expires.unwrap();
        let expires = boot_time(self.domo.expiry_of(fetched.text.expose_secret()));
        self.report.expired_served += usize::from(until > expires);
        let now = boot_time(self.now_ms);
        let before = self.hosts[host].served_until.replace(until);
        let gap = before.map(|before| now.saturating_since(before));
        let is_long = gap.is_some_and(|gap| gap > Duration::from_secs(1));
        self.report.without_token += usize::from(is_long);
    }

    fn send(&mut self, host: usize, operation: Operation, purpose: Purpose) {
        if matches!(operation, Operation::Look) {
            self.report.looks += 1;
        }
        let sent = Sent {
            operation,
            asked_ms: self.now_ms,
            purpose,
        };
        let epoch = self.hosts[host].epoch;
        let now = self.now_ms;
        let second = now / 1_000;
        let faults = self.plan.engine.iter();
        let fault = faults
            .filter(|(from, seconds, _)| (*from..from + seconds).contains(&second))
            .map(|(_, _, fault)| *fault)
            .next();
        let takes = match fault {
            None => self.rng.u64(1..10),
            Some(EngineFault::Slow) => self.rng.u64(300..1_500),
            Some(EngineFault::Refuses | EngineFault::Hangs) => {
                let refuses = fault == Some(EngineFault::Refuses);
                let after = if refuses { 2 } else { STORE_LIMIT_MS };
                let event = Event::Answered(sent, Err(StoreFailed));
                self.events.add(now + after, (host, epoch, event));
                return;
            }
        };
        if takes > STORE_LIMIT_MS {
            let late = Event::Answered(sent.clone(), Err(StoreFailed));
            self.events.add(now + STORE_LIMIT_MS, (host, epoch, late));
        }
        let answers_at = (takes <= STORE_LIMIT_MS).then_some(now + takes);
        let event = Event::Arrived(sent, answers_at);
        self.events.add(now + takes / 2, (host, epoch, event));
    }

    fn arrived(&mut self, host: usize, epoch: u32, sent: Sent, answers_at: Option<u64>) {
        let operation = sent.operation.clone();
        let answer = self.engine.execute(operation, host, self.now_ms);
        if let Some(at) = answers_at {
            let result = Ok((answer, engine_ms(self.now_ms)));
            self.events
                .add(at, (host, epoch, Event::Answered(sent, result)));
        }
    }

    fn answered(&mut self, host: usize, sent: Sent, answer: Result<(Answer, u64), StoreFailed>) {
        let now = boot_time(self.now_ms);
        let of = &mut self.hosts[host];
        match &answer {
            Ok(_) => of.breaker.succeeded(),
            Err(StoreFailed) => of.breaker.failed(now),
        }
        let answer = answer.map(|(answer, time_ms)| {
            let time = StoreTime {
                asked: boot_time(sent.asked_ms),
                answered: now,
                time_ms,
                wall_ms: of.wall_ms(sent.asked_ms),
            };
            (answer, time)
        });
        match sent.purpose {
            Purpose::Nothing => {}
            Purpose::Publish(publication) => {
                if let Ok((Answer::Looked { token, note }, time)) = answer {
                    self.publish(host, &publication, token.as_ref(), note.as_ref(), &time);
                }
            }
            Purpose::Fetch(id) => {
                let mut rng = std::mem::take(&mut of.rng);
                let Some(running) = self.running(host, id) else {
                    self.hosts[host].rng = rng;
                    return;
                };
                let step = match answer {
                    Ok((Answer::Looked { token, note }, time)) => {
                        let looked = Looked { time, token, note };
                        running.fetch.looked(Ok(looked), now, &mut rng)
                    }
                    Ok((Answer::Claimed(claimed), _)) => {
                        running.fetch.claimed(Ok(claimed), now, &mut rng)
                    }
                    Ok((Answer::Done, _)) => running.fetch.extended(Ok(()), now, &mut rng),
                    // All steps end in the same way.
                    Err(StoreFailed) => running.fetch.looked(Err(StoreFailed), now, &mut rng),
                };
                self.hosts[host].rng = rng;
                self.execute(host, step);
            }
        }
    }

    fn publish(
        &mut self,
        host: usize,
        publication: &Publication,
        token: Option<&domo_token_core::fleet::TokenRecord>,
        note: Option<&domo_token_core::fleet::NoteRecord>,
        time: &StoreTime,
    ) {
        let operation = match publication {
            Publication::Token(obtained) => {
                let record = obtained.record(token, time);
                record.map(|(record, keep)| Operation::PutToken(record, keep))
            }
            Publication::Note(report) => {
                let record = report.note(note, time);
                record.map(|(record, keep)| Operation::PutNote(record, keep))
            }
        };
        if let Some(operation) = operation {
            self.send(host, operation, Purpose::Nothing);
        }
    }

    fn responded(&mut self, host: usize, id: FetchId, result: Result<Fetched, FetchError>) {
        let now = boot_time(self.now_ms);
        let mut rng = std::mem::take(&mut self.hosts[host].rng);
        let step = self.running(host, id).and_then(|running| {
            let sent = running.sent?;
            Some(running.fetch.responded(result, sent, now, &mut rng))
        });
        self.hosts[host].rng = rng;
        if let Some(step) = step {
            self.execute(host, step);
        }
    }
}
