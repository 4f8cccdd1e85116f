//! `domo-tokend init` with piped input.

mod service;
mod terminal;

use std::fs::{self};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::common;

use crate::common::{
    CANARY_SECRET, CLIENT_ID, HOUR, PATIENCE, chmod, failure, parts, pauses, sandbox,
};
use domo_sandbox::{Fault, Sandbox};
use tempfile::TempDir;

/// The path of a config that does not exist yet.
fn config_in(folder: &TempDir) -> String {
    let path = folder.path().join("config.toml");
    path.to_str().unwrap().to_owned()
}

#[track_caller]
fn assert_secret_written(folder: &TempDir) {
    let secret = fs::read_to_string(folder.path().join("domo.secret")).unwrap();
    assert_eq!(secret, format!("{CANARY_SECRET}\n"));
}

/// The id and the secret, as `init` reads them from standard input.
fn credentials() -> String {
    format!("{CLIENT_ID}\n{CANARY_SECRET}\n")
}

/// Runs `init` with that input and these environment variables.
fn init_with(input: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command.env_clear().envs(variables.iter().copied());
    command.arg("init").args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Some input is rejected before it is read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn likely_mistake_in_piped_input_is_an_error_without_request_or_file() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let (config, url) = (config_in(&folder), sandbox.token_url());
    let arguments = ["--config", &config, "--token-url", &url];
    for (secret, slip) in [
        (
            format!("{CANARY_SECRET} "),
            "the client secret ends with a space",
        ),
        (
            format!("DOMO_CLIENT_SECRET={CANARY_SECRET}"),
            "begins with DOMO_CLIENT_SECRET=",
        ),
        (String::new(), "the client secret is empty"),
    ] {
        let input = format!("{CLIENT_ID}\n{secret}\n");
        let stderr = failure(&init_with(&input, &[], &arguments), 78);
        assert!(stderr.contains(slip), "{stderr}");
    }
    assert_eq!(sandbox.requests().len(), 0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let input = format!("\u{feff}{CLIENT_ID}\r\n{CANARY_SECRET}\r\n");
    let (code, _, stderr) = parts(&init_with(&input, &[], &arguments));
    assert_eq!(code, Some(0), "{stderr}");
}

#[test]
fn scope_that_domo_does_not_grant_is_not_blamed_on_the_credentials() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let (config, url) = (config_in(&folder), sandbox.token_url());
    let arguments = [
        "--config",
        &config,
        "--token-url",
        &url,
        "--tokens",
        "data workflow",
    ];
    let input = credentials();
    let (code, _, stderr) = parts(&init_with(&input, &[], &arguments));
    assert_eq!(code, Some(78), "{stderr}");
    let message = "the credentials work; Domo does not grant this client the scope \"workflow\" \
                   (scope set \"data workflow\")";
    assert!(stderr.contains(message), "{stderr}");
    // Domo's API clients cannot be edited.
    assert!(stderr.contains("create one with that scope"), "{stderr}");
    assert!(stderr.ends_with("with --tokens SCOPES\n"), "{stderr}");
    assert_eq!(sandbox.requests().len(), 3);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // A token with fewer scopes than requested means the same.
    sandbox.script([Fault::scope("data"), Fault::default(), Fault::default()]);
    let (_, _, stderr) = parts(&init_with(&input, &[], &arguments));
    assert!(stderr.contains(message), "{stderr}");
}

#[test]
fn first_rejection_of_new_credentials_is_confirmed_after_5_s() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::status(401)]);
    let folder = tempfile::tempdir().unwrap();
    let (config, url) = (config_in(&folder), sandbox.token_url());
    let input = credentials();
    let arguments = ["--config", &config, "--token-url", &url];
    let (code, _, stderr) = parts(&init_with(&input, &[], &arguments));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("trying again in 5 s"), "{stderr}");
    let pauses = pauses(&sandbox.requests());
    assert_eq!(pauses.len(), 1);
    assert!((5..7).contains(&pauses[0].as_secs()), "{pauses:?}");
}

/// A proxy for https servers, which returns the head of each CONNECT.
fn proxy(answer: &'static str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, heads) = channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap().to_owned();
            sender.send(head).unwrap();
            client.write_all(answer.as_bytes()).unwrap();
            if answer.contains(" 200 ") {
                let mut server = TcpStream::connect(target).unwrap();
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                let _ = std::io::copy(&mut client, &mut server);
            }
        }
    });
    (url, heads)
}

