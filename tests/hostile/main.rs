//! Hostile and broken callers lose only their own connection.

#![cfg(test)]

mod broken;
#[path = "../common/mod.rs"]
mod common;
mod descriptors;
mod many_users;
mod stopping;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::common::print_skip;
use broken::answer;
use common::callers::{
    DAEMON, USER_A, ask_as, half_request, is_root, open_folder, python_as, watch_request,
    with_hello,
};
use common::process::{KillOnDrop, first_line};
use common::wait::until;
use common::{
    Daemon, HOUR, PATIENCE, config_text, failure, parts, raise_descriptor_limit, sandbox, timed,
    token,
};
use domo_sandbox::{Fault, Sandbox};
use domo_token_protocol::messages::{Request, TokenSubject};

/// The daemon's processor time in ticks of 10 ms (proc(5)).
fn processor_ticks(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next().unwrap().parse::<u64>().unwrap();
    next() + next()
}

/// The daemon's share of one processor while `job` runs, in percent.
fn processor_share<T>(daemon: &Daemon, job: impl FnOnce() -> T) -> (f64, T) {
    let before = processor_ticks(daemon);
    let (took, result) = timed(job);
    let used = u32::try_from(processor_ticks(daemon) - before).unwrap();
    (f64::from(used) / took.as_secs_f64(), result)
}

/// The number of the daemon's sockets: listeners, callers, and connections to Domo.
fn sockets(daemon: &Daemon) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let links = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let is_socket = |link: &PathBuf| link.to_string_lossy().starts_with("socket:");
    links.filter(is_socket).count()
}

/// A value of `/proc/PID/status`, in bytes.
fn memory(daemon: &Daemon, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

/// Waits until the daemon has no more sockets than that.
fn wait_for_sockets(daemon: &Daemon, most: usize) {
    until(|| match sockets(daemon) {
        few if few <= most => Ok(()),
        many => Err(many),
    });
}

/// Connects `count` times and sends a hello and half a request on each connection; every second one continues with
/// a byte twice a second. Prints `full` once `refused` of them were rejected for lack of room. Rejected ones retry,
/// one every 10 ms.
const MANY_CONNECTIONS: &str = r#"
import json, resource, select, signal, socket, sys, time
path, half, count, refused = sys.argv[1], bytes(json.loads(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
signal.alarm(120)
poll = select.poll()
held = {}
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    try:
        s.send(half)
    except OSError:
        pass
    poll.register(s, select.POLLIN)
    held[s.fileno()] = s
def is_rejected(fd):
    s = held.pop(fd)
    poll.unregister(s)
    with s:
        try:
            return b"connection limit" in s.recv(4096)
        except OSError:
            return False
for number in range(count):
    connect()
rejected = 0
while rejected < refused:
    rejected += sum(is_rejected(fd) for fd, _ in poll.poll())
print("full", flush=True)
last = time.monotonic()
while True:
    time.sleep(0.01)
    for fd, _ in poll.poll(0)[:1]:
        is_rejected(fd)
        connect()
    if time.monotonic() - last > 0.5:
        last = time.monotonic()
        for number, s in enumerate(held.values()):
            try:
                number % 2 and s.send(b"\0")
            except OSError:
                pass
"#;

/// Starts a user's process that holds connections, and waits until `refused` of `count` are rejected.
fn many_connections(daemon: &Daemon, uid: u32, count: usize, refused: usize) -> KillOnDrop {
    let mut command = python_as(uid, MANY_CONNECTIONS);
    command
        .arg(daemon.socket())
        .arg(format!("{:?}", half_request()));
    command.args([count.to_string(), refused.to_string()]);
    let mut child = KillOnDrop(command.stdout(Stdio::piped()).spawn().unwrap());
    let line = first_line(child.stdout.as_mut().unwrap());
    assert_eq!(line, "full\n");
    child
}

/// The longest of `count` runs of a user's `domo-token data`.
fn slowest(daemon: &Daemon, uid: u32, count: usize) -> Duration {
    let times = (0..count).map(|_| timed(|| token(&ask_as(daemon, uid, uid, &["data"]))).0);
    times.max().unwrap()
}

/// Checks that other users are served while `start` loads the daemon, and that the users of the load get no token.
fn assert_others_are_served(
    daemon: &Daemon,
    sandbox: &Sandbox,
    start: impl FnOnce() -> Vec<KillOnDrop>,
) {
    token(&ask_as(daemon, DAEMON, DAEMON, &["data"]));
    let before = sockets(daemon);
    let unloaded = slowest(daemon, DAEMON, 20);
    let load_processes = start();
    let output = ask_as(daemon, USER_A, USER_A, &["--timeout", "1", "data"]);
    let stderr = failure(&output, 75);
    assert!(stderr.contains("connection limit"), "{stderr}");
    let seen = sandbox.requests().len();
    let (load, loaded) = processor_share(daemon, || {
        let loaded = slowest(daemon, DAEMON, 20);
        sandbox.wait_for_requests(seen + 2, PATIENCE).unwrap();
        loaded
    });
    println!(
        "load {load:.1} %, slowest {unloaded:?} before and {loaded:?} now, {} sockets",
        sockets(daemon)
    );
    assert!(load < 5.0, "{load} % of a processor");
    assert!(
        loaded < unloaded * 5 + Duration::from_millis(50),
        "{loaded:?}, not {unloaded:?}"
    );
    drop(load_processes);
    let (took, ()) = timed(|| wait_for_sockets(daemon, before));
    assert!(took < Duration::from_secs(1), "as before after {took:?}");
    token(&ask_as(daemon, USER_A, USER_A, &["data"]));
}

#[test]
fn five_thousand_slow_connections_of_a_user_delay_no_other_user() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(Duration::from_secs(4));
    let folder = open_folder(&sandbox, "[\"data\"]", "", "");
    let daemon = Daemon::start_as(Daemon::command_of_config(folder.path()), folder);
    assert_others_are_served(&daemon, &sandbox, || {
        vec![many_connections(&daemon, USER_A, 5000, 5000 - 1024)]
    });
}

#[test]
fn configured_limits_apply_to_connections_and_watchers_of_a_user() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nconnections_per_user = 20\nwatchers_per_user = 2\n";
    let folder = open_folder(&sandbox, "[\"data\"]", limits, "");
    let daemon = Daemon::start_in(folder);
    let script = format!(
        "import socket\n\
         held=[]\n\
         for n in range(3):\n\
         \ts=socket.socket(socket.AF_UNIX); s.connect(\"{}\"); s.send(bytes({:?})); held.append(s)\n\
         \tprint(b'limit per user reached' in s.recv(65536))\n",
        daemon.socket().display(),
        watch_request()
    );
    let (_, stdout, stderr) = parts(&python_as(USER_A, &script).output().unwrap());
    assert_eq!(stdout, "False\nFalse\nTrue\n", "{stderr}");
    let connections = many_connections(&daemon, USER_A, 40, 20);
    token(&ask_as(&daemon, DAEMON, DAEMON, &["data"]));
    drop(connections);
    token(&ask_as(&daemon, USER_A, USER_A, &["--wait", "data"]));
}

#[test]
fn ended_watch_releases_its_watcher_permit() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nwatchers_per_user = 1\n";
    let folder = open_folder(&sandbox, "[\"data\", \"user\"]", limits, "");
    let daemon = Daemon::start_in(folder);
    let other = with_hello(&Request::Watch(TokenSubject {
        client: None,
        scope: "user".to_owned(),
    }));
    // Prints when it watches, and whether it may watch another set after the first one was removed.
    let script = format!(
        "import socket\n\
         def watch(request):\n\
         \ts=socket.socket(socket.AF_UNIX); s.connect(\"{}\"); s.send(bytes(request)); return s\n\
         s=watch({other:?})\n\
         s.recv(65536)\n\
         print('watches', flush=True)\n\
         print(b'removed' in s.recv(65536))\n\
         print(b'limit per user reached' in watch({:?}).recv(65536))\n",
        daemon.socket().display(),
        watch_request()
    );
    let mut command = python_as(USER_A, &script);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(stdout.next().unwrap().unwrap(), "watches");
    let config = fs::read_to_string(daemon.folder().join("config.toml")).unwrap();
    daemon.write("config.toml", &config.replace(", \"user\"", ""));
    let rest: Vec<String> = stdout.map(Result::unwrap).collect();
    assert_eq!(rest, ["True", "False"]);
    child.wait().unwrap();
}

