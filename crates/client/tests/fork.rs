//! A process that forks while its threads use the broker.

#![cfg(unix)]
#![cfg(test)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod fake;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use domo_token_client::{Broker, Token};
use domo_token_protocol::messages::{Request, TokenRequest};
use fork::{Fork, fork, waitpid};
use rustix::process::{Pid, Signal, getpid, kill_process};

use fake::{Fake, HOUR, PATIENCE, gate, granted, token, token_with, wait_until};

/// Returns the result of `job` in a forked child.
fn in_a_child(job: impl FnOnce() -> bool) -> bool {
    let (mut sender, mut receiver) = UnixStream::pair().unwrap();
    match fork().unwrap() {
        Fork::Child => {
            let done = catch_unwind(AssertUnwindSafe(job)).unwrap_or(false);
            let _ = sender.write_all(&[u8::from(done)]);
            end()
        }
        Fork::Parent(child) => {
            drop(sender);
            let mut done = [0];
            receiver.set_read_timeout(Some(PATIENCE)).unwrap();
            let _ = receiver.read_exact(&mut done);
            let _ = kill_process(Pid::from_raw(child).unwrap(), Signal::KILL);
            waitpid(child).unwrap();
            done == [1]
        }
    }
}

/// Ends a forked child. It must not unwind, because the test harness is the parent's, nor `exit`, which takes a
/// lock that another thread of the parent may have held at the fork.
fn end() -> ! {
    // Has no effect on the first process of a namespace.
    let _ = kill_process(getpid(), Signal::KILL);
    abort()
}

/// Runs the test with that name again, as the first process of a PID namespace. Returns `false` in that process,
/// which then runs the test. Where no namespace can be created, prints that the test is skipped.
#[cfg(target_os = "linux")]
fn runs_as_first_process(name: &str) -> bool {
    const INSIDE: &str = "FIRST_PROCESS_OF_A_PID_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let unshare = || {
        let mut command = std::process::Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        command
    };
    let can = unshare().arg("true").output();
    if !can.is_ok_and(|tried| tried.status.success()) {
        println!("skipped: no PID namespace can be made here");
        return true;
    }
    let mut test = unshare();
    test.arg(std::env::current_exe().unwrap());
    test.args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    let output = test.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{output:?}");
    assert!(stdout.contains("1 passed"), "{stdout}");
    true
}

/// A broker whose tokens name the connection and the scope of their request.
fn identifying_connections() -> Fake {
    Fake::start(|number, mut peer| {
        while let Some(Request::Token(TokenRequest { subject, .. }) | Request::Watch(subject)) =
            peer.request()
        {
            let wanted: u64 = subject.scope.parse().unwrap();
            let token = token(number as u64 * 1_000_000 + wanted);
            peer.answer(&granted(&subject, token));
        }
    })
}

fn wanted(token: &Token) -> u64 {
    token.generation() % 1_000_000
}

#[test]
fn child_makes_its_own_connection_and_the_parents_stays_open() {
    let fake = identifying_connections();
    let broker = fake.broker();
    let cached = broker.token("1").unwrap();
    assert!(in_a_child(|| {
        let same = broker.token("1").unwrap().generation() == cached.generation();
        let own = broker.token("2").unwrap();
        same && own.generation() == 1_000_002
    }));
    assert_eq!(broker.token("3").unwrap().generation(), 3, "over the first");
    assert_eq!(fake.connections(), 2);
    assert_eq!(fake.requests(), 3, "one in memory");
}

#[test]
fn child_does_not_wait_for_a_request_of_its_parent() {
    let (release, gate) = gate();
    let fake = Fake::answering(move |earlier, _| {
        if earlier == 0 {
            gate.wait();
        }
        token(7)
    });
    let broker = fake.broker();
    thread::scope(|scope| {
        let asking = scope.spawn(|| broker.token("data"));
        fake.wait_for_requests(1);
        assert!(in_a_child(|| broker.token("data").is_ok()));
        release.send(()).unwrap();
        assert!(asking.join().unwrap().is_ok());
    });
    assert_eq!(fake.requests(), 2);
}