#[test]
fn proxy_its_login_and_a_ca_are_used_for_the_trial_and_written() {
    let builder = Sandbox::builder().client(CLIENT_ID, CANARY_SECRET, &["data"]);
    let sandbox = builder.https(true).start().unwrap();
    let (proxy, heads) = proxy("HTTP/1.1 200 OK\r\n\r\n");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("ca.pem"), sandbox.ca_pem().unwrap()).unwrap();
    fs::write(path("login"), "ann:c4nary\n").unwrap();
    chmod(path("login"), 0o600);
    let input = credentials();
    let (config, url) = (path("new/config.toml"), sandbox.token_url());
    let mut arguments = vec!["--config", &config, "--token-url", &url];
    // Without the options there is no connection, and a variable does not replace an option.
    let variables = [("HTTPS_PROXY", proxy.as_str())];
    let (code, _, stderr) = parts(&init_with(&input, &variables, &arguments));
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("with --ca-file FILE"), "{stderr}");
    let (ca, login) = (path("ca.pem"), path("login"));
    arguments.extend(["--proxy", &proxy, "--proxy-auth-file", &login]);
    arguments.extend(["--ca-file", &ca]);
    let (code, stdout, stderr) = parts(&init_with(&input, &[], &arguments));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("Domo issued a token"), "{stdout}");
    let head = heads.recv_timeout(PATIENCE).unwrap().to_lowercase();
    assert!(
        head.contains("proxy-authorization: basic yw5uomm0bmfyeq=="),
        "{head}"
    );
    let text = fs::read_to_string(&config).unwrap();
    for line in [
        format!("proxy = \"{proxy}\"\n"),
        format!("proxy_auth_file = \"{login}\"\n"),
        format!("ca_file = \"{ca}\"\n"),
    ] {
        assert!(text.contains(&line), "{text}");
    }
    let (code, stdout, stderr) = common::check(Path::new(&config), &["--online"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}

#[test]
fn variable_of_a_proxy_is_named_if_domo_cannot_be_reached() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let url = format!("https://{}/oauth/token", closed.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(&folder);
    let arguments = ["--config", &config, "--token-url", &url];
    let input = credentials();
    let variables = [("HTTPS_PROXY", "http://proxy.example:3128")];
    let (code, _, stderr) = parts(&init_with(&input, &variables, &arguments));
    assert_eq!(code, Some(75), "{stderr}");
    assert!(
        stderr.contains("the environment variable HTTPS_PROXY is not used"),
        "{stderr}"
    );
    assert!(
        stderr.ends_with("add --proxy http://proxy.example:3128\n"),
        "{stderr}"
    );
    let (_, _, stderr) = parts(&init_with(&input, &[], &arguments));
    assert!(stderr.ends_with("add --offline\n"), "{stderr}");
    assert!(!Path::new(&config).exists());
}

#[test]
fn unusable_file_is_an_error_before_the_id_is_read_and_no_login_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("login"), "ann:c4nary\n").unwrap();
    chmod(path("login"), 0o644);
    let config = path("new/config.toml");
    let proxy = ["--proxy", "http://127.0.0.1:9"];
    for (option, file, message) in [
        ("--proxy-auth-file", path("login"), "chmod"),
        ("--ca-file", path("none.pem"), "none.pem: No such file"),
        (
            "--proxy-auth-file",
            "ann:c4nary".to_owned(),
            "there is no such file",
        ),
        (
            "--proxy-auth-file",
            "CORP/ann:c4nary".to_owned(),
            "there is no such file",
        ),
    ] {
        let arguments = ["--config", &config, option, &file];
        let arguments = [&arguments[..], &proxy].concat();
        let stderr = failure(&init_with("", &[], &arguments), 78);
        assert!(stderr.contains(message), "{stderr}");
        assert!(!stderr.contains("c4nary"), "{stderr}");
        let names_key = ["_file", "allow_", "config"]
            .iter()
            .any(|key| stderr.contains(key));
        assert!(!names_key, "{stderr}");
        assert!(!Path::new(&config).exists());
    }
}

#[test]
fn input_that_is_empty_or_not_utf8_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(&folder);
    let with_id = ["--offline", "--config", &config, "--client-id", "id"];
    let utf16 = "a\0n\0-\0i\0d\0\n\0";
    for (input, arguments, message) in [
        (
            "",
            &with_id[..3],
            "standard input ended before the client id",
        ),
        (
            "",
            &with_id,
            "standard input ended before the client secret",
        ),
        (
            "an-id\n",
            &with_id[..3],
            "standard input ended before the client secret",
        ),
        (
            utf16,
            &with_id[..3],
            "standard input is not UTF-8 (it seems to be UTF-16)",
        ),
    ] {
        let (code, _, stderr) = parts(&init_with(input, &[], arguments));
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
        assert!(stderr.contains("nothing was written"), "{stderr}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn existing_secret_or_config_is_an_error_with_the_option_for_another_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("acme.secret"), "c4nary").unwrap();
    let config = path("config.toml");
    let arguments = ["--offline", "--name", "acme", "--config", &config];
    let message = || parts(&init_with("id\nsecret\n", &[], &arguments)).2;
    assert!(message().ends_with("with --name NAME\n"), "{}", message());
    fs::write(&config, "").unwrap();
    assert!(message().ends_with("with --config FILE\n"), "{}", message());
    for (config, problem) in [
        ("~/c.toml", "tilde"),
        ("\u{1b}[31m.toml", "control character"),
    ] {
        let arguments = ["--offline", "--config", config];
        let (code, _, stderr) = parts(&init_with("id\nsecret\n", &[], &arguments));
        assert_eq!(code, Some(78), "{stderr}");
        assert!(
            stderr.contains(problem) && !stderr.contains('\u{1b}'),
            "{stderr}"
        );
    }
}

#[test]
fn option_for_a_secret_or_a_scope_is_an_error_with_a_fitting_hint() {
    for (option, tip) in [
        ("--client-secret", "the secret is never an argument"),
        ("--client-secret-file", "the secret is never an argument"),
        ("--scope", "domo-tokend init --tokens SCOPES"),
    ] {
        let (code, _, stderr) = parts(&init_with("", &[], &[option, "c4nary"]));
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(tip), "{stderr}");
        let is_harmful = ["c4nary", "--client-id", "--socket"]
            .iter()
            .any(|word| stderr.contains(word));
        assert!(!is_harmful, "{stderr}");
    }
}

#[test]
fn line_that_is_too_long_is_an_error_and_not_truncated() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    fs::write(folder.path().join("line"), "s".repeat(5000)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command
        .args(["init", "--offline", "--client-id", CLIENT_ID, "--config"])
        .arg(&config);
    command.stdin(fs::File::open(folder.path().join("line")).unwrap());
    let (code, _, stderr) = parts(&command.output().unwrap());
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("exceeds 4096 bytes") && !config.exists(),
        "{stderr}"
    );
}
