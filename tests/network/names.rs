//! Name lookups of the token endpoint: slow, unanswered, or with unreachable addresses.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use domo_sandbox::Sandbox;

use super::common::wait::until;
use super::common::{CANARY_SECRET, CLIENT_ID, Daemon, HOUR, check, parts, timed, token};
use super::hosts::{
    SilentNameServer, eavesdropper, named_folder, named_sandbox, port, relay, unanswering_address,
};
use super::namespace::{set_hosts, set_resolv_conf};
use super::programs::dnsmasq;
use crate::common::folder_for;

const ADDRESS: &str = "--address=/api.domo.test/127.0.0.1";

/// How long a token may take if the first name server does not answer.
const LATE: Duration = Duration::from_secs(8);

/// Checks that SIGTERM ends a daemon within 2 s during a lookup at that name server.
fn assert_stops_during_a_lookup(sandbox: &Sandbox, server: &SilentNameServer) {
    let daemon = Daemon::start_in(named_folder(sandbox));
    server.wait_for_query();
    daemon.signal("-TERM");
    let (took, (code, log)) = timed(|| daemon.wait_with_log());
    assert_eq!(code, Some(0), "{log}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    server.drain();
}

#[test]
#[ignore = "network_cases_pass_in_their_own_namespaces runs it"]
fn dead_first_name_server_delays_a_token_and_each_renewal_by_its_timeout() {
    // A tenth of this is the time limit of a renewal.
    let sandbox = named_sandbox(Duration::from_secs(100));
    let dead = SilentNameServer::bind("10.9.0.200");
    let _dnsmasq = dnsmasq(&[ADDRESS]);
    set_resolv_conf("nameserver 10.9.0.200\nnameserver 127.0.0.53\n");
    assert_stops_during_a_lookup(&sandbox, &dead);
    let daemon = Daemon::start_in(named_folder(&sandbox));
    let (took, first) = timed(|| daemon.ask(&["--timeout", "15s", "data"]));
    let mut last = token(&first);
    assert!(took < LATE, "{took:?}");
    for _ in 0..2 {
        // A token that is a few seconds old is served once more.
        let (took, renewed) = until(|| {
            let renew = ["get", "--renew", "--timeout", "15s", "data"];
            let (took, output) = timed(|| daemon.ask(&renew));
            let renewed = token(&output);
            if renewed == last {
                Err("the same token")
            } else {
                Ok((took, renewed))
            }
        });
        assert!(took < LATE, "{took:?}");
        last = renewed;
    }
    assert_eq!(daemon.status_of("data")["failed_attempts"], 0);
}

#[test]
#[ignore = "network_cases_pass_in_their_own_namespaces runs it"]
fn lookup_of_15_s_succeeds() {
    let sandbox = named_sandbox(HOUR);
    let dead = SilentNameServer::bind("10.9.0.200");
    let _dnsmasq = dnsmasq(&[ADDRESS, "--local=/corp.test/"]);
    // Three names are looked up, and each query waits 5 s for the first name server.
    set_resolv_conf(
        "search a.corp.test b.corp.test\noptions ndots:5\n\
         nameserver 10.9.0.200\nnameserver 127.0.0.53\n",
    );
    assert_stops_during_a_lookup(&sandbox, &dead);
    let daemon = Daemon::start_in(named_folder(&sandbox));
    let (took, output) = timed(|| daemon.ask(&["--timeout", "25s", "data"]));
    token(&output);
    let seconds = took.as_secs();
    assert!((13..20).contains(&seconds), "{took:?}");
    assert_eq!(sandbox.requests().len(), 1);
}

/// Runs `init` with a config in that folder.
fn init(folder: &Path, url: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command
        .env_clear()
        .args(["init", "--token-url", url, "--config"]);
    command.arg(folder.join("new.toml")).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let input = format!("{CLIENT_ID}\n{CANARY_SECRET}\n");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    parts(&child.wait_with_output().unwrap())
}

#[test]
#[ignore = "network_cases_pass_in_their_own_namespaces runs it"]
fn check_and_init_end_at_their_limit_if_no_name_server_answers() {
    let sandbox = named_sandbox(HOUR);
    // With three name servers the resolver would wait for longer than the limit.
    let addresses = ["10.9.0.200", "10.9.0.201", "10.9.0.202"];
    let dead = addresses.map(SilentNameServer::bind);
    set_resolv_conf(
        &addresses
            .map(|address| format!("nameserver {address}\n"))
            .concat(),
    );
    assert_stops_during_a_lookup(&sandbox, &dead[0]);
    let folder = named_folder(&sandbox);
    let (folder, url) = (folder.path(), "https://api.domo.test/oauth/token");
    let config = folder.join("config.toml");
    thread::scope(|scope| {
        let init = scope.spawn(|| timed(|| init(folder, url)));
        let check = timed(|| check(&config, &["--online"]));
        for (name, (took, (code, stdout, stderr))) in
            [("check", check), ("init", init.join().unwrap())]
        {
            assert_eq!(code, Some(75), "{name}: {stdout}{stderr}");
            // A lookup of 15 s within the limit of 20 s.
            let seconds = took.as_secs();
            assert!((15..22).contains(&seconds), "{name}: {took:?} {stderr}");
            assert!(stderr.contains("api.domo.test"), "{name}: {stderr}");
        }
    });
}

#[test]
#[ignore = "network_cases_pass_in_their_own_namespaces runs it"]
fn localhost_that_is_another_host_receives_no_secret() {
    set_hosts("10.9.0.1 other\n");
    let _dnsmasq = dnsmasq(&["--address=/localhost/10.9.0.1"]);
    set_resolv_conf("nameserver 127.0.0.53\n");
    let (port, received) = eavesdropper("10.9.0.1");
    let folder = folder_for(&format!("http://localhost:{port}/oauth/token"), None);
    let config = folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap() + "allow_http_loopback = true\n";
    std::fs::write(&config, text).unwrap();
    let (code, _, stderr) = check(&config, &["--online"]);
    let bytes = received.try_recv();
    assert!(bytes.is_err(), "another host received {bytes:?}");
    assert_ne!(code, Some(0), "{stderr}");
}

/// Checks that `check --online` gets a token from a sandbox with that name.
fn assert_reached(sandbox: &Sandbox) {
    let config = named_folder(sandbox);
    let (code, stdout, stderr) = check(&config.path().join("config.toml"), &["--online"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}

#[test]
#[ignore = "network_cases_pass_in_their_own_namespaces runs it"]
fn host_with_an_unreachable_and_a_working_address_is_reached() {
    let sandbox = named_sandbox(HOUR);
    let port = port(&sandbox);
    let _unanswering =
        ["fd09::200", "10.9.0.200"].map(|address| unanswering_address(address, port));
    relay("fd09::1", port);
    set_resolv_conf("nameserver 127.0.0.53\n");
    for record in [
        "--host-record=api.domo.test,127.0.0.1,fd09::200",
        "--host-record=api.domo.test,10.9.0.200,fd09::1",
    ] {
        let _dnsmasq = dnsmasq(&[record]);
        assert_reached(&sandbox);
    }
}

#[test]
#[ignore = "network_cases_pass_in_their_own_namespaces runs it"]
fn host_with_ipv6_addresses_alone_is_reached() {
    let sandbox = named_sandbox(HOUR);
    relay("fd09::1", port(&sandbox));
    let _dnsmasq = dnsmasq(&["--host-record=api.domo.test,fd09::1"]);
    set_resolv_conf("nameserver 127.0.0.53\n");
    assert_reached(&sandbox);
}
