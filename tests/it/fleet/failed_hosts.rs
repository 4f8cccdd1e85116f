//! A host that is killed or stopped while it fetches, and hosts whose own way to Domo is broken.

use std::fs;
use std::time::Duration;

use domo_sandbox::{Fault, Sandbox};

use super::hosts::{
    Fleet, SHORT, SLACK, builder, engine, fleet_status, host_folder, renew, section, shared_token,
    start_all_in, token_of, tokens_of,
};
use crate::common::redis::{Redis, free_port};
use crate::common::wait::until;
use crate::common::{CLIENT_ID, Daemon, HOUR, PATIENCE, timed};

/// The lease: a host that does not extend it has ended.
const LEASE: Duration = Duration::from_secs(5);

/// A host that waits for the response of Domo to its first request.
fn fetching_host(fleet: &Fleet) -> Daemon {
    fleet.sandbox.script([Fault::hold()]);
    let host = fleet.host();
    fleet.sandbox.wait_for_requests(1, PATIENCE).unwrap();
    assert_eq!(fleet.keys(":lease").len(), 1);
    host
}

#[test]
fn host_killed_while_it_fetches_is_replaced_when_its_lease_lapses() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    let mut first = fetching_host(&fleet);
    let mut others = fleet.hosts(2);
    for host in &mut others {
        host.wait_for_log("started");
    }
    first.signal("-KILL");
    first.wait();
    let (took, ()) = timed(|| drop(shared_token(&others)));
    assert!(took <= LEASE + SLACK, "{took:?}");
    assert_eq!(fleet.requests(), 2);
    fleet.sandbox.recover();
}

#[test]
fn host_stopped_while_it_fetches_is_replaced_and_its_older_token_replaces_nothing() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    let stopped = fetching_host(&fleet);
    stopped.signal("-STOP");
    // Domo issues its token now, but the host does not read the response.
    fleet.sandbox.recover();
    let other = fleet.host();
    let (took, token) = timed(|| token_of(&other));
    assert!(took <= LEASE + SLACK, "{took:?}");
    assert_eq!(fleet.requests(), 2);
    let record = fleet.keys(":token");
    let before = fleet.engine.cli(&["GET", &record[0]]);
    stopped.signal("-CONT");
    let late = token_of(&stopped);
    assert_ne!(late, token);
    // Its publication ends before its next lookup can.
    until(|| {
        let status = fleet_status(&stopped);
        if status["up"] == true {
            Ok(())
        } else {
            Err(status)
        }
    });
    assert_eq!(fleet.engine.cli(&["GET", &record[0]]), before);
    assert_eq!(token_of(&fleet.host()), token);
    assert_eq!(fleet.requests(), 2);
}

#[test]
fn hosts_that_wait_for_a_slow_domo_send_no_request_of_their_own() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    let first = fetching_host(&fleet);
    let second = fleet.host();
    let waiting = second.helper(&["--timeout", "60", "data"]);
    let waiting = { waiting }.spawn().unwrap();
    // Longer than the lease, which the first host extends meanwhile.
    let start = domo_token_client::clock::boot_now();
    until(|| {
        let passed = domo_token_client::clock::boot_now().saturating_since(start);
        if passed > LEASE + Duration::from_secs(2) {
            Ok(())
        } else {
            Err(passed)
        }
    });
    assert_eq!(fleet.requests(), 1);
    fleet.sandbox.recover();
    let taken = crate::common::token(&waiting.wait_with_output().unwrap());
    assert_eq!(taken, token_of(&first));
    assert_eq!(fleet.requests(), 1);
}

/// A sandbox with HTTPS, and the config of a client that reaches it if the lines permit that.
fn https(engine: &Redis) -> (Sandbox, impl Fn(&str) -> tempfile::TempDir) {
    let sandbox = builder().https(true).lifetime(SHORT).start().unwrap();
    let (url, ca) = (sandbox.token_url(), sandbox.ca_pem().unwrap());
    let fleet = section(&engine.url(), "");
    let folder = move |lines: &str| {
        let client = format!(
            "[clients.acme]\nclient_id = \"{CLIENT_ID}\"\nclient_secret_file = \"acme.secret\"\n\
             tokens = [\"data\"]\ntoken_url = \"{url}\"\n{lines}\n"
        );
        let folder = host_folder(&(client + &fleet));
        fs::write(folder.path().join("ca.pem"), &ca).unwrap();
        folder
    };
    (sandbox, folder)
}

const TRUST: &str = "ca_file = \"ca.pem\"\n";

#[test]
fn host_with_a_broken_proxy_does_not_stop_the_others_and_takes_their_token() {
    let Some(engine) = engine("") else {
        return;
    };
    let (domo, folder) = https(&engine);
    let proxy = format!("{TRUST}proxy = \"http://127.0.0.1:{}\"", free_port());
    let mut broken = Daemon::start_in(folder(&proxy));
    broken.wait_for_log("cause=");
    let hosts = start_all_in(vec![folder(TRUST), folder(TRUST)]);
    let (took, token) = timed(|| shared_token(&hosts));
    // A lease of the broken host may have to lapse.
    assert!(took <= LEASE + SLACK, "{took:?}");
    assert_eq!(domo.requests().len(), 1);
    assert_eq!(token_of(&broken), token);
    assert_eq!(domo.requests().len(), 1);
}

#[test]
fn host_that_trusts_no_server_does_not_stop_the_others() {
    let Some(engine) = engine("") else {
        return;
    };
    let (domo, folder) = https(&engine);
    let mut broken = Daemon::start_in(folder(""));
    broken.wait_for_log("cause=tls");
    let hosts = start_all_in(vec![folder(TRUST), folder(TRUST)]);
    let (tokens, took) = tokens_of(&hosts);
    assert_eq!(tokens[0], tokens[1]);
    assert!(took <= LEASE + SLACK, "{took:?}");
    assert_eq!(domo.requests().len(), 1);
    // The next renewal is not prevented either.
    assert_ne!(renew(&hosts[1]), tokens[0]);
    assert_eq!(domo.requests().len(), 2);
}
