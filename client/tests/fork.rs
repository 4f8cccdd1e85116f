//! A process that forks while its threads use the broker.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test, what fails says so")]

#[allow(dead_code, reason = "each test file uses its own part")]
mod fake;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use domo_token_client::wire::Request;
use domo_token_client::{Broker, Token};
use fork::{Fork, fork, waitpid};
use rustix::process::{Signal, getpid, kill_process};

use fake::{Fake, HOUR, PATIENCE, token, token_with, wait_until};

/// What `job` comes to in a forked child.
fn in_a_child(job: impl FnOnce() -> bool) -> bool {
    match fork().unwrap() {
        Fork::Child => {
            let done = catch_unwind(AssertUnwindSafe(job));
            // Neither by unwinding, as the test's harness is the parent's, nor by `exit`, which
            // takes a lock that another thread of the parent's may have had at the fork.
            if done.unwrap_or(false) {
                let _killed = kill_process(getpid(), Signal::KILL);
            }
            abort();
        }
        Fork::Parent(child) => waitpid(child).unwrap() == Signal::KILL.as_raw(),
    }
}

/// A broker whose tokens tell for which connection and scope they were asked.
fn telling_apart() -> Fake {
    Fake::start(|number, mut peer| {
        while let Some(request) = peer.token_request() {
            let wanted: u64 = request.asked.scope.parse().unwrap();
            peer.answer(&token(number as u64 * 1_000_000 + wanted));
        }
    })
}

fn wanted(token: &Token) -> u64 {
    token.generation() % 1_000_000
}

#[test]
fn a_child_makes_a_connection_of_its_own_and_the_parents_lives_on() {
    let fake = telling_apart();
    let broker = fake.broker();
    let held = broker.token("1").unwrap();
    assert!(in_a_child(|| {
        let same = broker.token("1").unwrap().generation() == held.generation();
        let own = broker.token("2").unwrap();
        same && own.generation() == 1_000_002
    }));
    assert_eq!(broker.token("3").unwrap().generation(), 3, "over the first");
    assert_eq!(fake.connections(), 2);
    assert_eq!(fake.requests(), 3, "one in memory");
}

#[test]
fn a_child_does_not_wait_for_a_request_of_its_parents() {
    let (word, words) = channel::<()>();
    let words = Mutex::new(words);
    let fake = Fake::answering(move |before, _| {
        if before == 0 {
            words.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        token(7)
    });
    let broker = fake.broker();
    thread::scope(|scope| {
        let asking = scope.spawn(|| broker.token("data"));
        fake.wait_for_requests(1);
        assert!(in_a_child(|| broker.token("data").is_ok()));
        word.send(()).unwrap();
        assert!(asking.join().unwrap().is_ok());
    });
    assert_eq!(fake.requests(), 2);
}

/// Tells the threads that it is over once it is dropped, by a panic as well: a scope waits for them
/// before it goes on to unwind.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_child_forked_at_any_moment_is_served() {
    let fake = telling_apart();
    let broker = fake.broker().timeout(PATIENCE);
    let over = AtomicBool::new(false);
    let busy = |broker: &Broker, first: u64| {
        for number in (first..).step_by(4) {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let token = broker.token(&number.to_string()).unwrap();
            assert_eq!(wanted(&token), number);
        }
    };
    thread::scope(|scope| {
        let _over = Over(&over);
        for first in 0..4 {
            let (broker, busy) = (broker.clone(), &busy);
            scope.spawn(move || busy(&broker, first));
        }
        for number in 0..100_u64 {
            let number = 500_000 + number;
            let asked = || wanted(&broker.token(&number.to_string()).unwrap()) == number;
            assert!(in_a_child(asked), "{number}");
        }
    });
}

#[test]
fn a_parents_threads_go_on_when_its_child_ends() {
    let (word, words) = channel::<()>();
    let words = Mutex::new(words);
    // A second watch is told nothing new. Whenever the first token is given, the other one outlives
    // it, and so takes its place.
    let fake = Fake::start(move |number, mut peer| {
        while let Some(request) = peer.request() {
            peer.answer(&token_with(7, HOUR, HOUR / 2));
            if number == 1 && matches!(request, Request::Watch(_)) {
                words.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                peer.answer(&token(8));
            }
        }
    });
    let broker = fake.broker();
    broker.keep("data").unwrap();
    fake.wait_for_requests(1);
    let mut only = Some(broker);
    assert!(in_a_child(|| only.take().is_some()));
    word.send(()).unwrap();
    let broker = only.unwrap();
    wait_until(|| broker.token("data").unwrap().generation() == 8);
}
