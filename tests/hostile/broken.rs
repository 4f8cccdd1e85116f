//! Callers that break the protocol or disconnect, and the resources they leave behind.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use domo_sandbox::Fault;
use domo_token_protocol::frame::{self, HEAD};
use domo_token_protocol::greeting::GREETING;
use domo_token_protocol::messages::Request;

use crate::common::callers::{half_request, token_request, watch_request, with_hello};
use crate::common::wait::until;
use crate::common::{
    self, Daemon, HOUR, PATIENCE, config_text, failure, print_skip, sandbox, sandbox_and_daemon,
    sandbox_and_folder, token,
};
use crate::{memory, sockets, wait_for_sockets};

/// Sends these bytes and reads until the connection is closed.
fn send_and_read(daemon: &Daemon, bytes: &[u8]) -> Vec<u8> {
    let mut caller = UnixStream::connect(daemon.socket()).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    // The daemon may close the connection before all is sent.
    let _ = caller.write_all(bytes);
    let mut answer = Vec::new();
    if let Err(error) = caller.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    answer
}

/// Reads one response; the first one follows the greeting.
pub(crate) fn answer(caller: &mut UnixStream, greeted: bool) -> Vec<u8> {
    let mut head = vec![0; if greeted { HEAD } else { GREETING + HEAD }];
    caller.read_exact(&mut head).unwrap();
    let length = head.last_chunk::<4>().unwrap();
    let mut body = vec![0; frame::body_length(*length).unwrap()];
    caller.read_exact(&mut body).unwrap();
    body
}

#[test]
fn invalid_frames_close_the_connection_and_allocate_nothing() {
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nfirst_request_deadline = \"10m\"\nrequest_deadline = \"10m\"\n";
    let daemon = Daemon::start(&(limits.to_owned() + &config_text(&sandbox, "[\"data\"]")));
    let given = token(&daemon.ask(&["data"]));
    let hello = b"DTK\x02";
    let with = |length: u32| [&hello[..], &length.to_le_bytes()].concat();
    for bad in [
        with(0),
        with(4096 + 1),
        [&token_request()[..], &4097_u32.to_le_bytes()].concat(),
        with(64 * 1024),
        with(u32::MAX),
        [&with(2)[..], b"\xff\xff"].concat(),
        [&token_request()[..], b"\x01\x00\x00\x00\xff"].concat(),
        b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0; 100_000],
    ] {
        let answer = send_and_read(&daemon, &bad);
        assert!(
            answer.is_empty() || bad.starts_with(&token_request()),
            "{bad:?}"
        );
    }
    // The daemon allocates nothing for a length before the bytes arrive.
    let before = memory(&daemon, "VmRSS");
    let waiting: Vec<UnixStream> = (0..500)
        .map(|_| {
            let mut caller = UnixStream::connect(daemon.socket()).unwrap();
            caller.write_all(&with(4096)).unwrap();
            caller
        })
        .collect();
    assert_eq!(token(&daemon.ask(&["data"])), given);
    let grown = memory(&daemon, "VmRSS").saturating_sub(before);
    assert!(grown < 500 * 4 * 1024, "{grown} bytes");
    drop(waiting);
}

#[test]
fn helper_exits_78_when_the_client_name_makes_the_request_too_long() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let stderr = failure(&daemon.ask(&["--client", &"c".repeat(5000), "data"]), 78);
    assert!(stderr.contains("exceeds the limit of 4096"), "{stderr}");
}

