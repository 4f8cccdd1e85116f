//! How often the text of a token is in an app's memory.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod fake;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use domo_token_client::Broker;
use domo_token_protocol::messages::{Response, TokenText};

use fake::{Fake, renewed};

/// The variable that names the socket.
const SOCKET: &str = "WIPED_SOCKET";

/// A text that occurs only where a token was.
fn text(generation: u64) -> String {
    format!("c4nary{generation}-{}", "k5Tz".repeat(150))
}

/// Returns how often `what` is in the memory of a process.
fn found_in_memory(pid: u32, what: &str) -> usize {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let writable = maps.lines().filter(|line| line.contains(" rw"));
    let mut found = 0;
    for line in writable {
        let range = line.split_whitespace().next().unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let from = u64::from_str_radix(from, 16).unwrap();
        let to = u64::from_str_radix(to, 16).unwrap();
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // Some pages, such as the kernel's, cannot be read.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            let starts = bytes.windows(what.len());
            found += starts.filter(|bytes| *bytes == what.as_bytes()).count();
        }
    }
    found
}

/// The steps of an app, each of which the test checks before the next one.
fn steps() -> impl FnMut(&str) {
    let mut orders = std::io::stdin().lock().lines();
    move |what: &str| {
        println!("done: {what}");
        orders.next().unwrap().unwrap();
    }
}

#[test]
#[ignore = "the app of a test below, which starts it as a process of its own"]
fn the_app() {
    let broker = Broker::connect_to(std::env::var_os(SOCKET).unwrap()).unwrap();
    let mut done = steps();
    let token = broker.token("data").unwrap();
    done("asked");
    drop(token.authorization());
    done("written into a header");
    let renewed = broker.renew(&token).unwrap();
    drop(token);
    done("renewed");
    drop((broker, renewed));
    done("dropped");
}

#[cfg(feature = "tokio")]
#[test]
#[ignore = "the app of a test below, which starts it as a process of its own"]
fn the_async_app() {
    use domo_token_client::tokio::Broker;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let path = std::env::var_os(SOCKET).unwrap();
    let broker = runtime.block_on(Broker::connect_to(path)).unwrap();
    let mut done = steps();
    let token = runtime.block_on(broker.token("data")).unwrap();
    done("asked");
    drop(token.authorization());
    done("written into a header");
    let renewed = runtime.block_on(broker.renew(&token)).unwrap();
    drop(token);
    done("renewed");
    drop((broker, renewed));
    done("dropped");
}

#[test]
fn token_text_is_in_memory_once_while_cached_and_nowhere_after() {
    check_memory_of("the_app");
}

#[cfg(feature = "tokio")]
#[test]
fn token_text_of_an_async_app_is_in_memory_once_while_cached_and_nowhere_after() {
    check_memory_of("the_async_app");
}

/// Checks the memory of the app with that name after each of its steps.
fn check_memory_of(app: &str) {
    let fake = Fake::answering(|_, request| {
        let mut response = renewed(request);
        if let Response::Token(answer) = &mut response {
            answer.access_token = TokenText::new(text(answer.generation));
        }
        response
    });
    let mut app = Command::new(std::env::current_exe().unwrap())
        .args([app, "--exact", "--ignored", "--nocapture"])
        .env(SOCKET, fake.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(app.stdout.take().unwrap());
    let mut stdout = stdout.lines().map_while(Result::ok);
    let steps = [
        ("asked", 1, 0),
        ("written into a header", 1, 0),
        ("renewed", 0, 1),
        ("dropped", 0, 0),
    ];
    for (what, first, second) in steps {
        let line = stdout.find(|line| line.contains("done: ")).unwrap();
        assert!(line.ends_with(what), "{line}");
        let found = [1, 2].map(|generation| found_in_memory(app.id(), &text(generation)));
        assert_eq!(found, [first, second], "{what}");
        app.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
    assert!(app.wait().unwrap().success());
}
