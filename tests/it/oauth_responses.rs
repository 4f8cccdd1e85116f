//! Responses of Domo without a usable token.

use std::fs;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use crate::common::many::{config_with_clients, sandboxes};
use crate::common::wait::until;
use crate::common::{Daemon, HOUR, PATIENCE, config_text, parts, pauses, sandbox, token};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domo_sandbox::Fault;
use domo_token::platform::clock::wall_now;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// A fault with this body, compressed and declared as such.
fn compressed(status: u16, body: impl AsRef<[u8]>) -> Fault {
    Fault::status(status)
        .body(gzip(body))
        .header("content-encoding", "gzip")
}

/// Status 200 without a usable token, and incomplete responses.
fn without_usable_token() -> Vec<Fault> {
    let deep = "[".repeat(100_000);
    vec![
        Fault::empty(),
        Fault::html(200),
        Fault::garbage(),
        Fault::cut(),
        Fault::cut_in_body(),
        Fault::oversized(64 * 1024 * 1024),
        Fault::status(200)
            .body([0x1f, 0x8b, 8, 0, 0, 0, 0, 0])
            .header("content-encoding", "gzip"),
        compressed(200, "{\"access_token\":\"a\",\"access_token\":\"b\"}"),
        compressed(200, vec![0; 64 * 1024 * 1024]),
        Fault::status(200)
            .body([0x8b, 0x13, 0x80])
            .header("content-encoding", "br"),
        Fault::status(201).body("{\"access_token\":\"a\",\"expires_in\":9}"),
        Fault::status(203).body("{\"access_token\":\"a\",\"expires_in\":9}"),
        Fault::status(200).body("{\"access_token\":\"a\",\"expires_in\":9}<!-- scanned -->"),
        Fault::status(200).body("{\"error\":\"invalid_client\"}"),
        Fault::oauth_error(400, "temporarily_unavailable", "later"),
        Fault::oauth_error(403, "invalid_client", "later").retry_after("1"),
        Fault::status(200).body(deep),
        Fault::status(200).body("{\"access_token\":\"a\",\"access_token\":\"b\",\"expires_in\":9}"),
        Fault::status(200).body("\u{feff}{\"access_token\":\"a\",\"expires_in\":9}"),
        Fault::default().header("content-type", "text/html"),
        Fault::token("two\nlines"),
        Fault::token("n\0l"),
        Fault::token("schlüssel"),
        Fault::token("with blank"),
        Fault::token(""),
        Fault::token_size(16 * 1024 + 1),
        Fault::token_type("mac"),
        Fault::expires_in(json!(0)),
        Fault::expires_in(json!(-5)),
        Fault::expires_in(json!("soon")),
        Fault::status(503),
        Fault::status(404),
    ]
}

#[test]
fn response_without_a_usable_token_keeps_the_valid_one() {
    let faults = without_usable_token();
    // The first renewal is at 16 s at the latest, and fails until the expiry at 20 s.
    let sandboxes = sandboxes(&faults, Duration::from_secs(20), true);
    for (sandbox, fault) in sandboxes.iter().zip(&faults) {
        sandbox.always(fault.clone());
    }
    let daemon = Daemon::start(&config_with_clients(&sandboxes));
    // A new broker has no cached token, so that it requests one from the daemon.
    let ask = |number: usize| daemon.broker().with_client(&format!("client{number}"));
    let numbers = 0..sandboxes.len();
    let first: Vec<_> = numbers
        .map(|number| ask(number).token("data").unwrap())
        .collect();
    for sandbox in &sandboxes {
        sandbox.wait_for_requests(2, PATIENCE).unwrap();
    }
    let broker = daemon.broker();
    until(|| {
        let mut sets = broker.status().unwrap().scopes.into_iter();
        let without = sets.find(|set| set.last_error.is_none());
        without.map_or(Ok(()), |set| Err(set.client))
    });
    for (number, fault) in faults.iter().enumerate() {
        let still = ask(number).token("data").unwrap();
        assert_eq!(still.generation(), first[number].generation(), "{fault:?}");
    }
}