/// Stops the threads when dropped, also by a panic: a scope waits for them before it unwinds.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn child_forked_at_any_moment_gets_tokens() {
    let fake = identifying_connections();
    let broker = fake.broker().with_timeout(PATIENCE);
    let stop = AtomicBool::new(false);
    let busy = |broker: &Broker, first: u64| {
        for number in (first..).step_by(4) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let token = broker.token(&number.to_string()).unwrap();
            assert_eq!(wanted(&token), number);
        }
    };
    thread::scope(|scope| {
        let _stop_guard = StopOnDrop(&stop);
        for first in 0..4 {
            let (broker, busy) = (broker.clone(), &busy);
            scope.spawn(move || busy(&broker, first));
        }
        for number in 0..100_u64 {
            let number = 500_000 + number;
            let check = || wanted(&broker.token(&number.to_string()).unwrap()) == number;
            assert!(in_a_child(check), "{number}");
        }
    });
}

#[test]
fn threads_of_a_parent_go_on_when_its_child_ends() {
    let (release, gate) = gate();
    // A second watch receives no new token. Whenever the first token is returned, the other one expires later, and
    // replaces it.
    let fake = Fake::start(move |number, mut peer| {
        while let Some(request) = peer.request() {
            peer.answer(&token_with(7, HOUR, HOUR / 2));
            if number == 1 && matches!(request, Request::Watch(_)) {
                gate.wait();
                peer.answer(&token(8));
            }
        }
    });
    let broker = fake.broker();
    broker.keep("data").unwrap();
    fake.wait_for_requests(1);
    let mut only = Some(broker);
    assert!(in_a_child(|| only.take().is_some()));
    release.send(()).unwrap();
    let broker = only.unwrap();
    wait_until(|| broker.token("data").unwrap().generation() == 8);
}

#[cfg(target_os = "linux")]
#[test]
fn child_with_its_parents_pid_in_another_namespace_makes_its_own_connection() {
    if runs_as_first_process(
        "child_with_its_parents_pid_in_another_namespace_makes_its_own_connection",
    ) {
        return;
    }
    assert_eq!(std::process::id(), 1);
    let fake = identifying_connections();
    let broker = fake.broker();
    let mut watch = broker.watch("4").unwrap();
    assert_eq!(watch.next().unwrap().unwrap().generation(), 1_000_004);
    assert!(broker.token("1").is_ok());
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID).unwrap();
    assert!(in_a_child(|| {
        let own = broker.token("2").unwrap();
        let watched = watch.next().unwrap().unwrap();
        let own = (own.generation(), watched.generation());
        std::process::id() == 1 && own == (2_000_002, 3_000_004)
    }));
    assert_eq!(broker.token("3").unwrap().generation(), 3, "over the first");
    assert_eq!(fake.connections(), 4);
}

