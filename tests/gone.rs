//! What is left of a token in the daemon's memory once its set is gone.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, what fails says so"
)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use common::{Daemon, PATIENCE, config_text, sandbox, token};

/// How often `what` is in the memory of the process of that number. `None` if we may not look.
fn found_in_memory(pid: u32, what: &[u8]) -> Option<usize> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut found = 0;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, mode) = (fields.next()?, fields.next()?);
        if !mode.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-')?;
        let from = u64::from_str_radix(from, 16).ok()?;
        let to = u64::from_str_radix(to, 16).ok()?;
        let mut bytes = vec![0; usize::try_from(to - from).ok()?];
        // What can't be read, such as the kernel's own pages, holds nothing of ours.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            found += bytes
                .windows(what.len())
                .filter(|bytes| *bytes == what)
                .count();
        }
    }
    Some(found)
}

#[test]
fn a_removed_sets_token_is_nowhere_in_memory_and_a_living_one_is_there_once() {
    let sandbox = sandbox(Duration::from_secs(3599));
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"user\"]"));
    let (data, user) = (token(&daemon.ask(&["data"])), token(&daemon.ask(&["user"])));
    let end = |token: &str| token.as_bytes()[token.len() - 200..].to_vec();
    let count = |token: &str| found_in_memory(daemon.pid(), &end(token));
    let Some(before) = count(&user) else {
        println!("skipped: this user may not read another process's memory");
        return;
    };
    assert_eq!(before, 1, "the one copy there is");
    sandbox.wait_for_requests(2, PATIENCE).unwrap();
    daemon.write("config.toml", &config_text(&sandbox, "[\"data\"]"));
    daemon.wait_for_log("config loaded");
    assert_eq!(daemon.ask(&["user"]).status.code(), Some(78));
    assert_eq!(found_in_memory(daemon.pid(), &end(&user)), Some(0));
    assert_eq!(found_in_memory(daemon.pid(), &end(&data)), Some(1));
}
