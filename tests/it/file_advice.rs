//! Advice about files: it never gives the host's files to another user, or a user's files to the service.

use crate::common::parts;
use crate::common::service::with_service_user;

/// Runs a shell script on a host with the service's user, in `/etc/domo-token`, where `config.toml` has `source`
/// for the secret. `$d` is the daemon's program, and `$ann` runs a program as the user ann. Returns `None` where
/// this is impossible.
fn on_host(source: &str, script: &str) -> Option<(Option<i32>, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    let script = format!(
        "cp {program} /etc/domo-tokend; mkdir -m 755 /etc/domo-token; cd /etc/domo-token; \
         mount -t tmpfs -o mode=755 none /home; mkdir -m 755 /home/ann; chown 1234 /home/ann; \
         echo 'ann:x:1234:1234::/home/ann:/bin/sh' >> /etc/passwd; export INVOCATION_ID=1; \
         printf x > s; chmod 640 s; chgrp domo-token s; \
         printf '[clients.acme]\\nclient_id = \"id\"\\ntokens = [\"data\"]\\n' > config.toml; \
         echo '{source}' >> config.toml; d=/etc/domo-tokend; \
         ann='setpriv --reuid 1234 --regid 1234 --clear-groups env HOME=/home/ann XDG_RUNTIME_DIR=/home/ann'; \
         {script}"
    );
    with_service_user(folder.path(), &script).map(|output| parts(&output))
}

const SECRET: &str = "client_secret_file = \"s\"";

#[test]
fn daemon_of_another_user_is_not_given_the_hosts_files() {
    for preparation in [
        "",
        "chmod 600 config.toml;",
        "chown domo-token s; chmod 600 s;",
        "chown domo-token s; chmod 644 s;",
        "chmod 644 s;",
        "chmod 750 .;",
    ] {
        let script = format!("{preparation} $ann $d");
        let Some((code, _, stderr)) = on_host(SECRET, &script) else {
            return;
        };
        assert_eq!(code, Some(78), "{preparation} {stderr}");
        assert!(!stderr.contains("ch"), "{preparation} {stderr}");
        let advice = "to set up your own broker, run: domo-tokend init; \
                      for a token of the host's broker, run: domo-token data\n";
        assert!(stderr.ends_with(advice), "{preparation} {stderr}");
    }
    let copied = "printf x > /etc/r; chmod 600 /etc/r; mkdir -p /home/ann/.config/domo-token; \
                  cp config.toml /home/ann/.config/domo-token; \
                  chown -R 1234 /home/ann/.config; $ann $d";
    let source = "client_secret_file = \"/etc/r\"";
    let (code, _, stderr) = on_host(source, copied).unwrap();
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.ends_with("(os error 13); use a copy of it that user ann owns\n"),
        "{stderr}"
    );
}

#[test]
fn check_as_root_never_gives_a_users_files_to_the_service() {
    let preparation = "mkdir -m 755 /home/ann/s; printf x > /home/ann/s/a; chmod 600 /home/ann/s/a; \
                  printf '#!/bin/sh\\necho x' > /home/ann/p; chmod 755 /home/ann/p; \
                  printf id > /home/ann/id; ln -s /home/ann/id id; \
                  chown -R 1234 /home/ann;";
    for (source, script, directory) in [
        (
            "client_secret_command = [\"/home/ann/p\"]",
            "",
            "/usr/local/bin",
        ),
        (
            "client_secret_command = [\"/home/ann/p\"]",
            "chown root /home/ann/p;",
            "/usr/local/bin",
        ),
        (
            "client_secret_file = \"/home/ann/s/a\"",
            "",
            "/etc/domo-token",
        ),
        (
            "client_secret_file = \"/home/ann/s/a\"",
            "chmod 666 /home/ann/s/a;",
            "/etc/domo-token",
        ),
        (
            SECRET,
            "sed -i s/client_id.*// config.toml; echo client_id_file=\\\"id\\\" >> config.toml;",
            "/etc/domo-token",
        ),
    ]
    .map(|(source, more, directory)| (source, format!("{preparation} {more}"), directory))
    {
        let Some((code, _, stderr)) = on_host(source, &format!("{script} $d check")) else {
            return;
        };
        assert!(matches!(code, Some(75 | 78)), "{stderr}");
        assert!(!stderr.contains("chown"), "{source}: {stderr}");
        let advice = format!("the unit hides /home (ProtectHome=yes); move it to {directory}\n");
        let error = stderr.lines().rev().nth(1).unwrap().to_owned() + "\n";
        assert!(
            error.contains(": ") && !error.contains("warning"),
            "{stderr}"
        );
        assert!(error.ends_with(&advice), "{source}: {stderr}");
    }
    let elsewhere = "mkdir -m 755 /etc/ann; printf x > /etc/ann/a; chmod 640 /etc/ann/a; \
                     chgrp domo-token /etc/ann/a; chown 1234 /etc/ann; $d check";
    let (_, _, stderr) = on_host("client_secret_file = \"/etc/ann/a\"", elsewhere).unwrap();
    let error = "the directory /etc/ann: belongs to user ann, who can replace files in it; \
                 move the file to /etc/domo-token\n";
    assert!(stderr.contains(error), "{stderr}");
}

