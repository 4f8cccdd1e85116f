//! Metrics and health over HTTP.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;

use super::{Daemon, PATIENCE, folder};

/// Starts a daemon that serves metrics, and returns the port.
pub(crate) fn start(config: &str) -> (Daemon, u16) {
    start_as(config, |_| {})
}

/// Like `start`, with a changed command.
pub(crate) fn start_as(config: &str, change: impl Fn(&mut Command)) -> (Daemon, u16) {
    loop {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = folder(&with_metrics(config, port));
        let mut command = Daemon::command(folder.path());
        change(&mut command);
        let mut daemon = Daemon::spawn_as(command, folder);
        // Another process may take the port in between; then the next one is tried.
        let line = daemon.wait_for_one_of(&["started", "metrics.listen"]);
        if line.contains("started") {
            return (daemon, port);
        }
        assert!(line.contains("in use"), "{line}");
    }
}

pub(crate) fn with_metrics(config: &str, port: u16) -> String {
    format!("{config}\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n")
}

/// A connection to that port.
pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends any bytes as a request and returns the status and the body of the response.
pub(crate) fn raw(mut stream: TcpStream, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

pub(crate) fn get(stream: TcpStream, path: &str) -> (u16, String) {
    raw(
        stream,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    )
}
