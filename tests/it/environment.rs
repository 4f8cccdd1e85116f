//! The daemon's environment: proxies, a full disk for its log, unusual scopes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;

use crate::common;
use crate::common::{
    Daemon, HOUR, PATIENCE, chmod, config_text, folder, parts, sandbox, sandbox_and_daemon,
    sandbox_and_folder, token,
};
use domo_token_client::ErrorKind;

#[test]
fn proxy_variables_are_not_used() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let mut command = Daemon::command(folder.path());
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env(name, "http://127.0.0.1:9");
    }
    token(&Daemon::start_as(command, folder).ask(&["data"]));
}

#[test]
fn configured_proxy_is_used_with_its_login() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let (sender, heads) = channel();
    thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let head: Vec<String> = lines
            .map(|line| line.unwrap())
            .take_while(|line| !line.is_empty())
            .collect();
        sender.send(head).unwrap();
        // The client may have disconnected; the daemon retries.
        let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
    });
    let config = config_text(&sandbox(HOUR), "[\"data\"]");
    let url = config
        .lines()
        .find(|line| line.starts_with("token_url"))
        .unwrap();
    let config = config.replace(url, "token_url = \"https://domo.invalid/oauth/token\"");
    let lines = format!("proxy = \"http://{address}\"\nproxy_auth_file = \"proxy.login\"\n");
    let folder = folder(&(config + &lines));
    let login = folder.path().join("proxy.login");
    fs::write(&login, "ann:c4nary pass\n").unwrap();
    chmod(&login, 0o600);
    let mut daemon = Daemon::start_in(folder);
    let head = heads.recv_timeout(PATIENCE).unwrap();
    assert_eq!(head[0], "CONNECT domo.invalid:443 HTTP/1.1");
    let sent = head.iter().any(|line| {
        line.to_ascii_lowercase()
            .starts_with("proxy-authorization: basic ")
            && line.ends_with("YW5uOmM0bmFyeSBwYXNz")
    });
    assert!(sent, "{head:?}");
    let line = daemon.wait_for_log("no valid token");
    let answered = format!("the proxy {address} returned 502 Bad Gateway to CONNECT");
    assert!(line.contains(&answered), "{line}");
    assert!(!line.contains("c4nary"), "{line}");
}

#[test]
fn daemon_whose_log_cannot_be_written_serves() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = Daemon::command(folder.path());
    let mut child = command.stderr(Stdio::from(full)).spawn().unwrap();
    let socket = folder.path().join("broker.sock");
    for _ in 0..3 {
        token(
            &common::helper(&socket, &["--wait", "data"])
                .output()
                .unwrap(),
        );
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn daemon_as_root_serves_and_warns_once() {
    let (_sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    daemon.reload();
    let (_, log) = daemon.stop();
    let warnings = log.matches("running as root; a dedicated user").count();
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(warnings, usize::from(is_root), "{log}");
}

#[test]
fn invalid_scopes_exit_2_and_never_reach_domo() {
    let (sandbox, daemon) = sandbox_and_daemon(HOUR);
    token(&daemon.ask(&["data"]));
    let long = "s".repeat(10 * 1024);
    for odd in [
        "../data",
        "data offline_access",
        "data\noffline_access",
        "data\r",
        "data%20user",
        "data&grant_type=password",
        "d\u{0430}ta",
        "DATA",
        "\"data\"",
        &long,
    ] {
        let (code, stdout, stderr) = parts(&daemon.ask(&["--", odd]));
        assert!(matches!(code, Some(2 | 78)), "{odd:?}: {code:?} {stderr}");
        assert_eq!(stdout, "", "{odd:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    let broker = daemon.broker();
    for odd in ["data\0", "", " ", "data\u{7f}"] {
        let error = broker.token(odd).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidScope, "{odd:?}: {error}");
    }
    assert_eq!(sandbox.requests().len(), 1);
}
