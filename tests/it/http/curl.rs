//! curl, as in the documentation.

use std::process::{Command, Output};
use std::time::Duration;

use super::first_token;
use crate::common::{Daemon, HOUR, parts, print_skip, sandbox_and_daemon};

/// Runs curl on the daemon's socket, or prints that the test is skipped.
fn curl(daemon: &Daemon, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("curl");
    command.env_clear().args(["-q", "-sS", "--unix-socket"]);
    command.arg(daemon.socket()).args(arguments);
    let output = command.output();
    if output.is_err() {
        print_skip("curl is not installed");
    }
    output.ok()
}

#[test]
fn curl_gets_a_token_in_one_line() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (text, _) = first_token(&daemon);
    let url = "http://localhost/v1/token/data?format=token";
    let Some(output) = curl(&daemon, &["--fail", url]) else {
        return;
    };
    assert_eq!(
        parts(&output),
        (Some(0), format!("{text}\n"), String::new())
    );
}

#[test]
fn curl_sends_the_header_that_another_curl_received() {
    let (sandbox, daemon) = sandbox_and_daemon(HOUR);
    let url = "http://localhost/v1/token/data?format=header";
    let Some(output) = curl(&daemon, &["--fail", url]) else {
        return;
    };
    let header = daemon.folder().join("token-header");
    std::fs::write(&header, &output.stdout).unwrap();
    let body = daemon.folder().join("body");
    let mut command = Command::new("curl");
    command.args([
        "-q",
        "-sS",
        "--fail",
        "-o",
        body.to_str().unwrap(),
        "-w",
        "%{http_code}",
        "-H",
    ]);
    command.arg(format!("@{}", header.display()));
    let answer = command.arg(sandbox.url("/v1/datasets")).output().unwrap();
    let (code, status, stderr) = parts(&answer);
    assert_eq!((code, &*status), (Some(0), "200"), "{stderr}");
}

#[test]
fn curl_fails_with_the_problem_on_an_error() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let url = "http://localhost/v1/token/nosuch";
    let Some(output) = curl(&daemon, &["--fail-with-body", url]) else {
        return;
    };
    let (code, stdout, _) = parts(&output);
    assert_eq!(code, Some(22), "{stdout}");
    assert!(stdout.contains("urn:domo-token:unknown_scope"), "{stdout}");
}

#[test]
fn curl_reuses_one_connection_and_etags() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (_, generation) = first_token(&daemon);
    let url = "http://localhost/v1/token/data";
    let format = "%{http_code} %{num_connects}\n";
    let tag = format!("If-None-Match: \"{generation}\"");
    let body = daemon.folder().join("token-body");
    let body = body.to_str().unwrap();
    let two = [url, url, "-o", body, "-o", body, "-w", format];
    for (header, expected) in [("A: b", "200 1\n200 0\n"), (&tag, "304 1\n304 0\n")] {
        let arguments = [&two[..], &["-H", header]].concat();
        let Some(output) = curl(&daemon, &arguments) else {
            return;
        };
        let (code, stdout, stderr) = parts(&output);
        assert_eq!((code, &*stdout), (Some(0), expected), "{stderr}");
    }
}

#[test]
fn curl_shows_the_head_of_a_response_alone() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (text, generation) = first_token(&daemon);
    let Some(output) = curl(&daemon, &["--head", "http://localhost/v1/token/data"]) else {
        return;
    };
    let (code, stdout, stderr) = parts(&output);
    assert_eq!(code, Some(0), "{stderr}");
    let shown = stdout.to_lowercase();
    assert!(shown.starts_with("http/1.1 200"), "{shown}");
    assert!(
        shown.contains(&format!("etag: \"{generation}\"")),
        "{shown}"
    );
    assert!(!stdout.contains(&text));
}

#[test]
fn curl_receives_events_until_its_time_limit() {
    let (_sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(3));
    let url = "http://localhost/v1/watch/data";
    let Some(output) = curl(&daemon, &["--no-buffer", "--max-time", "4", url]) else {
        return;
    };
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(28), "its time limit");
    let events = stdout
        .lines()
        .filter(|line| line.trim_end() == "event: token")
        .count();
    assert!(events >= 2, "{events}");
}

#[test]
fn curl_with_http_2_prior_knowledge_fails_without_a_token() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let url = "http://localhost/v1/token/data?format=token";
    let arguments = ["--http2-prior-knowledge", "--max-time", "20", url];
    let Some(output) = curl(&daemon, &arguments) else {
        return;
    };
    let (code, stdout, _) = parts(&output);
    assert_ne!(code, Some(0));
    assert!(!stdout.contains("eyJ"), "{}", stdout.len());
    let (_, stdout, _) = parts(&curl(&daemon, &["--http1.0", url]).unwrap());
    assert!(stdout.contains("urn:domo-token:version_not_supported"));
    let (code, stdout, _) = parts(&curl(&daemon, &["--http2", url]).unwrap());
    assert_eq!(code, Some(0), "an upgrade that is not accepted: {stdout}");
    let post = parts(&curl(&daemon, &["-d", "x=1", url]).unwrap()).1;
    assert!(post.contains("urn:domo-token:method_not_allowed"), "{post}");
}
