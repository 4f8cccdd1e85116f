//! Metrics and health over HTTP, as Prometheus and probes request them.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use crate::common::wait::until;
use crate::common::{
    CANARY_SECRET, Daemon, HOUR, PATIENCE, config_text, folder, metrics, run_to_end, sandbox,
    timed, token,
};
use domo_sandbox::Fault;
use domo_token_protocol::messages::VERSION;

fn get(port: u16, path: &str) -> (u16, String) {
    metrics::get(metrics::connect(port), path)
}

#[test]
fn readyz_requires_valid_tokens_and_livez_a_loop_that_answers() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(503));
    let (daemon, port) = metrics::start(&config_text(&sandbox, "[\"data\", \"data user\"]"));
    assert_eq!(get(port, "/livez"), (200, "live\n".to_owned()));
    let (status, body) = get(port, "/readyz");
    assert_eq!(status, 503);
    assert_eq!(body, "no token: acme/data\nno token: acme/data user\n");
    assert_eq!(get(port, "/readyz/acme/data").0, 503);
    sandbox.recover();
    daemon.signal("-HUP");
    token(&daemon.ask(&["--wait", "data"]));
    token(&daemon.ask(&["--wait", "data", "user"]));
    assert_eq!(get(port, "/readyz"), (200, "ready\n".to_owned()));
    for path in [
        "/readyz/acme/data",
        "/readyz/acme/user,data",
        "/readyz/acme/data%20user",
    ] {
        assert_eq!(get(port, path).0, 200, "{path}");
    }
    for path in [
        "/readyz/acme/nosuch",
        "/readyz/nobody/data",
        "/readyz/",
        "/",
    ] {
        assert_eq!(get(port, path).0, 404, "{path}");
    }
}

#[test]
fn metrics_count_what_happened_and_hold_no_secret() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::status(503), Fault::status(503)]);
    let (daemon, port) = metrics::start(&config_text(&sandbox, "[\"data\"]"));
    let text = token(&daemon.ask(&["--wait", "--timeout", "60", "data"]));
    daemon.ask(&["nosuch"]);
    let broker = daemon.broker();
    let cached = broker.token("data").unwrap();
    // It is too young for a renewal by then.
    broker
        .with_timeout(Duration::from_millis(200))
        .renew(&cached)
        .unwrap_err();
    let (status, metrics) = get(port, "/metrics");
    assert_eq!(status, 200);
    let set = r#"client="acme",scope="data""#;
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in:\n{metrics}"));
        line.trim().parse::<f64>().unwrap()
    };
    assert!(value(&format!("domo_token_expiry_timestamp_seconds{{{set}}}")) > 1.7e9);
    assert!((value(&format!("domo_token_renewals_total{{{set}}}")) - 1.0).abs() < 0.1);
    let failures = format!("domo_token_renewal_failures_total{{{set},cause=\"server\"}}");
    assert!((value(&failures) - 2.0).abs() < 0.1);
    let served = format!("domo_token_requests_total{{{set},outcome=\"served\"}}");
    assert!(value(&served) > 1.5);
    let unknown = r#"domo_token_requests_total{client="",scope="",outcome="unknown_scope"}"#;
    assert!((value(unknown) - 1.0).abs() < 0.1);
    assert!((value(&format!("domo_token_rejected_total{{{set}}}")) - 1.0).abs() < 0.1);
    assert!(value("domo_token_connections") > 0.5);
    assert!(value("domo_token_config_last_reload_successful") > 0.5);
    assert!(value("domo_token_config_last_reload_success_timestamp_seconds") > 1.7e9);
    assert!(value("domo_token_loop_lag_seconds") < 30.0);
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("version=\"{version}\",protocol=\"{VERSION}\"");
    assert!(metrics.contains(&format!("domo_token_build_info{{{build}}} 1")));
    assert!(metrics.ends_with("# EOF\n"));
    assert!(!metrics.contains(&text) && !metrics.contains(CANARY_SECRET));
    daemon.write("config.toml", "[clients");
    daemon.signal("-HUP");
    drop(broker);
    let bad = "domo_token_config_last_reload_successful 0";
    until(|| {
        let (_, metrics) = get(port, "/metrics");
        if metrics.contains(bad) {
            Ok(())
        } else {
            Err(metrics)
        }
    });
}

