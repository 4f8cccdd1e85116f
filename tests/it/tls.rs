//! Untrusted servers, unknown hosts, and lost connections.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::common::{
    CANARY_SECRET, CLIENT_ID, Daemon, PATIENCE, failure, folder_for, listener_with_full_backlog,
    sandbox_and_daemon, timed, token,
};
use domo_sandbox::{Builder, Sandbox};
use domo_token_client::clock::boot_now;

fn https() -> Builder {
    Sandbox::builder().client(CLIENT_ID, CANARY_SECRET, &["data"])
}

fn daemon(url: &str, ca: Option<&str>) -> Daemon {
    Daemon::start_in(folder_for(url, ca))
}

/// Checks that a request fails with 75 and one line that contains these words, and that the next attempt is half a
/// minute later.
fn assert_refused(daemon: &mut Daemon, words: &[&str]) {
    daemon.wait_for_log("cause=tls");
    let stderr = failure(&daemon.ask(&["--timeout", "1", "data"]), 75);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word} in {stderr}");
    }
    let set = daemon.status_of("data");
    let rest = set["next_attempt_at"].as_u64().unwrap() - set["last_error_at"].as_u64().unwrap();
    assert!((29..=61).contains(&rest), "{set}");
}

#[test]
fn untrusted_server_receives_no_secret_and_no_second_attempt() {
    for (server, trusted, words) in [
        (https().https(true), false, "ca_file must contain"),
        (https().https_expired(), true, "expired"),
        (
            https().https_for("elsewhere.example"),
            true,
            "elsewhere.example",
        ),
    ] {
        let sandbox = server.start().unwrap();
        let ca = sandbox.ca_pem().filter(|_| trusted);
        let mut daemon = daemon(&sandbox.token_url(), ca.as_deref());
        assert_refused(&mut daemon, &["certificate", words]);
        assert_eq!(sandbox.connections(), 1, "{words}");
        assert_eq!(sandbox.requests().len(), 0, "{words}");
    }
}

/// A server that ends each handshake with the alert of RFC 8446 §6.2 for an unsupported version. It returns what it
/// read.
fn server_of_an_old_version() -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/oauth/token", listener.local_addr().unwrap());
    let (sender, read) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut hello = vec![0; 4096];
            let length = stream.read(&mut hello).unwrap();
            hello.truncate(length);
            stream.write_all(&[21, 3, 1, 0, 2, 2, 70]).unwrap();
            if sender.send(hello).is_err() {
                return;
            }
        }
    });
    (url, read)
}

#[test]
fn server_with_only_old_tls_versions_is_an_error() {
    let (url, read) = server_of_an_old_version();
    let mut daemon = daemon(&url, None);
    assert_refused(&mut daemon, &["TLS"]);
    let hello = read.recv_timeout(PATIENCE).unwrap();
    assert_eq!(hello[0], 22, "a handshake, no plain text");
    assert!(read.try_recv().is_err(), "no second try");
}

#[test]
fn unknown_host_exits_75_and_is_named() {
    let mut daemon = daemon("https://domo.invalid/oauth/token", None);
    daemon.wait_for_log("cause=connect");
    let (took, output) = timed(|| daemon.ask(&["--timeout", "2", "data"]));
    let stderr = failure(&output, 75);
    assert!(stderr.contains("domo.invalid"), "{stderr}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn connection_without_an_answer_times_out_after_ten_seconds() {
    let (server, _pending) = listener_with_full_backlog(([127, 0, 0, 1], 0).into());
    let url = format!("https://{}/oauth/token", server.local_addr().unwrap());
    let start = boot_now();
    let mut daemon = daemon(&url, None);
    let line = daemon.wait_for_log("cause=timeout");
    let took = boot_now().saturating_since(start);
    let limits = Duration::from_secs(10)..Duration::from_secs(20);
    assert!(limits.contains(&took), "{took:?}");
    assert!(line.contains("no connection to 127.0.0.1"), "{line}");
}

#[test]
fn renewal_opens_a_new_connection() {
    let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(4));
    token(&daemon.ask(&["data"]));
    sandbox.stop_listening().unwrap();
    sandbox.listen_again().unwrap();
    let seen = sandbox.wait_for_requests(3, PATIENCE).unwrap();
    assert!(seen[..2].iter().all(|request| request.status == Some(200)));
    assert_eq!(sandbox.connections(), seen.len(), "one for each request");
    assert_eq!(daemon.status_of("data")["failed_attempts"], 0);
}