/// The maximum number of connections, each with the longest request except for its last byte.
#[test]
fn half_sent_requests_on_every_connection_stay_within_the_shipped_memory_limit() {
    const COUNT: usize = 4096;
    const LIMIT: usize = 64 * 1024 * 1024;
    common::raise_descriptor_limit();
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nrequest_deadline = \"10m\"\n".to_owned();
    let folder = common::folder(&(limits + &config_text(&sandbox, "[\"data\"]")));
    let daemon = Daemon::start_as(Daemon::command_of_config(folder.path()), folder);
    if daemon.log.contains("few descriptors") {
        print_skip("the system gives too few descriptors");
        return;
    }
    token(&daemon.ask(&["data"]));
    let before = memory(&daemon, "RssAnon");
    // Eight connections remain for the requests below.
    let waiting: Vec<UnixStream> = (0..COUNT - 8)
        .map(|_| {
            let mut caller = UnixStream::connect(daemon.socket()).unwrap();
            caller.write_all(&token_request()).unwrap();
            answer(&mut caller, false);
            caller.write_all(&4096_u32.to_le_bytes()).unwrap();
            caller.write_all(&[0; 4095]).unwrap();
            caller
        })
        .collect();
    token(&daemon.ask(&["data"]));
    let peak = memory(&daemon, "VmHWM");
    let each = (memory(&daemon, "RssAnon") - before) / waiting.len();
    println!("{each} bytes each, {peak} at the peak");
    assert!(each < 8 * 1024, "{each} bytes each");
    assert!(peak < LIMIT, "{peak} at the peak");
}

#[test]
fn request_sent_byte_by_byte_and_a_thousand_pipelined_ones_are_answered() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let given = token(&daemon.ask(&["data"]));
    let holds = |body: &[u8]| {
        body.windows(given.len())
            .any(|part| part == given.as_bytes())
    };
    let mut caller = UnixStream::connect(daemon.socket()).unwrap();
    for byte in token_request() {
        caller.write_all(&[byte]).unwrap();
    }
    assert!(holds(&answer(&mut caller, false)));
    let next = token_request().split_off(4);
    let many = next.repeat(1000);
    let writing = thread::scope(|scope| {
        let mut writer = caller.try_clone().unwrap();
        let writing = scope.spawn(move || writer.write_all(&many));
        for _ in 0..1000 {
            assert!(holds(&answer(&mut caller, true)));
        }
        writing.join().unwrap()
    });
    writing.unwrap();
}

#[test]
fn two_thousand_expensive_requests_delay_no_other_caller() {
    const COUNT: usize = 2000;
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    token(&daemon.ask(&["data"]));
    let length = daemon.broker().metrics().unwrap().len();
    let mut greedy = UnixStream::connect(daemon.socket()).unwrap();
    let more = frame::encode(&Request::Metrics).unwrap().repeat(COUNT - 1);
    let all = [with_hello(&Request::Metrics), more].concat();
    greedy.write_all(&all).unwrap();
    let read = AtomicUsize::new(0);
    thread::scope(|scope| {
        let mut stream = greedy.try_clone().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let count = &read;
        scope.spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(some @ 1..) = stream.read(&mut buffer) {
                count.fetch_add(some, Ordering::Relaxed);
            }
        });
        let so_far = || read.load(Ordering::Relaxed);
        until(|| (so_far() > 0).then_some(()).ok_or("it has none"));
        token(&daemon.ask(&["data"]));
        let had = so_far();
        greedy.shutdown(Shutdown::Both).unwrap();
        assert!(
            had < length * COUNT / 2,
            "{had} bytes before another's answer"
        );
    });
}

#[test]
fn connection_that_sends_more_while_a_request_waits_is_closed() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::hold()]);
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let mut caller = UnixStream::connect(daemon.socket()).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    caller.write_all(&token_request()).unwrap();
    daemon.wait_for_log("received request");
    caller.write_all(&token_request().split_off(4)).unwrap();
    daemon.wait_for_log("sent another request before");
    let mut answer = Vec::new();
    let _ = caller.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    sandbox.recover();
    token(&daemon.ask(&["data"]));
}

