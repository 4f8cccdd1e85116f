//! `domo-tokend init` and `check` as root, on a host that has the service's user.

use crate::common::parts;
use crate::common::service::{SERVICE, with_service_user};

#[test]
fn file_that_the_unit_hides_is_a_warning_also_if_the_service_cannot_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    let script = format!(
        "cp {program} /etc/daemon && mount -t tmpfs none /tmp && cd /tmp && \
         cp /etc/ssl/certs/ca-certificates.crt ca.pem && chmod 600 ca.pem && \
         echo secret | /etc/daemon init --offline --client-id id --ca-file ca.pem"
    );
    let Some(output) = with_service_user(folder.path(), &script) else {
        return;
    };
    let (code, stdout, stderr) = parts(&output);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let warning = "/tmp/ca.pem: the unit hides /tmp (PrivateTmp=yes); move it to /etc/domo-token\n";
    assert!(stderr.contains(warning), "{stderr}");
}

#[test]
fn file_that_the_service_cannot_read_is_a_warning_with_the_advice_of_check() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    let script = format!(
        "mkdir -m 755 /etc/here && cp {program} /etc/here/daemon && cd /etc/here && \
         cp /etc/ssl/certs/ca-certificates.crt ca.pem && chmod 600 ca.pem && umask 077 && \
         echo secret | ./daemon init --offline --client-id id --ca-file ca.pem"
    );
    let Some(output) = with_service_user(folder.path(), &script) else {
        return;
    };
    let (code, stdout, stderr) = parts(&output);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(
        stdout.contains("wrote /etc/domo-token/config.toml"),
        "{stdout}"
    );
    let warning = "warning: the service cannot use this config yet: client \"domo\": ca_file \
                   /etc/here/ca.pem: ";
    assert!(stderr.contains(warning), "{stderr}");
    assert!(stderr.contains("chmod"), "{stderr}");
}

#[test]
fn init_as_root_writes_files_for_the_service_and_a_private_secret() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/systemd/system && \
         umask 077 && echo secret | {program} init --offline --client-id id --name acme && \
         stat -c '%a %u:%g %n' /etc/domo-token /etc/domo-token/* && {program} check"
    );
    let Some(output) = with_service_user(folder.path(), &script) else {
        return;
    };
    let (code, stdout, stderr) = parts(&output);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    for line in [
        "755 0:0 /etc/domo-token\n",
        &format!("640 0:{SERVICE} /etc/domo-token/acme.secret\n"),
        "644 0:0 /etc/domo-token/config.toml\n",
        "  systemctl enable --now domo-tokend.socket domo-tokend\n",
        "checked as the service's user domo-token\n",
    ] {
        assert!(stdout.contains(line), "{line} in {stdout}");
    }
}

#[test]
fn check_as_root_considers_all_groups_of_the_services_user() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    // Only root can run the program at its path.
    let script = format!(
        "mkdir /etc/domo-token && cp {program} \"$1/daemon\" && chmod 700 \"$1\" && cd /etc/domo-token && \
         printf '[broker]\\nsocket_group=\"none\"\\n[clients.acme]\\nclient_id=\"id\"\\nclient_secret_file=\"s\"\\ntokens=[\"data\"]\\n' \
         > config.toml && printf secret > s && chgrp 4244 s && chmod 640 s; \"$1/daemon\" check"
    );
    let Some(output) = with_service_user(folder.path(), &script) else {
        return;
    };
    let (code, stdout, stderr) = parts(&output);
    assert!(
        stdout.contains("client \"acme\" (id): ok"),
        "{stdout}{stderr}"
    );
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("socket_group") && stderr.ends_with(" 1 error\n"),
        "{stderr}"
    );
}
