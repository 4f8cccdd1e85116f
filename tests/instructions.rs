//! The cost of a cached token in the daemon, in instructions. Unlike durations, the figure does not depend on the
//! machine's load, so that regressions show.

#![cfg(test)]

mod common;

use std::env;
use std::ffi::OsStr;
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

/// The maximum number of instructions outside the kernel for one request on an open connection, by build profile.
/// The figures were 3576 and 4028 when this was written; compilers differ.
const MAX_INSTRUCTIONS: [(&str, u64); 2] = [("release", 3800), ("thin", 4280)];

const FEW: u64 = 500;
const MANY: u64 = 2500;

#[test]
fn cached_token_costs_at_most_the_stated_number_of_instructions() {
    let Some(program) = env::var_os("DOMO_TOKEND") else {
        print_skip("DOMO_TOKEND names no daemon that is built for speed: just instructions");
        return;
    };
    let found = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if found.is_err() {
        print_skip("there is no valgrind to count with");
        return;
    }
    // Cargo names the directory after the profile.
    let profile = Path::new(&program).parent().and_then(Path::file_name);
    let (_, most) = MAX_INSTRUCTIONS
        .into_iter()
        .find(|(name, _)| profile.is_some_and(|profile| profile == *name))
        .unwrap();
    // The difference excludes start and shutdown.
    let each = (counted(&program, MANY) - counted(&program, FEW)) / (MANY - FEW);
    println!("{each} instructions a request");
    assert!(
        each <= most,
        "{each} instructions a request, {most} is the most"
    );
    assert!(each > 100, "{each} instructions can't be all of it");
}

/// Returns the instructions of a daemon from start to end with that many requests.
fn counted(program: &OsStr, requests: u64) -> u64 {
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
