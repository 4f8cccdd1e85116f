//! Three hosts on a real engine for many minutes, with faults of hosts, engine and Domo that overlap.
//!
//! `just fleet-soak` runs it. Tokens are valid for 20 s. One caller per host requests a token every 100 ms, over a new
//! connection, and uses it at the sandbox. The seed is printed and can be given, for the same faults at the same times.

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use domo_sandbox::{Fault, Sandbox};
use domo_token_client::Broker;
use domo_token_client::clock::{BootTime, boot_now};
use fastrand::Rng;

use super::hosts::{Fleet, SHORT as LIFETIME, token_of};
use crate::common::redis::Redis;
use crate::common::{Daemon, get};
use crate::soak::{End, lock};

const HOSTS: usize = 3;

/// The pause between two requests of a caller.
const POLL: Duration = Duration::from_millis(100);

/// The time limit of a caller. A token must be available by then, whatever fails but Domo and the caller's host.
const CALLER_LIMIT: Duration = Duration::from_secs(10);

/// How long hosts may avoid an engine that works again: the first step of their back-off.
const AVOIDED: Duration = Duration::from_secs(10);

/// The most requests to Domo in a lifetime while the engine is up. Renewals at 70 to 80 % make 1.33.
const MOST_REQUESTS: f64 = 1.7;

/// The fewest lifetimes with an engine for which [`MOST_REQUESTS`] is checked: over fewer ones it varies too much.
const FEWEST_LIFETIMES: f64 = 15.0;

/// The time limit of a request to Domo is a tenth of the lifetime; a slow response arrives before it.
const SLOWEST_MS: u64 = 1200;

/// A span of time that can end early: when the run ends.
#[derive(Default)]
struct Run {
    end: End,
    found: Mutex<Found>,
    /// The states of the hosts, in order.
    hosts: [Mutex<HostState>; HOSTS],
    /// When the engine did not work.
    engine_faults: Mutex<Vec<(BootTime, BootTime)>>,
    faults: Mutex<Vec<&'static str>>,
}

/// Whether a test stopped or ended a host, and how often that changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct HostState {
    is_down: bool,
    changes: u32,
}

/// What callers received.
#[derive(Default)]
struct Found {
    served: u64,
    /// Tokens that the sandbox did not accept.
    expired: Vec<String>,
    /// Callers without a token, although their host ran.
    failed: Vec<String>,
    /// The longest wait on a host that has served a token since its last fault, and on others.
    warm: Duration,
    cold: Duration,
}

impl Run {
    fn wait_between(&self, rng: &mut Rng, seconds: std::ops::Range<u64>) -> bool {
        self.end.wait(Duration::from_millis(
            rng.u64(seconds.start * 1000..seconds.end * 1000),
        ))
    }

    fn count(&self, fault: &'static str) {
        lock(&self.faults).push(fault);
    }

    fn host(&self, number: usize) -> HostState {
        *lock(&self.hosts[number])
    }

    fn set_down(&self, number: usize, is_down: bool) {
        let mut host = lock(&self.hosts[number]);
        host.is_down = is_down;
        host.changes += 1;
    }
}

/// Requests tokens from one host until the end.
fn call(run: &Run, sandbox: &Sandbox, number: usize, socket: &PathBuf) {
    let url = sandbox.url("/v1/datasets");
    let mut warm_since = None;
    while run.end.wait(POLL) {
        let before = run.host(number);
        let start = boot_now();
        let broker = Broker::connect_to(socket);
        let answer = broker.and_then(|broker| broker.with_timeout(CALLER_LIMIT).token("data"));
        let took = boot_now().saturating_since(start);
        let is_affected = before.is_down || run.host(number) != before;
        match answer {
            Ok(token) => {
                let left = token.expires_in();
                let status = get(&url, token.secret());
                let mut found = lock(&run.found);
                found.served += 1;
                if status != 200 {
                    let line = format!("host {number}: {status} with {left:?} left");
                    found.expired.push(line);
                }
                if !is_affected {
                    let is_warm = warm_since == Some(before.changes);
                    let longest = if is_warm {
                        &mut found.warm
                    } else {
                        &mut found.cold
                    };
                    *longest = took.max(*longest);
                    warm_since = Some(before.changes);
                }
            }
            Err(error) if !is_affected => {
                let line = format!("host {number}, after {took:?}: {error}");
                lock(&run.found).failed.push(line);
            }
            Err(_) => {}
        }
    }
}

