//! The gateway's certificate while the daemon runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::HOUR;
use crate::common::gateway::{Gateway, builder, write_certificate};
use crate::common::wait::until;

/// Returns whether a client that trusts the CA in this file has an answer of the gateway.
fn is_trusted(gateway: &Gateway, ca: &Path) -> bool {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--cacert"]).arg(ca);
    curl.arg(format!("https://{}/oauth/token", gateway.ports.tls()));
    let output = curl.output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("invalid_client")
}

#[test]
fn certificate_stays_in_use_until_its_replacement_is_complete() {
    let sandbox = builder(HOUR).start().unwrap();
    let mut gateway = Gateway::start(&sandbox);
    let ca = gateway.ca_file();
    let folder = gateway.daemon.folder().to_owned();
    let old_ca = folder.join("old-ca.pem");
    fs::copy(&ca, &old_ca).unwrap();
    assert!(is_trusted(&gateway, &old_ca));
    let new = tempfile::tempdir().unwrap();
    write_certificate(new.path());
    let replace = |file: &str| fs::copy(new.path().join(file), folder.join(file)).unwrap();
    replace("gateway-key.pem");
    gateway
        .daemon
        .wait_for_log("the previous certificate stays in use");
    assert!(is_trusted(&gateway, &old_ca));
    replace("gateway.pem");
    replace("gateway-ca.pem");
    until(|| {
        is_trusted(&gateway, &ca)
            .then_some(())
            .ok_or("the new certificate is not in use")
    });
    assert!(!is_trusted(&gateway, &old_ca));
}