/// Forks a process with the id `wanted`, in a PID namespace where nothing else starts meanwhile.
#[cfg(target_os = "linux")]
fn fork_as(wanted: i32) -> Fork {
    std::fs::write("/proc/sys/kernel/ns_last_pid", (wanted - 1).to_string()).unwrap();
    fork().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn grandchild_with_a_reused_pid_makes_its_own_connection() {
    if runs_as_first_process("grandchild_with_a_reused_pid_makes_its_own_connection") {
        return;
    }
    let fake = identifying_connections();
    let (mut exit_sender, mut exit_receiver) = UnixStream::pair().unwrap();
    let (mut sender, mut receiver) = UnixStream::pair().unwrap();
    let Fork::Parent(first) = fork().unwrap() else {
        // Its connection is idle when its child is forked.
        let broker = fake.broker();
        let own = std::process::id();
        assert!(broker.token("1").is_ok());
        if let Fork::Child = fork().unwrap() {
            // Until the first process has ended and its id is free.
            exit_receiver.read_exact(&mut [0]).unwrap();
            if let Fork::Child = fork_as(i32::try_from(own).unwrap()) {
                let check = || broker.token("2").unwrap().generation() == 1_000_002;
                let same = std::process::id() == own;
                let done = same && catch_unwind(AssertUnwindSafe(check)).unwrap_or(false);
                sender.write_all(&[u8::from(same), u8::from(done)]).unwrap();
            }
        }
        end();
    };
    drop(sender);
    assert_eq!(waitpid(first).unwrap(), Signal::KILL.as_raw());
    exit_sender.write_all(&[0]).unwrap();
    let mut seen = [0; 2];
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    receiver.read_exact(&mut seen).unwrap();
    assert_eq!(seen, [1, 1], "the same id; a connection of its own");
}

#[cfg(feature = "tokio")]
mod asynchronous {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::task::{Context, Poll, Waker};

    use domo_token_client::tokio::{Broker, Watch};
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn next(runtime: &Runtime, watch: &mut Watch) -> u64 {
        let waiting = async { tokio::time::timeout(PATIENCE, watch.next()).await };
        let token = runtime.block_on(waiting).unwrap();
        token.unwrap().unwrap().generation()
    }

    #[test]
    fn child_makes_its_own_connection_on_its_own_runtime() {
        let fake = identifying_connections();
        let broker = Broker::from(fake.broker());
        let parent = runtime();
        assert!(parent.block_on(broker.token("1")).is_ok());
        assert!(in_a_child(|| {
            let own = runtime().block_on(broker.token("2"));
            own.unwrap().generation() == 1_000_002
        }));
        let third = parent.block_on(broker.token("3")).unwrap();
        assert_eq!(third.generation(), 3, "over the first");
        assert_eq!(fake.connections(), 2);
    }

    #[test]
    fn watch_has_ended_in_a_child_that_does_not_affect_its_parents_connection() {
        let (release, gate) = gate();
        let fake = Fake::start(move |_, mut peer| {
            while peer.request().is_some() {
                peer.answer(&token(7));
                gate.wait();
                peer.answer(&token(8));
            }
        });
        let runtime = runtime();
        let broker = Broker::from(fake.broker());
        let mut watch = broker.watch("data").unwrap();
        assert_eq!(next(&runtime, &mut watch), 7);
        let mut only = Some(watch);
        assert!(in_a_child(|| {
            let mut watch = only.take().unwrap();
            let mut context = Context::from_waker(Waker::noop());
            let polled = pin!(watch.next()).poll(&mut context);
            drop(watch);
            matches!(polled, Poll::Ready(None))
        }));
        release.send(()).unwrap();
        assert_eq!(next(&runtime, &mut only.unwrap()), 8);
        assert_eq!(fake.connections(), 2, "the broker's own and the watch's");
    }

    #[test]
    fn dropped_watch_disconnects_although_a_child_has_its_socket() {
        let (closed_sender, closed) = channel();
        let closed_sender = Mutex::new(closed_sender);
        let fake = Fake::start(move |_, mut peer| {
            while let Some(Request::Watch(_)) = peer.request() {
                peer.answer(&token(7));
                let _ = peer.stream.read(&mut [0]);
                closed_sender.lock().unwrap().send(()).unwrap();
            }
        });
        let runtime = runtime();
        let mut watch = Broker::from(fake.broker()).watch("data").unwrap();
        assert_eq!(next(&runtime, &mut watch), 7);
        let (mut parent, mut child) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let living = scope.spawn(move || {
                in_a_child(|| {
                    child.write_all(&[0]).unwrap();
                    child.read_exact(&mut [0]).is_ok()
                })
            });
            parent.read_exact(&mut [0]).unwrap();
            drop(watch);
            let disconnected = closed.recv_timeout(PATIENCE);
            parent.write_all(&[0]).unwrap();
            assert!(living.join().unwrap());
            assert_eq!(disconnected, Ok(()));
        });
    }
}

#[cfg(feature = "testing")]
#[test]
fn forked_child_that_drops_a_fake_broker_leaves_its_parents_running() {
    let fake = domo_token_client::testing::FakeBroker::start().unwrap();
    let broker = fake.broker();
    let mut shared = Some(fake);
    assert!(in_a_child(|| {
        drop(shared.take());
        true
    }));
    assert!(broker.token("data").is_ok());
    assert!(shared.is_some_and(|fake| fake.socket().exists()));
}
