//! Ids, secrets and connection files in the forms that editors, shells and web pages produce.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::common::{
    CANARY_SECRET, CLIENT_ID, HOUR, check, chmod, config_text, folder, parts, sandbox,
};
use domo_sandbox::Sandbox;
use tempfile::TempDir;

/// A folder with a config whose secret file has `content`, with `@` replaced by the secret.
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
    chmod(&path, 0o600);
}

fn config(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("config.toml")
}

const MISTAKES: [(&[u8], &str); 7] = [
    (b"@ \n", "ends with a space; remove it"),
    (b" @\n", "begins with a space; remove it"),
    (b"@\xc2\xa0\n", "ends with a no-break space; remove it"),
    (
        b"\xe2\x80\x8b@\n",
        "begins with a zero-width space; remove it",
    ),
    (b"\"@\"\n", "is enclosed in quotes; remove them"),
    (
        b"DOMO_CLIENT_SECRET=@\n",
        "begins with DOMO_CLIENT_SECRET=; keep only the secret",
    ),
    (
        b"{\"client_secret\":\"@\"}",
        "is JSON; keep only the secret",
    ),
];

#[test]
fn check_warns_of_a_likely_mistake_in_a_secret_and_exits_0() {
    let sandbox = sandbox(HOUR);
    for (content, slip) in MISTAKES {
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
fn rejection_of_a_secret_with_a_likely_mistake_names_it() {
    let sandbox = sandbox(HOUR);
    for (content, slip) in MISTAKES {
        let folder = with_secret(&sandbox, content);
        let (code, _, stderr) = check(&config(&folder), &["--online"]);
        assert_eq!(code, Some(78), "{stderr}");
        let ending = format!("; the client secret {slip}\n");
        assert!(stderr.contains(&ending), "{stderr}");
        assert!(stderr.contains("returned 401"), "{stderr}");
    }
}

#[test]
fn rejection_of_a_scope_names_no_mistake_of_the_secret() {
    let secret = format!("{CANARY_SECRET} ");
    let sandbox = Sandbox::builder().client(CLIENT_ID, &secret, &["data"]);
    let sandbox = sandbox.lifetime(HOUR).start().unwrap();
    let folder = folder(&config_text(&sandbox, "[\"audit\"]"));
    write(&folder, "acme.secret", b"@ \n");
    let (code, _, stderr) = check(&config(&folder), &["--online"]);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("invalid_scope"), "{stderr}");
    assert!(
        stderr.contains("create an API client with these scopes"),
        "{stderr}"
    );
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
        chmod(&path, 0o600);
        let (code, _, stderr) = check(&path, &["--online"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{to}");
    }
}

#[test]
fn invalid_secret_is_an_error_that_names_what_is_wrong_with_the_file() {
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
        (b"@\0".to_vec(), "contains a NUL byte; remove it"),
        (b"\r\n".to_vec(), "empty"),
    ] {
        let folder = with_secret(&sandbox, &content);
        let (code, _, stderr) = check(&config(&folder), &["--online"]);
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    assert!(sandbox.requests().is_empty());
}

/// Runs `check --online` configured by environment variables alone: those of a valid client, changed by
/// `variables`; one without a value is unset.
fn by_environment(
    sandbox: &Sandbox,
    directory: &Path,
    variables: &[(&str, Option<&str>)],
) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command.env_clear().args(["check", "--online"]);
    command.env("HOME", directory).current_dir(directory);
    command.env("XDG_CONFIG_HOME", directory);
    command.env("XDG_RUNTIME_DIR", directory);
    command.env("DOMO_CLIENT_ID", CLIENT_ID);
    command.env("DOMO_CLIENT_SECRET", CANARY_SECRET);
    command.env("DOMO_TOKEN_URL", sandbox.token_url());
    for (name, value) in variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    parts(&command.output().unwrap())
}

#[test]
fn id_in_a_variable_is_trimmed_or_an_error_and_never_printed_raw() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    for ends in ["\r", "\n", "\r\n", " "] {
        for id in [format!("{CLIENT_ID}{ends}"), format!("{ends}{CLIENT_ID}")] {
            let variables = [("DOMO_CLIENT_ID", Some(id.as_str()))];
            let (code, _, stderr) = by_environment(&sandbox, folder.path(), &variables);
            assert_eq!((code, stderr.as_str()), (Some(0), ""), "{id:?}");
        }
    }
    let requests = sandbox.requests().len();
    let long = "a".repeat(5000);
    for (id, words) in [
        ("\"441e307a\"", "is enclosed in quotes"),
        ("'441e307a'", "is enclosed in quotes"),
        ("\u{1b}[31m441e", "printable ASCII"),
        ("441e 307a", "printable ASCII"),
        (&long, "1 to 256"),
        ("\n", "DOMO_CLIENT_ID"),
    ] {
        let variables = [("DOMO_CLIENT_ID", Some(id))];
        let (code, stdout, stderr) = by_environment(&sandbox, folder.path(), &variables);
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
        let printed = stdout + &stderr;
        assert!(
            !printed.contains(|c: char| c.is_control() && c != '\n'),
            "{printed:?}"
        );
    }
    assert_eq!(sandbox.requests().len(), requests);
}

