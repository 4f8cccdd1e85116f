//! The cost of a cached token in the daemon, in instructions. Unlike durations, the figure does not depend on the
//! machine's load, so that regressions show.

#![cfg(test)]

mod common;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::print_skip;
use crate::common::sandbox_and_folder;
use common::{Daemon, HOUR};
use domo_token_protocol::frame::{self, HEAD};
use domo_token_protocol::greeting::{self, GREETING};
use domo_token_protocol::messages::{Request, TokenRequest, TokenSubject, VERSION};

/// The maximum number of instructions outside the kernel for one request on an open connection, by build profile: in
/// frames, and over HTTP. The figures were 3893 and 20547 with the profile release, and 4130 and 21610 with thin, when this
/// was written; before HTTP, those in frames were 3806 and 4068. Compilers differ.
const MAX_INSTRUCTIONS: [(&str, u64, u64); 2] = [("release", 3920, 21_600), ("thin", 4280, 22_700)];

const FEW: u64 = 500;
const MANY: u64 = 2500;

#[test]
fn cached_token_costs_at_most_the_stated_number_of_instructions() {
    let Some((program, most)) = program_and_maximum(|(_, frames, _)| frames) else {
        return;
    };
    check(&program, ask, most);
}

#[test]
fn cached_token_over_http_costs_at_most_the_stated_number_of_instructions() {
    let Some((program, most)) = program_and_maximum(|(_, _, http)| http) else {
        return;
    };
    check(&program, ask_over_http, most);
}

/// Returns the daemon to measure, and its maximum; `None` if there is none, or nothing to count with.
fn program_and_maximum(maximum: fn((&str, u64, u64)) -> u64) -> Option<(OsString, u64)> {
    let Some(program) = env::var_os("DOMO_TOKEND") else {
        print_skip("DOMO_TOKEND names no daemon that is built for speed: just instructions");
        return None;
    };
    let found = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if found.is_err() {
        print_skip("there is no valgrind to count with");
        return None;
    }
    // Cargo names the directory after the profile.
    let profile = Path::new(&program).parent().and_then(Path::file_name);
    let row = MAX_INSTRUCTIONS
        .into_iter()
        .find(|(name, ..)| profile.is_some_and(|profile| profile == *name));
    let most = maximum(row.unwrap());
    Some((program, most))
}

fn check(program: &OsStr, ask: fn(&Path, u64), most: u64) {
    // The difference excludes start and shutdown.
    let each = (counted(program, ask, MANY) - counted(program, ask, FEW)) / (MANY - FEW);
    println!("{each} instructions a request");
    assert!(
        each <= most,
        "{each} instructions a request, {most} is the most"
    );
    assert!(each > 100, "{each} instructions can't be all of it");
}

/// Returns the instructions of a daemon from start to end with that many requests.
fn counted(program: &OsStr, ask: fn(&Path, u64), requests: u64) -> u64 {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let mut daemon = Daemon::start_as(under_callgrind(program, folder.path()), folder);
    daemon.wait_for_log("token obtained");
    ask(&daemon.socket(), requests);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    let line = log.lines().find(|line| line.contains("Collected :"));
    let count = line.and_then(|line| line.rsplit(' ').next());
    let count = count.and_then(|count| count.parse().ok());
    count.unwrap_or_else(|| panic!("no count in:\n{log}"))
}

fn under_callgrind(program: &OsStr, folder: &Path) -> Command {
    let mut command = Command::new("valgrind");
    let out = folder.join("callgrind.out");
    command.args([
        "--tool=callgrind",
        &format!("--callgrind-out-file={}", out.display()),
    ]);
    // Valgrind can only inspect a dumpable process.
    command.arg(program).arg("--debuggable");
    command.arg("--config").arg(folder.join("config.toml"));
    command.arg("--socket").arg(folder.join("broker.sock"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Sends that many requests, one after the other, on one connection.
fn ask(socket: &Path, requests: u64) {
    let request = frame::encode(&Request::Token(TokenRequest {
        subject: TokenSubject {
            client: None,
            scope: "data".to_owned(),
        },
        min_ttl_ms: None,
        time_left_ms: 60_000,
        renew: None,
    }));
    let request = request.unwrap();
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(&greeting::hello(VERSION)).unwrap();
    let mut greeting = [0; GREETING];
    for number in 0..requests {
        stream.write_all(&request).unwrap();
        if number == 0 {
            stream.read_exact(&mut greeting).unwrap();
        }
        let mut head = [0; HEAD];
        stream.read_exact(&mut head).unwrap();
        let mut body = vec![0; frame::body_length(head).unwrap()];
        stream.read_exact(&mut body).unwrap();
        assert!(body.len() > 600, "no token");
    }
}

/// The same over HTTP.
fn ask_over_http(socket: &Path, requests: u64) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut buffer = [0; 4096];
    for _ in 0..requests {
        stream
            .write_all(b"GET /v1/token/data HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut length = 0;
        // A token's JSON ends with the only line break of the body.
        while !buffer[..length].ends_with(b"}\n") {
            let read = stream.read(&mut buffer[length..]).unwrap();
            assert_ne!(read, 0, "disconnected");
            length += read;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(length > 800, "no token");
    }
}