#[test]
fn watcher_that_never_reads_buffers_16_kib_at_most_and_is_dropped_by_its_deadline() {
    let sandbox = sandbox(Duration::from_secs(2));
    sandbox.always(Fault::token_size(16 * 1024));
    let limits = "[limits]\nanswer_deadline = \"1s\"\n";
    let mut daemon = Daemon::start(&(limits.to_owned() + &config_text(&sandbox, "[\"data\"]")));
    let mut idle_reader = UnixStream::connect(daemon.socket()).unwrap();
    idle_reader.write_all(&watch_request()).unwrap();
    let mut watch = daemon.broker().watch("data").unwrap();
    for _ in 0..5 {
        watch.next().unwrap().unwrap();
    }
    daemon.wait_for_log("connection closed");
    let tokens = sandbox.requests().len();
    let mut received = Vec::new();
    idle_reader.read_to_end(&mut received).unwrap();
    assert!(received.len() <= 16 * 1024, "{}", received.len());
    assert!(!received.is_empty(), "it had the start of its first token");
    assert!(tokens <= 8, "dropped while {tokens} tokens came");
    watch.next().unwrap().unwrap();
}

#[test]
fn ten_thousand_watchers_receive_a_new_token_within_a_second() {
    const COUNT: usize = 10_000;
    raise_descriptor_limit();
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nconnections = 11000\n";
    let folder = common::folder(&(limits.to_owned() + &config_text(&sandbox, "[\"data\"]")));
    let mut daemon = Daemon::start_as(Daemon::command_of_config(folder.path()), folder);
    if daemon.log.contains("few descriptors") {
        print_skip("the system gives too few descriptors");
        return;
    }
    token(&daemon.ask(&["data"]));
    let before = memory(&daemon, "RssAnon");
    let mut watching: Vec<UnixStream> = (0..COUNT)
        .map(|_| {
            let mut caller = UnixStream::connect(daemon.socket()).unwrap();
            caller.write_all(&watch_request()).unwrap();
            answer(&mut caller, false);
            caller
        })
        .collect();
    let each = (memory(&daemon, "RssAnon") - before) / COUNT;
    let secret = "c4nary-second-secret";
    sandbox.add_client(common::CLIENT_ID, secret, &["data"]);
    sandbox.script([Fault::hold()]);
    daemon.write("acme.secret", secret);
    sandbox.wait_for_requests(2, PATIENCE).unwrap();
    let (took, ()) = timed(|| {
        sandbox.recover();
        for caller in &mut watching {
            answer(caller, true);
        }
    });
    println!("{each} bytes each, all told in {took:?}");
    daemon.log.clear();
    // It takes longer without optimisation and beside other tests.
    let longest = if cfg!(debug_assertions) { 3 } else { 1 };
    assert!(took < Duration::from_secs(longest), "{took:?}");
    assert!(each <= 2048, "{each} bytes each");
}