#[test]
fn waiting_helper_gets_a_token_after_the_fix_before_the_announced_attempt() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::status(503).retry_after("50")]);
    let (daemon, port) = metrics::start(&config_text(&sandbox, "[\"data\"]"));
    let mut command = daemon.helper(&["--wait", "--timeout", "45", "data"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let failed = r#"domo_token_requests_total{client="acme",scope="data",outcome="unavailable"}"#;
    until(|| {
        let (_, metrics) = get(port, "/metrics");
        let is_answered = metrics.contains(failed);
        is_answered.then_some(()).ok_or(metrics)
    });
    daemon.signal("-HUP");
    let (took, status) = timed(|| child.wait().unwrap());
    assert!(status.success() && took < PATIENCE / 2, "{took:?}");
    assert_eq!(sandbox.requests().len(), 2, "answers come from the cache");
}

#[test]
fn web_pages_other_hosts_and_invalid_requests_are_rejected_and_the_port_serves() {
    let sandbox = sandbox(HOUR);
    let (_daemon, port) = metrics::start(&config_text(&sandbox, "[\"data\"]"));
    let status = |request: &str| metrics::raw(metrics::connect(port), request).0;
    assert_eq!(
        status("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        403
    );
    assert_eq!(status("GET /metrics HTTP/1.1\r\n\r\n"), 403);
    let page = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a.example\r\n\r\n";
    assert_eq!(status(page), 403);
    let twice = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n";
    assert!([400, 403].contains(&status(twice)));
    assert_eq!(
        status("POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        405
    );
    assert_eq!(status("garbage\r\n\r\n"), 400);
    let smuggled = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\
                    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\n\r\n";
    assert!([400, 403, 405].contains(&status(smuggled)));
}

#[test]
fn idle_connections_and_slow_readers_do_not_block_responses() {
    let sandbox = sandbox(HOUR);
    let (daemon, port) = metrics::start(&config_text(&sandbox, "[\"data\"]"));
    let before = descriptors(&daemon);
    for start in ["", "GET /livez HTTP/1.1\r\nHo"] {
        let idle: Vec<TcpStream> = (0..40)
            .map(|_| {
                let mut stream = metrics::connect(port);
                stream.write_all(start.as_bytes()).unwrap();
                stream
            })
            .collect();
        let (took, statuses) = timed(|| ["/livez", "/metrics"].map(|path| get(port, path).0));
        assert_eq!(statuses, [200; 2]);
        // Waiting until idle connections time out would take more than 20 s.
        assert!(took < Duration::from_secs(10), "{took:?}");
        let now = descriptors(&daemon);
        // 16 connections, those that are being replaced, and the daemon's own descriptors.
        assert!(now <= before + 24, "{now}, not {before}");
        // The oldest ones are closed now, and all of them a second later.
        for mut stream in idle {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        }
    }
}

/// Returns the number of the daemon's open descriptors.
fn descriptors(daemon: &Daemon) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid()));
    open.unwrap().count()
}

#[test]
fn port_in_use_exits_78_and_is_named() {
    let sandbox = sandbox(HOUR);
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = occupied.local_addr().unwrap().port();
    let config = config_text(&sandbox, "[\"data\"]");
    let folder = folder(&metrics::with_metrics(&config, port));
    let (code, stderr) = run_to_end(Daemon::command(folder.path()));
    assert_eq!(code, Some(78), "{stderr}");
    let line = format!("metrics.listen 127.0.0.1:{port}:");
    assert!(stderr.contains(&line), "{stderr}");
    assert!(sandbox.requests().is_empty());
}
