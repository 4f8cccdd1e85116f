//! What the owner of the engine can read: no token, secret, client, scope or host.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStdout, Stdio};

use domo_sandbox::{Fault, Sandbox};

use super::hosts::{
    SECRET, SHORT, engine, host_folder, keys, section, start_all_in, write_private,
};
use crate::common::process::KillOnDrop;
use crate::common::redis::Redis;
use crate::common::wait::until;
use crate::common::{CLIENT_ID, Daemon, client_text, token};

const SCOPE: &str = "c4nary-scope";
const CLIENT: &str = "c4nary-client";
const KEY_FILE: &str = "c4nary-key-file-that-all-hosts-have-in-common";

/// Returns a text as it is, and as it would be found in hexadecimal and Base64 encodings, at each alignment.
fn forms(text: &str) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![text.to_owned(), hex.to_uppercase(), hex];
    for skipped in 0..3 {
        // The first and the last character depend on what is around the text.
        let rest = &text.as_bytes()[skipped..];
        let whole = &rest[..rest.len() / 3 * 3];
        forms.push(STANDARD_NO_PAD.encode(whole));
        forms.push(URL_SAFE_NO_PAD.encode(whole));
    }
    forms.into_iter().map(String::into_bytes).collect()
}

#[track_caller]
fn assert_none(place: &str, bytes: &[u8], canaries: &[(&str, String)]) {
    for (name, canary) in canaries {
        for form in forms(canary) {
            let is_found = bytes.windows(form.len()).any(|part| part == form);
            assert!(!is_found, "the {name} is in {place}");
        }
    }
}

/// Starts MONITOR, which prints each command that the engine executes.
fn monitor(engine: &Redis) -> (KillOnDrop, BufReader<ChildStdout>) {
    let mut child = engine
        .cli_command(&["MONITOR"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stream = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stream.read_line(&mut first).unwrap();
    assert_eq!(first, "OK\n");
    (KillOnDrop(child), stream)
}

#[test]
fn engine_sees_no_token_secret_client_scope_or_host() {
    let Some(engine) = engine("rdbcompression no") else {
        return;
    };
    let (_monitor, mut stream) = monitor(&engine);
    let sandbox = Sandbox::builder().client(CLIENT_ID, SECRET, &[SCOPE]);
    let sandbox = sandbox.lifetime(SHORT).start().unwrap();
    // A note of a failure, then tokens.
    sandbox.script([Fault::status(503)]);
    let client = client_text(CLIENT, &sandbox, &format!("[\"{SCOPE}\"]"));
    let config = client + &section(&engine.url(), "key_file = \"fleet.key\"");
    let folders = [(); 2].map(|()| {
        let folder = host_folder(&config);
        write_private(&folder, "fleet.key", KEY_FILE);
        folder
    });
    let hosts = start_all_in(folders.into());
    until(|| match keys(&engine, ":note").len() {
        1 => Ok(()),
        other => Err(other),
    });
    dump(&engine);
    let noted = fs::read(engine.path("dump.rdb")).unwrap();
    let ask = |host: &Daemon| token(&host.ask(&["--timeout", "60", SCOPE]));
    let tokens = hosts.iter().map(ask).collect::<Vec<_>>();
    assert_eq!(tokens[0], tokens[1]);
    let next = token(&hosts[0].ask(&["--renew", "--timeout", "60", SCOPE]));
    until(|| {
        let published = sandbox.requests().len() == 3 && !keys(&engine, ":token").is_empty();
        if published {
            Ok(())
        } else {
            Err(sandbox.requests())
        }
    });
    dump(&engine);
    let dumped = fs::read(engine.path("dump.rdb")).unwrap();
    drop(hosts);
    drop(engine);
    let mut seen = String::new();
    stream.read_to_string(&mut seen).unwrap();
    for expected in [
        "\"SET\"",
        ":token\"",
        ":lease\"",
        ":note\"",
        "\"TIME\"",
        "domo-token:{",
    ] {
        assert!(seen.contains(expected), "{expected} is not in {seen}");
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_owned();
    let mut canaries = vec![
        ("secret", SECRET.to_owned()),
        ("client id", CLIENT_ID.to_owned()),
        ("client id without hyphens", CLIENT_ID.replace('-', "")),
        ("client's name", CLIENT.to_owned()),
        ("scope", SCOPE.to_owned()),
        ("key file", KEY_FILE.to_owned()),
        ("token URL", sandbox.token_url()),
        ("token", tokens[0].clone()),
        ("second token", next),
        ("start of tokens", "eyJhbGciOi".to_owned()),
    ];
    // A short name may be part of a random text.
    if host.len() >= 6 {
        canaries.push(("host", host));
    }
    assert_none("MONITOR", seen.as_bytes(), &canaries);
    for (place, bytes) in [("the dump with a note", noted), ("the dump", dumped)] {
        assert!(bytes.starts_with(b"REDIS") && bytes.len() > 200, "{place}");
        assert_none(place, &bytes, &canaries);
    }
}

/// Writes the engine's data to `dump.rdb`.
fn dump(engine: &Redis) {
    assert_eq!(engine.cli(&["SAVE"]), "OK");
}

#[test]
fn canary_is_found_in_each_encoding() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    for before in ["", "a", "ab"] {
        let encoded = STANDARD.encode(format!("{before}{SCOPE}, and more"));
        let found = forms(SCOPE).iter().any(|form| {
            encoded
                .as_bytes()
                .windows(form.len())
                .any(|part| part == form)
        });
        assert!(found, "{before}: {encoded}");
    }
    assert!(forms("az").contains(&b"617a".to_vec()));
}