#[test]
fn callers_that_disconnect_or_never_read_affect_no_others() {
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nanswer_deadline = \"1s\"\nrequest_deadline = \"1s\"\n\
                  first_request_deadline = \"1s\"\n";
    let config = limits.to_owned() + &config_text(&sandbox, "[\"data\"]");
    let mut daemon = Daemon::start(&config);
    let given = token(&daemon.ask(&["data"]));
    for _ in 0..200 {
        let mut leaving = UnixStream::connect(daemon.socket()).unwrap();
        leaving.write_all(&token_request()).unwrap();
    }
    let silent = UnixStream::connect(daemon.socket()).unwrap();
    let mut half = UnixStream::connect(daemon.socket()).unwrap();
    half.write_all(&half_request()).unwrap();
    let mut later = UnixStream::connect(daemon.socket()).unwrap();
    later.write_all(&token_request()).unwrap();
    answer(&mut later, false);
    later.write_all(&[9]).unwrap();
    let mut slow_reader = UnixStream::connect(daemon.socket()).unwrap();
    slow_reader.set_nonblocking(true).unwrap();
    let next = token_request().split_off(4).repeat(1000);
    slow_reader.write_all(&token_request()).unwrap();
    // Fills the socket until the daemon stops reading from it.
    while slow_reader.write(&next).is_ok() {}
    for _ in 0..4 {
        daemon.wait_for_log("connection closed: timed out");
    }
    for mut closed in [silent, half, later] {
        let mut nothing = Vec::new();
        let _ = closed.read_to_end(&mut nothing);
        assert_eq!(nothing, b"");
    }
    // What the kernel buffers for it counts as the daemon's memory.
    slow_reader.set_nonblocking(false).unwrap();
    let mut received = Vec::new();
    let _ = slow_reader.read_to_end(&mut received);
    assert!(received.len() <= 16 * 1024, "{}", received.len());
    assert_eq!(token(&daemon.ask(&["data"])), given);
}

/// Breaks the protocol in each known way once.
fn hostile_caller(daemon: &Daemon) {
    let connect = || UnixStream::connect(daemon.socket()).unwrap();
    drop(connect());
    for part in [
        &b"D"[..],
        b"DTK\x01",
        b"DTK\x02",
        b"DTK\x63",
        b"DTK\x01\xff\xff\xff\xff",
        b"XXXXXXXX",
    ] {
        let mut caller = connect();
        caller.write_all(part).unwrap();
    }
    let mut leaving = connect();
    leaving.write_all(&half_request()).unwrap();
    let mut leaving = connect();
    leaving.write_all(&token_request()).unwrap();
    let mut watching = connect();
    watching.write_all(&watch_request()).unwrap();
    answer(&mut watching, false);
    let mut unread = connect();
    unread.write_all(&with_hello(&Request::Status)).unwrap();
    let mut refused = connect();
    refused.write_all(&with_hello(&Request::Metrics)).unwrap();
    answer(&mut refused, false);
}

#[test]
fn thousands_of_hostile_callers_leave_no_resources_in_use() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let daemon = Daemon::start_as(Daemon::command_of_config(folder.path()), folder);
    token(&daemon.ask(&["data"]));
    let before = sockets(&daemon);
    let round = |count: usize| {
        for _ in 0..count {
            hostile_caller(&daemon);
        }
        wait_for_sockets(&daemon, before);
        memory(&daemon, "RssAnon")
    };
    let warm = round(200);
    let after = round(1000);
    println!("{warm} bytes after 200 rounds, {after} after 1200");
    assert!(after < warm + 256 * 1024, "{after}, not {warm}");
}

#[test]
fn hostile_callers_leak_no_memory() {
    let found = Command::new("valgrind").arg("--version").output();
    if found.is_err() {
        print_skip("there is no valgrind to look for leaks with");
        return;
    }
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let plain = Daemon::command_of_config(folder.path());
    let mut command = Command::new("valgrind");
    command.args([
        "--quiet",
        "--leak-check=full",
        "--show-leak-kinds=definite,indirect",
        "--errors-for-leak-kinds=definite,indirect",
        "--error-exitcode=9",
    ]);
    // Valgrind can only inspect a dumpable process.
    command.arg(plain.get_program()).arg("--debuggable");
    command.args(plain.get_args()).stdin(Stdio::null());
    let daemon = Daemon::start_as(command, folder);
    token(&daemon.ask(&["--timeout", "60", "data"]));
    let before = sockets(&daemon);
    for _ in 0..50 {
        hostile_caller(&daemon);
    }
    wait_for_sockets(&daemon, before);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
}