/// Kills, restarts and stops hosts.
fn disturb_hosts(run: &Run, mut hosts: Vec<Daemon>, mut rng: Rng) {
    while run.wait_between(&mut rng, 4..14) {
        let number = rng.usize(..HOSTS);
        let host = &mut hosts[number];
        run.set_down(number, true);
        match rng.u8(..10) {
            0..4 => {
                run.count("host killed");
                host.signal("-KILL");
                host.wait();
                run.wait_between(&mut rng, 0..4);
                host.start_again();
            }
            4..6 => {
                run.count("host restarted");
                host.restart("-TERM");
            }
            6..9 => {
                run.count("host stopped for up to 8 s");
                host.signal("-STOP");
                run.wait_between(&mut rng, 1..8);
                host.signal("-CONT");
            }
            _ => {
                run.count("host stopped for 45 s");
                host.signal("-STOP");
                run.end.wait(Duration::from_secs(45));
                host.signal("-CONT");
            }
        }
        run.set_down(number, false);
    }
}

/// Kills, freezes and fills the engine.
fn disturb_engine(run: &Run, mut engine: Redis, mut rng: Rng) {
    while run.wait_between(&mut rng, 30..60) {
        let from = boot_now();
        match rng.u8(..4) {
            0 => {
                run.count("engine killed and started empty");
                engine.kill();
                run.wait_between(&mut rng, 0..10);
                engine.restart();
            }
            1 => {
                run.count("engine restarted empty");
                engine.kill();
                engine.restart();
            }
            2 => {
                run.count("engine frozen");
                engine.pause();
                run.wait_between(&mut rng, 2..10);
                engine.resume();
            }
            _ => {
                run.count("engine full");
                engine.cli(&["CONFIG", "SET", "maxmemory", "1"]);
                run.wait_between(&mut rng, 5..15);
                engine.cli(&["CONFIG", "SET", "maxmemory", "0"]);
            }
        }
        lock(&run.engine_faults).push((from, boot_now()));
    }
}

/// Makes Domo slow.
fn slow_down_domo(run: &Run, sandbox: &Sandbox, mut rng: Rng) {
    while run.wait_between(&mut rng, 10..30) {
        run.count("Domo slow");
        for _ in 0..rng.u8(5..15) {
            sandbox.always(Fault::hold());
            let is_running = run
                .end
                .wait(Duration::from_millis(rng.u64(300..SLOWEST_MS)));
            // Continues the responses, and ends the fault.
            sandbox.recover();
            if !is_running {
                break;
            }
        }
    }
}

/// Returns how long the engine was up between two times, and how many of these requests are from then. `tail` is how
/// long after each fault hosts may avoid it.
fn while_up(
    faults: &[(BootTime, BootTime)],
    (start, end): (BootTime, BootTime),
    requests: &[BootTime],
    tail: Duration,
) -> (Duration, usize) {
    let (mut up, mut counted, mut from) = (Duration::ZERO, 0, start);
    let after = [(end, end)];
    for (down, works) in faults.iter().chain(&after) {
        let to = (*down).min(end);
        up += to.saturating_since(from);
        counted += requests
            .iter()
            .filter(|at| (from..to).contains(*at))
            .count();
        from = from.max(*works + tail);
    }
    (up, counted)
}

#[expect(clippy::cast_precision_loss, reason = "the figures are small")]
fn ratio((up, requests): (Duration, usize)) -> (f64, f64) {
    let lifetimes = up.div_duration_f64(LIFETIME);
    (
        lifetimes,
        requests as f64 / lifetimes.max(f64::MIN_POSITIVE),
    )
}

