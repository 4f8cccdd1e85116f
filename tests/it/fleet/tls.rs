//! An engine with TLS: a private CA, and client certificates.

use std::fs;

use tempfile::TempDir;

use super::hosts::{
    client, domo, fleet_status, host_folder, section, shared_token, start_all_in, token_of,
    write_private,
};
use crate::common::redis::{Redis, is_installed};
use crate::common::wait::until;
use crate::common::{Daemon, HOUR};

const IDENTITY: &str = "client_certificate_file = \"host.pem\"\nclient_key_file = \"host.key\"\n";
const CA: &str = "ca_file = \"redis-ca.pem\"\n";

/// A host's folder with the CA of one engine, and the client certificate of that or another one.
fn folder_of(config: &str, ca: &Redis, identity: &Redis) -> TempDir {
    let folder = host_folder(config);
    for (name, engine, file) in [
        ("redis-ca.pem", ca, "ca.pem"),
        ("host.pem", identity, "client.pem"),
        ("host.key", identity, "client.key"),
    ] {
        let text = fs::read_to_string(engine.path(file)).unwrap();
        write_private(&folder, name, &text);
    }
    folder
}

#[test]
fn hosts_share_over_tls_with_a_private_ca_and_client_certificates() {
    if !is_installed() {
        return;
    }
    let engine = Redis::start_tls("");
    let domo = domo(HOUR);
    let config = client(&domo) + &section(&engine.url(), &format!("{CA}{IDENTITY}"));
    let hosts = start_all_in(
        (0..2)
            .map(|_| folder_of(&config, &engine, &engine))
            .collect(),
    );
    shared_token(&hosts);
    assert_eq!(domo.requests().len(), 1);
    assert_eq!(fleet_status(&hosts[0])["up"], true);
}

#[test]
fn engine_that_is_not_trusted_or_does_not_trust_the_host_gets_nothing() {
    if !is_installed() {
        return;
    }
    let (engine, other) = (Redis::start_tls(""), Redis::start_tls(""));
    let domo = domo(HOUR);
    let config = |lines: &str| client(&domo) + &section(&engine.url(), lines);
    let both = format!("{CA}{IDENTITY}");
    let plain = client(&domo) + &section(&format!("redis://{}", engine.address()), "");
    let cases = [
        ("another CA", config(&both), &other, &engine),
        ("no CA", config(IDENTITY), &engine, &engine),
        ("no certificate", config(CA), &engine, &engine),
        (
            "a certificate of another CA",
            config(&both),
            &engine,
            &other,
        ),
        ("no TLS", plain, &engine, &engine),
    ];
    let folders = cases
        .iter()
        .map(|(_, config, ca, identity)| folder_of(config, ca, identity));
    let hosts: Vec<Daemon> = start_all_in(folders.collect());
    for (host, (name, ..)) in hosts.iter().zip(&cases) {
        token_of(host);
        let status = until(|| {
            let status = fleet_status(host);
            if status["up"] == false {
                Ok(status)
            } else {
                Err(format!("{name}: {status}"))
            }
        });
        assert!(status["last_error"].is_string(), "{name}: {status}");
    }
    assert_eq!(domo.requests().len(), cases.len());
    assert_eq!(engine.cli(&["DBSIZE"]), "0");
}
