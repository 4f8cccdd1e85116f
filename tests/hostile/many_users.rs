//! One user with 65 536 subordinate uids, each of which counts as another user.
//!
//! `DOMO_TOKEN_FLOOD=30` floods for 30 s and checks how fast responses are, which needs an optimised build and an
//! idle machine: `just flood`.

use std::env;

use std::process::{Command, Stdio};
use std::time::Duration;

use domo_token_client::clock::boot_now;
use domo_token_protocol::messages::{Request, TokenSubject};

use crate::common::callers::{
    DAEMON, ask_as, half_request, is_root, open_folder, python_as, watch_request, with_hello,
};
use crate::common::process::{KillOnDrop, first_line};
use crate::common::wait::pause;
use crate::common::{Daemon, HOUR, parts, print_skip, sandbox, timed, token};
use crate::memory;

/// The memory limit of the containers in `deploy/kubernetes`.
const MEMORY_LIMIT: usize = 64 * 1024 * 1024;

/// Connects as another uid each time until it is killed, and keeps each connection that the daemon does not close:
/// a third stays idle after its first response, a third watches, a third sends half a request. Prints `full` after
/// 5000.
const FLOOD: &str = r#"
import collections, json, os, resource, signal, socket, sys
path, first = sys.argv[1], int(sys.argv[2])
parts = [bytes(json.loads(part)) for part in sys.argv[3:]]
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
signal.alarm(120)
def is_open(s):
    try:
        while s.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    s.close()
    return False
held = collections.deque()
number = 0
while True:
    while len(held) > 5000:
        oldest = held.popleft()
        if is_open(oldest):
            held.append(oldest)
    os.seteuid(0)
    os.seteuid(first + number % 32768)
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.setblocking(False)
    try:
        s.send(parts[number % 3])
    except OSError:
        pass
    held.append(s)
    number += 1
    if number == 5000:
        print("full", flush=True)
"#;

/// A process that floods the daemon until it is dropped.
struct Flood(KillOnDrop);

impl Flood {
    fn of(daemon: &Daemon, first_uid: u32, requests: &[Vec<u8>; 3]) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", FLOOD]).arg(daemon.socket());
        command.arg(first_uid.to_string());
        for request in requests {
            command.arg(format!("{request:?}"));
        }
        let child = command.current_dir("/").stdout(Stdio::piped()).spawn();
        Self(KillOnDrop(child.unwrap()))
    }

    fn wait_until_full(&mut self) {
        let line = first_line(self.0.stdout.as_mut().unwrap());
        assert_eq!(line, "full\n");
    }
}

/// Requests a token over HTTP as that user, and returns the status line.
fn status_line_as(daemon: &Daemon, uid: u32) -> String {
    let script = format!(
        "import socket\n\
         s = socket.socket(socket.AF_UNIX)\n\
         s.connect({:?})\n\
         s.sendall(b'GET /v1/token/data?format=token HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n\
         print(s.makefile().readline())",
        daemon.socket()
    );
    let (_, stdout, stderr) = parts(&python_as(uid, &script).output().unwrap());
    assert_eq!(stderr, "");
    stdout.trim().to_owned()
}

#[test]
fn connections_of_65536_uids_block_neither_another_user_nor_root() {
    let explain = with_hello(&Request::Explain(TokenSubject {
        client: None,
        scope: "data".to_owned(),
    }));
    assert_flood_blocks_nobody(
        &[explain, watch_request(), half_request()],
        "msg=\"connection limit reached",
    );
}

#[test]
fn http_connections_of_65536_uids_block_neither_another_user_nor_root() {
    let request =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    assert_flood_blocks_nobody(
        &[
            request("/v1/explain/data"),
            request("/v1/watch/data"),
            b"GET /v1/tok".to_vec(),
        ],
        "msg=\"HTTP connection limit reached",
    );
}

/// Floods a daemon with these requests, and checks that others are served over frames and HTTP, and that the daemon logs
/// a warning.
fn assert_flood_blocks_nobody(requests: &[Vec<u8>; 3], warning: &str) {
    if !is_root() {
        return;
    }
    let seconds = env::var("DOMO_TOKEN_FLOOD").ok();
    let seconds: Option<u64> = seconds.map(|seconds| seconds.parse().unwrap());
    let sandbox = sandbox(HOUR);
    let folder = open_folder(&sandbox, "[\"data\"]", "", "");
    let mut command = Daemon::command_of_config(folder.path());
    if let Some(program) = env::var_os("DOMO_TOKEND") {
        let mut other = Command::new(program);
        other.env_clear().args(command.get_args());
        command = other;
    }
    let mut daemon = Daemon::start_as(command, folder);
    if daemon.log.contains("few descriptors") {
        print_skip("the system gives too few descriptors");
        return;
    }
    token(&ask_as(&daemon, DAEMON, DAEMON, &["data"]));
    let mut floods = [100_000, 132_768].map(|first| Flood::of(&daemon, first, requests));
    for flood in &mut floods {
        flood.wait_until_full();
    }
    let mut times = Vec::new();
    let begun = boot_now();
    for asked in 0..20 {
        times.push(timed(|| token(&ask_as(&daemon, DAEMON, DAEMON, &["data"]))).0);
        let (took, status) = timed(|| daemon.ask(&["status", "--quiet"]));
        assert_eq!(parts(&status).0, Some(0));
        times.push(took);
        for uid in [DAEMON, 0] {
            let (took, status) = timed(|| status_line_as(&daemon, uid));
            assert_eq!(status, "HTTP/1.1 200 OK");
            times.push(took);
        }
        let next = begun + Duration::from_secs(seconds.unwrap_or(0)) * (asked + 1) / 20;
        while boot_now() < next {
            pause();
        }
    }
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    let peak = memory(&daemon, "VmHWM");
    println!("median {median:?}, longest {longest:?}, {peak} bytes at the peak");
    assert!(peak < MEMORY_LIMIT, "{peak} bytes");
    if seconds.is_some() {
        assert!(longest < Duration::from_secs(2), "{longest:?}");
        assert!(median < Duration::from_millis(300), "{median:?}");
    }
    drop(floods);
    let line = daemon.wait_for_log(warning);
    assert!(
        line.contains("level=warn") && line.contains(" users=1"),
        "{line}"
    );
    token(&ask_as(&daemon, DAEMON, DAEMON, &["data"]));
}