#[test]
fn secret_file_of_a_variable_that_all_can_read_names_the_variable_that_allows_it() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "secret", b"@\n");
    let path = folder.path().join("secret");
    chmod(&path, 0o444);
    let file = [
        ("DOMO_CLIENT_SECRET", None),
        ("DOMO_CLIENT_SECRET_FILE", path.to_str()),
    ];
    let (code, _, stderr) = by_environment(&sandbox, folder.path(), &file);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("set DOMO_ALLOW_WORLD_READABLE_SECRET=1"),
        "{stderr}"
    );
    assert!(!stderr.contains("allow_world_readable_secret"), "{stderr}");
    let allowed = [
        &file[..],
        &[("DOMO_ALLOW_WORLD_READABLE_SECRET", Some("1"))],
    ]
    .concat();
    let (code, _, stderr) = by_environment(&sandbox, folder.path(), &allowed);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let missing = [file[0], ("DOMO_CLIENT_SECRET_FILE", Some("none"))];
    let (code, _, stderr) = by_environment(&sandbox, folder.path(), &missing);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(!stderr.contains("the config"), "{stderr}");
}

#[test]
fn quoted_variable_is_an_error_that_names_it() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "DOMO_CLIENT_ID",
        "DOMO_TOKEN_URL",
        "DOMO_PROXY",
        "DOMO_PROXY_AUTH_FILE",
        "DOMO_CA_FILE",
        "DOMO_SCOPE",
        "DOMO_CLIENT_SECRET_FILE",
        "DOMO_ALLOW_WORLD_READABLE_SECRET",
    ] {
        let variables = [
            (name, Some("\"c4nary\"")),
            (
                "DOMO_CLIENT_SECRET",
                (!name.contains("SECRET_FILE")).then_some("x"),
            ),
        ];
        let (code, _, stderr) = by_environment(&sandbox, folder.path(), &variables);
        assert_eq!(code, Some(78), "{stderr}");
        let error = format!("{name}: is enclosed in quotes; remove them\n");
        assert!(stderr.contains(&error), "{stderr}");
    }
    assert!(sandbox.requests().is_empty());
}

#[test]
fn swapped_id_and_secret_are_reported() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let secret = "5f3c0c9d".repeat(8);
    let assigned = format!("DOMO_CLIENT_SECRET={secret}");
    for (id, words) in [
        (
            &secret,
            "looks like the secret; check that id and secret are not swapped",
        ),
        (
            &assigned,
            "begins with the name of a variable; keep only the client id",
        ),
    ] {
        let variables = [("DOMO_CLIENT_ID", Some(id.as_str()))];
        let (code, stdout, stderr) = by_environment(&sandbox, folder.path(), &variables);
        assert_eq!(code, Some(78), "{stderr}");
        assert!(
            stderr.contains(&format!("DOMO_CLIENT_ID: {words}\n")),
            "{stderr}"
        );
        assert!(!(stdout + &stderr).contains("5f3c"), "{stderr}");
    }
    assert!(sandbox.requests().is_empty());
    let variables = [("DOMO_CLIENT_SECRET", Some(CLIENT_ID))];
    let (code, _, stderr) = by_environment(&sandbox, folder.path(), &variables);
    assert_eq!(code, Some(78), "{stderr}");
    let slip =
        "; the client secret looks like a client id; check that id and secret are not swapped\n";
    assert!(stderr.contains(slip), "{stderr}");
}

