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

const SCOPE: &str = "quokka-scope";
const CLIENT: &str = "wombat-client";
const KEY_FILE: &str = "c4nary-key-file-that-all-hosts-have-in-common";

/// Returns a text as it is, and as it would be found in hexadecimal and Base64 encodings, at each alignment.
fn forms(text: &str) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let hex = text
        .bytes()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
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

/// Two hosts of one client, whose key file they have in common.
fn hosts(sandbox: &Sandbox, engine: &Redis) -> Vec<Daemon> {
    let client = client_text(CLIENT, sandbox, &format!("[\"{SCOPE}\"]"));
    let config = client + &section(&engine.url(), "key_file = \"fleet.key\"");
    let folders = [(); 2].map(|()| {
        let folder = host_folder(&config);
        write_private(&folder, "fleet.key", KEY_FILE);
        folder
    });
    start_all_in(folders.into())
}

/// Returns what must not be found, by its name.
fn canaries(sandbox: &Sandbox) -> Vec<(&'static str, String)> {
    let mut canaries = vec![
        ("secret", SECRET.to_owned()),
        ("client id", CLIENT_ID.to_owned()),
        ("client id without hyphens", CLIENT_ID.replace('-', "")),
        ("client's name", CLIENT.to_owned()),
        ("scope", SCOPE.to_owned()),
        ("key file", KEY_FILE.to_owned()),
        ("token URL", sandbox.token_url()),
        ("start of tokens", "eyJhbGciOi".to_owned()),
    ];
    let tokens = sandbox.requests().into_iter().filter_map(|seen| seen.token);
    canaries.extend(tokens.map(|token| ("token", token)));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // A short name may be part of a random text.
    if host.trim().len() >= 6 {
        canaries.push(("host", host.trim().to_owned()));
    }
    canaries
}

#[test]
fn engine_sees_no_token_secret_client_scope_or_host() {
    let Some(engine) = engine("rdbcompression no") else {
        return;
    };
    let (_monitor, mut stream) = monitor(&engine);
    let sandbox = Sandbox::builder().client(CLIENT_ID, SECRET, &[SCOPE]);
    let sandbox = sandbox.lifetime(SHORT).start().unwrap();
    // A note of a failure, then two tokens.
    sandbox.script([Fault::status(503)]);
    let hosts = hosts(&sandbox, &engine);
    until(|| match keys(&engine, ":note").len() {
        1 => Ok(()),
        other => Err(other),
    });
    let noted = dump(&engine);
    let ask = |host: &Daemon| token(&host.ask(&["--timeout", "60", SCOPE]));
    let tokens: Vec<String> = hosts.iter().map(ask).collect();
    assert_eq!(tokens[0], tokens[1]);
    let first = keys(&engine, ":token").remove(0);
    let before = engine.cli(&["GET", &first]);
    token(&hosts[0].ask(&["--renew", "--timeout", "60", SCOPE]));
    until(|| {
        let now = engine.cli(&["GET", &first]);
        if now == before {
            Err("not published")
        } else {
            Ok(())
        }
    });
    let renewed = dump(&engine);
    drop(hosts);
    drop(engine);
    let mut seen = Vec::new();
    stream.read_to_end(&mut seen).unwrap();
    let text = String::from_utf8_lossy(&seen);
    for expected in [
        "\"SET\"",
        ":token\"",
        ":lease\"",
        ":note\"",
        "\"TIME\"",
        "domo-token:{",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    let canaries = canaries(&sandbox);
    assert_none("MONITOR", &seen, &canaries);
    for (place, bytes) in [("the dump with a note", noted), ("the dump", renewed)] {
        assert!(bytes.starts_with(b"REDIS") && bytes.len() > 200, "{place}");
        assert_none(place, &bytes, &canaries);
    }
}

/// Has the engine write its data, and returns what it wrote.
fn dump(engine: &Redis) -> Vec<u8> {
    assert_eq!(engine.cli(&["SAVE"]), "OK");
    fs::read(engine.path("dump.rdb")).unwrap()
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
