//! Ids, secrets and connection files as editors, shells and web pages leave them.

#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{CANARY_SECRET, CLIENT_ID, HOUR, check, config_text, folder, sandbox};
use domo_sandbox::Sandbox;
use tempfile::TempDir;

/// A folder with a config whose secret file has `content`, in which `@` stands for the secret.
fn with_secret(sandbox: &Sandbox, content: &[u8]) -> TempDir {
    let folder = folder(&config_text(sandbox, "[\"data\"]"));
    write(&folder, "acme.secret", content);
    folder
}

fn write(folder: &TempDir, name: &str, content: &[u8]) {
    let text: Vec<u8> = content
        .iter()
        .flat_map(|byte| match byte {
            b'@' => CANARY_SECRET.as_bytes().to_vec(),
            other => vec![*other],
        })
        .collect();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn config(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("config.toml")
}

const SLIPS: [(&[u8], &str); 7] = [
    (b"@ \n", "ends with a blank; remove it"),
    (b" @\n", "begins with a blank; remove it"),
    (b"@\xc2\xa0\n", "ends with a no-break space; remove it"),
    (
        b"\xe2\x80\x8b@\n",
        "begins with a zero-width space; remove it",
    ),
    (b"\"@\"\n", "stands in quotes; remove them"),
    (
        b"DOMO_CLIENT_SECRET=@\n",
        "begins with DOMO_CLIENT_SECRET=; keep the secret alone",
    ),
    (
        b"{\"client_secret\":\"@\"}",
        "is JSON; keep the secret alone",
    ),
];

#[test]
fn check_warns_of_a_slip_in_a_secret_and_exits_0() {
    let sandbox = sandbox(HOUR);
    for (content, slip) in SLIPS {
        let folder = with_secret(&sandbox, content);
        let (code, stdout, stderr) = check(&config(&folder), &[]);
        let warning = format!("warning: client \"acme\": client secret {slip}\n");
        assert!(stderr.contains(&warning), "{stderr}");
        assert!(stderr.ends_with("domo-tokend: 1 warning\n"), "{stderr}");
        assert_eq!(code, Some(0));
        assert!(stdout.contains("\"acme\" (441e307a…): ok\n"), "{stdout}");
    }
    assert!(sandbox.requests().is_empty());
}

#[test]
fn rejection_of_a_secret_with_a_slip_names_the_slip() {
    let sandbox = sandbox(HOUR);
    for (content, slip) in SLIPS {
        let folder = with_secret(&sandbox, content);
        let (code, _, stderr) = check(&config(&folder), &["--online"]);
        assert_eq!(code, Some(78), "{stderr}");
        let ending = format!("; the client secret {slip}\n");
        assert!(stderr.contains(&ending), "{stderr}");
        assert!(stderr.contains("answered 401"), "{stderr}");
    }
}

#[test]
fn rejection_of_a_scope_names_no_slip_of_the_secret() {
    let secret = format!("{CANARY_SECRET} ");
    let sandbox = Sandbox::builder().client(CLIENT_ID, &secret, &["data"]);
    let sandbox = sandbox.lifetime(HOUR).start().unwrap();
    let folder = folder(&config_text(&sandbox, "[\"audit\"]"));
    write(&folder, "acme.secret", b"@ \n");
    let (code, _, stderr) = check(&config(&folder), &["--online"]);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("invalid_scope"), "{stderr}");
    assert!(!stderr.contains("the client secret"), "{stderr}");
}

#[test]
fn byte_order_mark_before_an_id_or_a_secret_is_dropped() {
    let sandbox = sandbox(HOUR);
    let folder = with_secret(&sandbox, b"\xef\xbb\xbf@\r\n");
    let (code, _, stderr) = check(&config(&folder), &["--online"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));

    let id = format!("\u{feff}{CLIENT_ID}\r\n");
    write(&folder, "id", id.as_bytes());
    let inline = format!("client_id = \"{CLIENT_ID}\"");
    let secret = "client_secret_file = \"acme.secret\"";
    for (from, to) in [
        (inline.as_str(), "client_id_file = \"id\"".to_owned()),
        (&inline, format!("client_id = \"\\uFEFF{CLIENT_ID}\"")),
        (
            secret,
            "client_secret_command = [\"/bin/cat\", \"@/acme.secret\"]"
                .replace('@', folder.path().to_str().unwrap()),
        ),
        (
            secret,
            format!("client_secret = \"\\uFEFF{CANARY_SECRET}\""),
        ),
    ] {
        let text = config_text(&sandbox, "[\"data\"]");
        let path = config(&folder);
        fs::write(&path, text.replace(from, &to)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let (code, _, stderr) = check(&path, &["--online"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{to}");
    }
}

#[test]
fn secret_that_cannot_be_one_is_refused_with_what_is_wrong_with_the_file() {
    let sandbox = sandbox(HOUR);
    let utf16 = |mark: bool| {
        let mark = mark.then_some(0xfeff);
        let units = mark.into_iter().chain(CANARY_SECRET.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()
    };
    for (content, words) in [
        (utf16(true), "in UTF-16; save it as UTF-8"),
        (utf16(false), "in UTF-16; save it as UTF-8"),
        (b"\xff@".to_vec(), "not UTF-8; save it as UTF-8"),
        (b"\n@\n".to_vec(), "begins with an empty line; remove it"),
        (
            b"# Domo secret\n@\n".to_vec(),
            "begins with a comment line; remove it",
        ),
        (
            b"@\nsecond\n".to_vec(),
            "has more than one line; keep only the one with the value",
        ),
        (
            b"@\t\n".to_vec(),
            "contains a tab or another control character",
        ),
        (b"\r\n".to_vec(), "empty"),
    ] {
        let folder = with_secret(&sandbox, &content);
        let (code, _, stderr) = check(&config(&folder), &["--online"]);
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    assert!(sandbox.requests().is_empty());
}
