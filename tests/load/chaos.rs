//! A minute with a faulty Domo: tokens are valid for four seconds, Domo fails for two of every six seconds, and
//! twenty callers request tokens continuously.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::common::sandbox_and_daemon;
use domo_sandbox::{Fault, Sandbox};
use domo_token_client::clock::boot_now;
use domo_token_client::{Broker, ErrorKind};

const MINUTE: Duration = Duration::from_secs(60);
const LIFETIME: Duration = Duration::from_secs(4);
const CYCLE: Duration = Duration::from_secs(6);
const DOWN: Duration = Duration::from_secs(2);

/// The deadlines of the callers, alternately: long ones, and ones that an outage exceeds.
const DEADLINES: [Duration; 2] = [Duration::from_secs(5), Duration::from_millis(500)];

/// Two or three renewals in a cycle, and what two seconds of back-off allow.
const MOST_REQUESTS_IN_A_CYCLE: usize = 6;

#[derive(Debug, Default)]
struct Seen {
    tokens: u64,
    errors: u64,
    latest: Duration,
}

#[test]
fn twenty_callers_receive_no_expired_token_and_no_late_answer_during_outages() {
    let (sandbox, daemon) = sandbox_and_daemon(LIFETIME);
    let socket = daemon.socket();
    let stop = AtomicBool::new(false);
    let seen: Vec<Seen> = thread::scope(|scope| {
        let callers: Vec<_> = (0..20)
            .zip(DEADLINES.iter().cycle())
            .map(|(_, deadline)| scope.spawn(|| ask_until(&stop, &socket, *deadline)))
            .collect();
        cause_outages(&sandbox);
        stop.store(true, Ordering::Relaxed);
        let results = callers.into_iter().map(thread::ScopedJoinHandle::join);
        results.map(|seen| seen.unwrap()).collect()
    });
    let requests = sandbox.requests().len();
    let cycles = usize::try_from(MINUTE.as_secs() / CYCLE.as_secs()).unwrap();
    assert!(requests <= cycles * MOST_REQUESTS_IN_A_CYCLE, "{requests}");
    let tokens: u64 = seen.iter().map(|seen| seen.tokens).sum();
    let errors: u64 = seen.iter().map(|seen| seen.errors).sum();
    let latest = seen.iter().map(|seen| seen.latest).max().unwrap();
    assert!(seen.iter().all(|seen| seen.tokens > 0), "{seen:?}");
    print_figures(&format!(
        "{requests} requests, {tokens} tokens, {errors} errors, the latest answer after {latest:?}"
    ));
    let broker = Broker::connect_to(&socket).unwrap();
    assert!(broker.token("data").is_ok(), "all recover");
}

/// Makes Domo fail for two seconds in each cycle, at a random time and in a random way.
fn cause_outages(sandbox: &Sandbox) {
    let mut rng = fastrand::Rng::new();
    let seed = rng.u64(..);
    rng.seed(seed);
    print_figures(&format!("the weather's seed: {seed}"));
    let (_never, time) = channel();
    let end = boot_now() + MINUTE;
    while boot_now() < end {
        let before = Duration::from_millis(rng.u64(0..4_000));
        wait(&time, before);
        match rng.u8(..4) {
            0 => sandbox.stop_listening().unwrap(),
            1 => sandbox.always(Fault::status(503)),
            2 => sandbox.always(Fault::hang()),
            _ => sandbox.always(Fault::status(429).retry_after("1")),
        }
        wait(&time, DOWN);
        // It may be listening already.
        let _ = sandbox.listen_again();
        sandbox.recover();
        wait(&time, CYCLE.saturating_sub(DOWN + before));
    }
}

/// The outages follow their own schedule, for which there is no event.
fn wait(time: &Receiver<()>, span: Duration) {
    let _ = time.recv_timeout(span);
}

fn ask_until(stop: &AtomicBool, socket: &Path, deadline: Duration) -> Seen {
    // A new broker has no cached token, so that it requests one from the daemon.
    let broker = || Broker::connect_to(socket).unwrap().with_timeout(deadline);
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let start = boot_now();
        let answer = broker().token("data");
        let took = boot_now().saturating_since(start);
        seen.latest = seen.latest.max(took);
        match answer {
            Ok(token) => {
                assert!(!token.expires_in().is_zero(), "{token:?}");
                seen.tokens += 1;
            }
            Err(error) => {
                let is_expected = error.is_retryable() && error.kind() != ErrorKind::NotRunning;
                assert!(is_expected, "{error}");
                seen.errors += 1;
            }
        }
        let limit = deadline + Duration::from_millis(500);
        assert!(took < limit, "answered after {took:?}");
    }
    seen
}

fn print_figures(line: &str) {
    eprintln!("{line}");
}