#[test]
fn config_of_a_user_that_root_checks_is_checked_as_that_user() {
    let script = "mkdir -p /home/ann/.config/domo-token; mv config.toml /home/ann/.config/domo-token; \
                  chown -R 1234 /home/ann; $d check --online --config /home/ann/.config/domo-token/config.toml";
    let Some((code, _, stderr)) = on_host(SECRET, script) else {
        return;
    };
    assert_eq!(code, Some(78), "{stderr}");
    let command = "check it as that user: sudo -u ann domo-tokend check --online \
                   --config /home/ann/.config/domo-token/config.toml\n";
    assert!(stderr.contains(command), "{stderr}");
    assert!(!stderr.contains("chown"), "{stderr}");
    for preparation in ["", "chown root /home/ann/c.toml;", "chmod 700 /home/ann;"] {
        let script = format!(
            "mv config.toml /home/ann/c.toml; chown 1234 /home/ann/c.toml; {preparation} \
             ln -s /home/ann/c.toml config.toml; $d check"
        );
        let (code, _, stderr) = on_host(SECRET, &script).unwrap();
        assert_eq!(code, Some(78), "{stderr}");
        let hidden = "config /etc/domo-token/config.toml: ";
        assert!(stderr.contains(hidden), "{preparation} {stderr}");
        let hidden = "the unit hides /home (ProtectHome=yes); move it to /etc/domo-token\n";
        assert!(stderr.contains(hidden), "{preparation} {stderr}");
        assert!(!stderr.contains("chown"), "{preparation} {stderr}");
    }
}

#[test]
fn hosts_config_is_checked_as_the_service_by_any_path_of_its_directory() {
    for check in [
        "mkdir /etc/x; cd /etc/x; $d check --config ../domo-token/config.toml",
        "ln -s /etc/domo-token /etc/dt; $d check --config /etc/dt/config.toml",
        "ln -s domo-token /etc/dt; cd /etc/dt; $d check --config ./config.toml",
        "mkdir sub; $d check --config sub/../config.toml",
    ] {
        let script = format!("chmod 600 s; {check}");
        let Some((code, _, stderr)) = on_host(SECRET, &script) else {
            return;
        };
        assert_eq!(code, Some(78), "{check}: {stderr}");
        assert!(stderr.contains("chmod 640 "), "{check}: {stderr}");
    }
    let outside = "mkdir /etc/x; mv config.toml s /etc/x; $d check --config ../x/config.toml";
    let (code, stdout, stderr) = on_host(SECRET, outside).unwrap();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!stdout.contains("as the service's user"), "{stdout}");
}

#[test]
fn one_command_makes_a_secret_usable_and_ends_the_message() {
    for preparation in [
        "chmod 604 s; chgrp root s",
        "chmod 666 s; chgrp root s",
        "chmod 600 s; chgrp root s",
        "chmod 660 s",
        "chmod 644 s; chown 1234 s",
    ] {
        let script = format!(
            "{preparation}; run=$($d check 2>&1 | sed -n 's/.*run as root: //p'); eval \"$run\"; $d check; \
             echo $run >&2"
        );
        let Some((_, stdout, stderr)) = on_host(SECRET, &script) else {
            return;
        };
        assert!(stdout.contains("(id): ok"), "{preparation}: {stderr}");
        assert!(
            stderr.ends_with("chmod 640 /etc/domo-token/s\n"),
            "{stderr}"
        );
    }
    let script = "chmod 600 s; mkdir /etc/open; chmod 1777 /etc/open; ln -s /etc/domo-token/s /etc/open/s; \
                  sed -i s,\\\"s\\\",\\\"/etc/open/s\\\", config.toml; $d check";
    let (_, _, stderr) = on_host(SECRET, script).unwrap();
    let advice = "; others can replace the symlink /etc/open/s; use the path of its target\n";
    assert!(stderr.contains(advice), "{stderr}");
    let script = "mkdir -p /home/ann/.config/domo-token; cp config.toml s /home/ann/.config/domo-token; \
                  chown 1234 /home/ann/.config/domo-token; chown -R domo-token /home/ann/.config/domo-token/s; \
                  chmod 644 /home/ann/.config/domo-token/s; $ann $d check";
    let (_, _, stderr) = on_host(SECRET, script).unwrap();
    let command = "run as root: chown ann /home/ann/.config/domo-token/s && \
                   chmod 600 /home/ann/.config/domo-token/s\n";
    assert!(stderr.contains(command), "{stderr}");
}

