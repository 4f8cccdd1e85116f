//! The program `domo-sandbox` without a command: its faults, and an output that nobody reads.

#![cfg(test)]

mod common;

use std::process::Command;

use common::{Connection, GRANT, Program, basic, call, post};
use domo_sandbox::program::{DEMO_ID, DEMO_SECRET};

/// Skips the config after the first lines, which ends where the log begins.
fn url_of(program: &Program) -> String {
    let url = program.url();
    for _ in 0..6 {
        program.line();
    }
    url
}

/// Requests a token and returns the status.
fn status(url: &str) -> u16 {
    post(url, DEMO_ID, DEMO_SECRET, GRANT).status()
}

#[test]
fn fail_flag_applies_its_statuses_in_order_and_repeats_the_last() {
    let program = Program::start(&["--fail", "503,200,429"]);
    let url = url_of(&program);
    let seen: Vec<u16> = (0..5).map(|_| status(&url)).collect();
    assert_eq!(seen, [503, 200, 429, 429, 429]);
    let logged: Vec<String> = (0..5).map(|_| program.line()).collect();
    let logged = logged.iter().map(|line| line.rsplit(' ').next().unwrap());
    assert!(logged.eq(["503", "200", "429", "429", "429"]));
}

#[test]
fn fail_after_flag_applies_503_or_the_given_status_from_then_on() {
    for (flags, expected) in [
        (&["--fail-after", "0"][..], 503),
        (&["--fail-after", "0s", "--fail", "401"], 401),
        (&["--fail-after", "1h", "--fail", "401"], 200),
    ] {
        let program = Program::start(flags);
        assert_eq!(status(&program.url()), expected, "{flags:?}");
    }
}

#[test]
fn revoke_after_flag_makes_the_api_reject_a_fresh_token() {
    for (after, expected) in [("0", 401), ("1h", 200)] {
        let program = Program::start(&["--revoke-after", after]);
        let url = program.url();
        let token = post(&url, DEMO_ID, DEMO_SECRET, GRANT).token();
        let bearer = format!("Authorization: Bearer {token}\r\n");
        let answer = call(&url, "GET", "/v1/datasets", &bearer, "");
        assert_eq!(answer.status(), expected, "{after}");
    }
}

#[test]
fn delay_flag_delays_responses_of_the_token_endpoint_and_the_api() {
    let program = Program::start(&["--delay", "300ms"]);
    let url = program.url();
    let mut token = Connection::open(&url);
    token.send("POST", "/oauth/token", &basic(DEMO_ID, DEMO_SECRET), GRANT);
    assert!(token.is_silent());
    let bearer = format!("Authorization: Bearer {}\r\n", token.answer().token());
    let mut api = Connection::open(&url);
    api.send("GET", "/v1/datasets", &bearer, "");
    assert!(api.is_silent());
    assert_eq!(api.answer().status(), 200);
}

#[cfg(unix)]
mod unread_output {
    use std::io::{BufRead, BufReader, Lines, PipeReader, PipeWriter, Write};
    use std::process::{Child, Command};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use rustix::fs::{OFlags, fcntl_setfl};

    use super::common::{Connection, GRANT, basic};
    use super::status;

    /// More than a pipe of 64 KiB and the queue hold.
    const REQUESTS: usize = 3000;

    /// A sandbox whose output is read up to the end of its config.
    struct Unread {
        child: Child,
        url: String,
        output: Lines<BufReader<PipeReader>>,
        writer: PipeWriter,
    }

    impl Unread {
        fn start() -> Self {
            let (reader, writer) = std::io::pipe().unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_domo-sandbox"));
            command.args(["--port", "0"]);
            command.stdout(writer.try_clone().unwrap());
            let child = command.spawn().unwrap();
            let mut output = BufReader::new(reader).lines();
            let config: Vec<String> = (0..8).map(|_| output.next().unwrap().unwrap()).collect();
            assert_eq!(config[7], "allow_http_loopback = true");
            let url = config[0].strip_prefix("# Token endpoint: ").unwrap();
            Self {
                child,
                url: url.to_owned(),
                output,
                writer,
            }
        }

        fn terminate(&mut self) -> Option<i32> {
            let pid = Pid::from_raw(self.child.id().cast_signed());
            kill(pid, Signal::SIGTERM).unwrap();
            self.child.wait().unwrap().code()
        }
    }

    impl Drop for Unread {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn no_request_is_blocked_and_the_gap_is_reported() {
        let mut sandbox = Unread::start();
        let mut connection = Connection::open(&sandbox.url);
        for _ in 0..REQUESTS {
            // Rejected without work, and logged like all others.
            connection.send("POST", "/oauth/token", &basic("id", "secret"), GRANT);
            assert_eq!(connection.answer().status(), 401);
        }
        let (mut logged, mut dropped) = (0, 0);
        while logged + dropped < REQUESTS {
            let line = sandbox.output.next().unwrap().unwrap();
            let gap = line.strip_suffix(" lines dropped: the output was not read");
            let Some(count) = gap else {
                assert!(line.ends_with("scope \"all\": 401"), "{line}");
                logged += 1;
                continue;
            };
            dropped += count.trim_start_matches("# ").parse::<usize>().unwrap();
        }
        assert_eq!(logged + dropped, REQUESTS);
        assert!(dropped > 0);
        assert_eq!(sandbox.terminate(), Some(0));
    }

    #[test]
    fn sandbox_ends_although_its_output_is_full() {
        let mut sandbox = Unread::start();
        fcntl_setfl(&sandbox.writer, OFlags::NONBLOCK).unwrap();
        while sandbox.writer.write(&[b'x'; 4096]).is_ok() {}
        fcntl_setfl(&sandbox.writer, OFlags::empty()).unwrap();
        assert_eq!(status(&sandbox.url), 200);
        assert_eq!(sandbox.terminate(), Some(0));
    }
}

#[test]
fn lifetime_of_zero_is_a_usage_error_that_names_the_least_one() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-sandbox"));
    let output = command.args(["--lifetime", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("a number of seconds, at least 1\n"),
        "{stderr}"
    );
}
