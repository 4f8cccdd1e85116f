//! Servers that are no engine: garbage, endless answers, silence. They cost a second and no memory.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::hosts::{COLD_EXTRA, SLACK, client, domo, section, start_all, tokens_of};
use crate::common::redis::free_port;
use crate::common::{Daemon, HOUR};

/// How much more memory a hostile server may cost than one that refuses connections, in KiB.
const GROWTH: u64 = 1024;

/// What a server sends after the first bytes of a request: once, and then repeatedly until the connection ends.
const SERVERS: [(&str, &str, &str); 8] = [
    ("silence", "", ""),
    ("HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n<html>", ""),
    (
        "endless bulk",
        "*2\r\n$1\r\n1\r\n$1\r\n2\r\n$536870912\r\n",
        "xxxxxxxxxxxxxxxx",
    ),
    ("endless line", "+", "xxxxxxxxxxxxxxxx"),
    ("endless answers", "", "+OK\r\n"),
    ("nested lists", "", "*1\r\n"),
    ("list without items", "*2147483647\r\n", ""),
    ("half an answer", "*2\r\n$10\r\n17", ""),
];

/// Starts a server that sends that to each connection.
fn hostile(once: &'static str, repeated: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || serve(stream, once, repeated));
        }
    });
    address
}

fn serve(mut stream: TcpStream, once: &str, repeated: &str) {
    let block = repeated.repeat(4096);
    let mut request = [0; 10];
    let mut send = || -> std::io::Result<()> {
        stream.read_exact(&mut request)?;
        stream.write_all(once.as_bytes())?;
        while !block.is_empty() {
            stream.write_all(block.as_bytes())?;
        }
        std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
    };
    // It ends when the daemon closes the connection.
    let _ = send();
}

/// Returns the most memory that a process has had, in KiB.
fn peak(host: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap_or_default().trim().trim_end_matches(" kB");
    number.parse().unwrap_or_default()
}

#[test]
fn hostile_servers_delay_a_cold_caller_little_and_cost_no_memory() {
    let domo = domo(HOUR);
    let config = |address: &dyn std::fmt::Display| {
        client(&domo) + &section(&format!("redis://{address}"), "")
    };
    let mut configs = vec![config(&format!("127.0.0.1:{}", free_port()))];
    configs.extend(SERVERS.map(|(_, once, repeated)| config(&hostile(once, repeated))));
    let hosts = start_all(&configs);
    let (_, took) = tokens_of(&hosts);
    assert!(took <= COLD_EXTRA + SLACK, "{took:?}");
    assert_eq!(domo.requests().len(), hosts.len());
    let peaks: Vec<u64> = hosts.iter().map(peak).collect();
    for (peak, (name, ..)) in peaks[1..].iter().zip(SERVERS) {
        assert!(*peak <= peaks[0] + GROWTH, "{name}: {peaks:?} KiB");
    }
    for (host, (name, ..)) in hosts[1..].iter().zip(SERVERS) {
        let status = super::hosts::fleet_status(host);
        assert_eq!(status["up"], false, "{name}: {status}");
        let error = status["last_error"].as_str().unwrap();
        assert!(
            error.len() < 500 && !error.contains("xxxx"),
            "{name}: {error}"
        );
    }
}