#[test]
fn config_that_the_service_cannot_access_is_reported_and_not_absent() {
    let service = "setpriv --reuid 4243 --regid 4243 --clear-groups";
    let closed = "config /etc/domo-token/config.toml: Permission denied (os error 13); user domo-token \
                  cannot enter /etc/domo-token; run as root: chmod 755 /etc/domo-token\n";
    for run in [
        "$d check",
        &format!("{service} $d"),
        &format!("{service} env CONFIGURATION_DIRECTORY=/etc/domo-token $d"),
        &format!(
            "{service} env HOME=/root DOMO_CLIENT_ID=x CONFIGURATION_DIRECTORY=/etc/domo-token $d"
        ),
    ] {
        let Some((code, _, stderr)) = on_host(SECRET, &format!("chmod 750 .; cd /; {run}")) else {
            return;
        };
        assert_eq!(code, Some(78), "{run}: {stderr}");
        assert!(stderr.contains(closed), "{run}: {stderr}");
    }
    let script = "mount -t tmpfs -o mode=700 none /root; mv config.toml /root/c.toml; \
                  ln -s /root/c.toml config.toml; $d check";
    let (code, _, stderr) = on_host(SECRET, script).unwrap();
    assert_eq!(code, Some(78), "{stderr}");
    let hidden = "the unit hides /root (ProtectHome=yes); move it to /etc/domo-token\n";
    assert!(stderr.contains(hidden), "{stderr}");
    // A user's own config in a home that it cannot enter counts as absent, and a client from the environment does
    // not need the host's config.
    let script = "chmod 700 /home/ann; chmod 750 .; cd /; setpriv --reuid 5 --regid 5 --clear-groups \
                  env HOME=/home/ann DOMO_CLIENT_ID=x DOMO_CLIENT_SECRET=y $d check";
    let (code, _, stderr) = on_host(SECRET, script).unwrap();
    assert_eq!(code, Some(0), "{stderr}");
}

#[test]
fn command_that_cannot_be_started_is_reported_with_what_to_do() {
    for (preparation, source, advice) in [
        (
            "",
            "[\"/etc/p\"]",
            "(os error 2); create it, or change the path in the config",
        ),
        ("", "[\"./p\"]", "working directory: write the full path"),
        (
            "mkdir /etc/p;",
            "[\"/etc/p\"]",
            "it is a directory; use a program in it",
        ),
        (
            "echo x > /etc/p; chmod 644 /etc/p;",
            "[\"/etc/p\"]",
            "run as root: chmod +x /etc/p",
        ),
        (
            "echo x > /etc/p; chmod 700 /etc/p;",
            "[\"/etc/p\"]",
            "run as root: chgrp domo-token /etc/p && chmod 750 /etc/p",
        ),
        (
            "printf \"#!/nowhere\\n\" > /etc/p; chmod 755 /etc/p;",
            "[\"/etc/p\"]",
            "the file exists, but the interpreter in its first line does not",
        ),
        (
            "printf \"#!/bin/sh\\nexit 1\\n\" > /etc/p; chmod 755 /etc/p;",
            "[\"/etc/p\", \"c4nary\"]",
            "to see its message, run it by hand with its arguments: sudo -u domo-token /etc/p",
        ),
        (
            "",
            "[\"/bin/true\"]",
            "it printed nothing; to see its message, run it by hand: sudo -u domo-token /bin/true",
        ),
    ] {
        let source = format!("client_secret_command = {source}");
        let Some((code, _, stderr)) = on_host(&source, &format!("{preparation} $d check")) else {
            return;
        };
        assert_eq!(code, Some(75), "{stderr}");
        let advice = format!("{advice}\n");
        assert!(stderr.contains(&advice), "{source}: {stderr}");
        assert!(!stderr.contains("c4nary"), "{stderr}");
    }
    let source = "client_secret_command = [\"/bin/echo\", \"$SECRET\"]";
    let (code, _, stderr) = on_host(source, "$d check").unwrap();
    assert_eq!(code, Some(0), "{stderr}");
    let warning = "warning: client \"acme\": client_secret_command: \"~\" and \"$\" in its arguments are not expanded";
    assert!(stderr.contains(warning), "{stderr}");
}