/// Returns the report, and whether all figures are within their limits.
fn report(run: &Run, requests: &[BootTime], span: (BootTime, BootTime)) -> (String, bool) {
    let found = lock(&run.found);
    let engine_faults = lock(&run.engine_faults);
    let strict = while_up(&engine_faults, span, requests, Duration::ZERO);
    let settled = while_up(&engine_faults, span, requests, AVOIDED);
    let [(strict_lifetimes, strict_ratio), (lifetimes, per_lifetime)] =
        [strict, settled].map(ratio);
    let seconds = span.1.saturating_since(span.0).as_secs();
    let is_judged = lifetimes >= FEWEST_LIFETIMES;
    let judged = if is_judged {
        "checked"
    } else {
        "too short a run to be checked"
    };
    let mut text = format!(
        "{seconds} s, {HOSTS} hosts, tokens of {} s\n\
         requests to Domo: {} in all\n\
         - engine up: {} in {strict_lifetimes:.1} lifetimes, {strict_ratio:.2} each\n\
         - and {} s after its faults: {} in {lifetimes:.1} lifetimes, {per_lifetime:.2} each (at most \
         {MOST_REQUESTS}, {judged})\n\
         tokens served: {}, not accepted by the sandbox: {} (at most 0)\n\
         callers without a token: {} (at most 0)\n\
         longest wait: {:?} of callers on a host that had served a token, {:?} after its faults\n",
        LIFETIME.as_secs(),
        requests.len(),
        strict.1,
        AVOIDED.as_secs(),
        settled.1,
        found.served,
        found.expired.len(),
        found.failed.len(),
        found.warm,
        found.cold,
    );
    let mut faults = lock(&run.faults).clone();
    faults.sort_unstable();
    for group in faults.chunk_by(|one, other| one == other) {
        let _ = writeln!(text, "fault: {}: {} times", group[0], group.len());
    }
    for line in found.expired.iter().chain(&found.failed).take(20) {
        let _ = writeln!(text, "failure: {line}");
    }
    let is_good = found.expired.is_empty()
        && found.failed.is_empty()
        && found.served > 0
        && (!is_judged || per_lifetime <= MOST_REQUESTS);
    (text, is_good)
}

/// Returns a number from the environment.
fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
#[ignore = "takes many minutes; run: just fleet-soak"]
fn three_hosts_serve_valid_tokens_and_send_few_requests_during_faults() {
    let minutes = number("DOMO_TOKEN_FLEET_MINUTES").unwrap_or(20);
    let seed = number("DOMO_TOKEN_FLEET_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let Some(fleet) = Fleet::start(LIFETIME) else {
        return;
    };
    writeln!(io::stderr(), "seed {seed}, {minutes} minutes").unwrap();
    let mut rng = Rng::with_seed(seed);
    // The start of the sandbox's clock, to within the time that this takes.
    let zero = boot_now();
    let hosts = fleet.hosts(HOSTS);
    for host in &hosts {
        token_of(host);
    }
    let sockets: Vec<PathBuf> = hosts.iter().map(Daemon::socket).collect();
    let Fleet { sandbox, engine } = fleet;
    let run = Run::default();
    let start = boot_now();
    thread::scope(|scope| {
        let (run, sandbox) = (&run, &sandbox);
        for (number, socket) in sockets.iter().enumerate() {
            scope.spawn(move || call(run, sandbox, number, socket));
        }
        let [one, two, three] = [rng.fork(), rng.fork(), rng.fork()];
        scope.spawn(move || disturb_hosts(run, hosts, one));
        scope.spawn(move || disturb_engine(run, engine, two));
        scope.spawn(move || slow_down_domo(run, sandbox, three));
        run.end.wait(Duration::from_secs(minutes * 60));
        run.end.set();
    });
    let end = boot_now();
    let requests: Vec<BootTime> = sandbox
        .requests()
        .iter()
        .map(|seen| zero + seen.at)
        .collect();
    let (text, is_good) = report(&run, &requests, (start, end));
    write!(io::stderr(), "{text}").unwrap();
    assert!(is_good, "seed {seed}");
}

#[test]
fn requests_are_counted_while_the_engine_is_up() {
    let at = |second: u64| BootTime::from_millis(second * 1000);
    let faults = [(at(10), at(20)), (at(25), at(30))];
    let requests = [5, 15, 22, 27, 45].map(at);
    let seconds = Duration::from_secs;
    let count = |tail| while_up(&faults, (at(0), at(50)), &requests, seconds(tail));
    assert_eq!(count(0), (seconds(10 + 5 + 20), 3));
    assert_eq!(count(10), (seconds(10 + 10), 2));
}