#[test]
fn unusable_response_without_a_token_exits_75_in_one_line_and_is_retried() {
    let faults = without_usable_token();
    let sandboxes = sandboxes(&faults, HOUR, false);
    for (sandbox, fault) in sandboxes.iter().zip(&faults) {
        sandbox.always(fault.clone());
    }
    let mut daemon = Daemon::start(&config_with_clients(&sandboxes));
    let largest_before = peak_memory(&daemon);
    let asking = (0..sandboxes.len()).map(|number| {
        let name = format!("client{number}");
        let asking = daemon.helper(&["--client", &name, "--timeout", "1", "data"]);
        (name, { asking }.spawn().unwrap())
    });
    let asking: Vec<_> = asking.collect();
    for ((name, asking), fault) in asking.into_iter().zip(&faults) {
        let (code, stdout, stderr) = parts(&asking.wait_with_output().unwrap());
        assert_eq!(
            (code, stdout.as_str()),
            (Some(75), ""),
            "{name}, {fault:?}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    let grown = peak_memory(&daemon) - largest_before;
    // Includes the first request, and what is allocated only once.
    assert!(grown <= 8 * 1024, "{grown} KiB");
    for sandbox in &sandboxes {
        sandbox.recover();
    }
    assert!(daemon.reload().contains("config loaded"));
    for number in 0..sandboxes.len() {
        token(&daemon.ask(&["--client", &format!("client{number}"), "data"]));
    }
}

/// Returns the peak of its memory, in KiB.
fn peak_memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let figure = line.unwrap().split_whitespace().nth(1);
    figure.unwrap().parse().unwrap()
}

#[test]
fn compressed_token_is_served_and_compressed_rejection_is_78_after_one_request() {
    let good = sandbox(HOUR);
    let body = "{\"access_token\":\"abc.def\",\"expires_in\":3599}";
    good.always(compressed(200, body));
    let daemon = Daemon::start(&config_text(&good, "[\"data\"]"));
    assert_eq!(token(&daemon.ask(&["data"])), "abc.def");
    assert_eq!(good.requests().len(), 1);

    let bad = sandbox(HOUR);
    let body = "{\"error\":\"invalid_scope\",\"error_description\":\"no dta\"}";
    bad.always(compressed(400, body));
    let daemon = Daemon::start(&config_text(&bad, "[\"data\"]"));
    for _ in 0..2 {
        let (code, _, stderr) = parts(&daemon.ask(&["--timeout", "2", "data"]));
        assert_eq!(code, Some(78), "{stderr}");
        assert!(
            stderr.contains("Domo returned 400: invalid_scope: no dta"),
            "{stderr}"
        );
    }
    assert_eq!(bad.requests().len(), 1);
}

#[test]
fn rejection_that_asks_to_retry_later_is_followed_by_a_token_after_that_time() {
    let sandbox = sandbox(HOUR);
    let later = Fault::oauth_error(400, "temporarily_unavailable", "later").retry_after("2");
    sandbox.script([later]);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    token(&daemon.ask(&["--timeout", "30", "data"]));
    let seen = sandbox.requests();
    assert_eq!(seen.len(), 2);
    assert!(pauses(&seen)[0] >= Duration::from_millis(1900), "{seen:?}");
}

#[test]
fn token_with_an_earlier_jwt_expiry_is_served_until_then_with_a_warning() {
    let sandbox = sandbox(HOUR);
    let now = wall_now().duration_since(UNIX_EPOCH).unwrap();
    let payload = format!("{{\"exp\":{}}}", now.as_secs() + 600);
    let parts = ["{}", &payload, "sig"].map(|part| URL_SAFE_NO_PAD.encode(part));
    sandbox.always(Fault::token(&parts.join(".")));
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let warning = daemon.wait_for_log("the token's exp claim is earlier than");
    assert!(warning.contains("level=warn"), "{warning}");
    assert!(warning.contains("expires_in_s="), "{warning}");
    let token = daemon.broker().token("data").unwrap();
    let left = token.expires_in().as_secs();
    assert!((540..=600).contains(&left), "{left}");
}

#[test]
fn response_not_of_domos_form_is_not_attributed_to_domo() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::html(403).header("server", "Zscaler/6.2"));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let (code, _, stderr) = parts(&daemon.ask(&["--timeout", "1", "data"]));
    assert_eq!(code, Some(75), "{stderr}");
    let shown =
        "returned 403 (text/html, server Zscaler/6.2): the response may be from a proxy or gateway";
    assert!(stderr.contains(shown), "{stderr}");
    assert!(!stderr.contains("Domo returned"), "{stderr}");
}