#[test]
fn rejection_of_a_plausible_secret_names_where_to_look() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let variables = [("DOMO_CLIENT_SECRET", Some("5f3c0c9d"))];
    let (code, _, stderr) = by_environment(&sandbox, folder.path(), &variables);
    assert_eq!(code, Some(78), "{stderr}");
    let advice =
        "; check the client id and the secret at Domo (Admin > Authentication > API clients)\n";
    assert!(
        stderr.contains("returned 401") && stderr.contains(advice),
        "{stderr}"
    );
}

/// Sends that response on each connection and closes it.
fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn hint_to_a_client_of_the_environment_names_variables() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let proxy = answering("HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n");
    let http = format!("http://{proxy}");
    let https = format!("https://{proxy}");
    let nowhere = sandbox.token_url().replace("/oauth/token", "/nowhere");
    let domo = (
        "DOMO_TOKEN_URL",
        Some("https://api.domo.example/oauth/token"),
    );
    let not_pem = folder.path().join("ca");
    fs::write(&not_pem, "none").unwrap();
    let not_a_path = "5f3c0c9d".repeat(8);
    for (variables, words) in [
        (vec![domo, ("DOMO_PROXY", Some(&*http))], "and set DOMO_PROXY_AUTH_FILE\n".to_owned()),
        (vec![domo, ("DOMO_PROXY", Some(&*https))], format!("write DOMO_PROXY=http://{proxy}\n")),
        (vec![("DOMO_TOKEN_URL", Some(&*nowhere))], "check DOMO_TOKEN_URL\n".to_owned()),
        (
            vec![("DOMO_CA_FILE", Some("/nope"))],
            "DOMO_CA_FILE /nope: No such file or directory (os error 2); create it, or change the path in the variable\n"
                .to_owned(),
        ),
        (vec![("DOMO_CA_FILE", not_pem.to_str())], format!("cannot use DOMO_CA_FILE {}", not_pem.display())),
        (
            vec![("DOMO_CA_FILE", Some(&*not_a_path))],
            "it belongs in DOMO_CLIENT_SECRET)".to_owned(),
        ),
    ] {
        let (code, _, stderr) = by_environment(&sandbox, folder.path(), &variables);
        assert_ne!(code, Some(0), "{stderr}");
        assert!(stderr.contains(&words), "{words}: {stderr}");
        for key in [" ca_file", " proxy_auth_file", " proxy = ", " token_url", "the config"] {
            assert!(!stderr.contains(key), "{stderr}");
        }
    }
}

#[test]
fn login_given_instead_of_its_file_is_not_shown() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let domo = (
        "DOMO_TOKEN_URL",
        Some("https://api.domo.example/oauth/token"),
    );
    for login in [
        "CORP/alice:c4nary",
        "./alice:c4nary",
        "CORP/al:c4nary/x",
        "/alice:c4nary",
    ] {
        let variables = [
            domo,
            ("DOMO_PROXY", Some("http://127.0.0.1:9")),
            ("DOMO_PROXY_AUTH_FILE", Some(login)),
        ];
        let (code, stdout, stderr) = by_environment(&sandbox, folder.path(), &variables);
        assert_eq!(code, Some(78), "{stderr}");
        assert!(
            stderr.contains("must be the path of a file, not the login itself"),
            "{stderr}"
        );
        assert!(!(stdout + &stderr).contains("c4nary"), "{stderr}");
    }
    // A file name may contain this.
    write(&folder, "ann:word", b"ann:word\n");
    let path = folder.path().join("ann:word");
    let variables = [
        domo,
        ("DOMO_PROXY", Some("http://127.0.0.1:9")),
        ("DOMO_PROXY_AUTH_FILE", path.to_str()),
    ];
    let (code, _, stderr) = by_environment(&sandbox, folder.path(), &variables);
    assert_eq!(code, Some(75), "{stderr}");
}

#[test]
fn missing_named_config_exits_78_without_using_the_environment() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    let variables = [("DOMO_TOKEN_CONFIG", path.to_str())];
    let (code, _, stderr) = by_environment(&sandbox, folder.path(), &variables);
    assert_eq!(code, Some(78), "{stderr}");
    let reason = "; DOMO_CLIENT_ID is not used, because $DOMO_TOKEN_CONFIG names this file; create the file, or unset DOMO_TOKEN_CONFIG\n";
    assert!(stderr.contains(reason), "{stderr}");
    assert!(!stderr.contains(" init "), "{stderr}");
}
