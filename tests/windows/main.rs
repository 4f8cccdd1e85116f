//! The real programs over a named pipe, on Windows or under wine: `just windows`.

#![cfg(windows)]
#![cfg(test)]

mod host;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use domo_sandbox::Sandbox;
use domo_token::platform::acl;
use domo_token_client::{Broker, ErrorKind};

use host::{CANARY_SECRET, Daemon, Folder, PATIENCE, parts, program, wait_until};

/// Returns the token on standard output.
fn token_of(daemon: &Daemon, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = parts(&mut daemon.helper(arguments));
    assert_eq!(code, Some(0), "{stderr}");
    stdout.strip_suffix('\n').unwrap().to_owned()
}

fn requests(sandbox: &Sandbox) -> usize {
    sandbox.requests().len()
}

#[test]
fn config_written_by_init_is_private_and_works() {
    let sandbox = host::sandbox();
    let folder = Folder::new("init");
    let url = sandbox.token_url();
    let mut init = program("domo-tokend");
    init.arg("--config").arg(folder.file("config.toml"));
    init.args(["init", "--name", "acme", "--client-id", host::CLIENT_ID]);
    init.args(["--tokens", "data", "--token-url", &url]);
    let (code, stdout, stderr) = host::with_input(&mut init, CANARY_SECRET);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("acme.secret"), "{stdout}");
    let daemon = Daemon::start(folder);
    assert!(token_of(&daemon, &["data"]).len() > 100);
}

#[test]
fn unknown_command_error_names_no_systemd_command() {
    for (word, tip) in [
        ("start", "in the foreground: domo-tokend"),
        ("stop", "press Ctrl-C"),
        ("restart", "then run: domo-tokend"),
        ("reload", "is reloaded automatically"),
        ("logs", "to standard error"),
    ] {
        let (code, _, stderr) = parts(program("domo-tokend").arg(word));
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(tip), "{stderr}");
        assert!(!stderr.contains("ctl "), "{stderr}");
    }
}

#[test]
fn hundred_callers_receive_one_token_with_one_request_to_domo() {
    let sandbox = host::sandbox();
    let daemon = Daemon::start(Folder::with_config("hundred", &sandbox));
    let pipe = daemon.pipe();
    let tokens: Vec<String> = thread::scope(|scope| {
        let callers: Vec<_> = (0..100)
            .map(|_| {
                scope.spawn(|| {
                    let broker = Broker::connect_to(&pipe).unwrap();
                    let first = broker.token("data").unwrap();
                    let again = broker.token("data").unwrap();
                    assert_eq!(first.secret(), again.secret());
                    first.secret().to_owned()
                })
            })
            .collect();
        let results = callers.into_iter().map(|caller| caller.join().unwrap());
        results.collect()
    });
    assert_eq!(tokens.len(), 100);
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(requests(&sandbox), 1);
}

#[test]
fn protocol_violation_closes_the_connection_and_others_are_served() {
    let sandbox = host::sandbox();
    let daemon = Daemon::start(Folder::with_config("broken", &sandbox));
    let other = Broker::connect_to(daemon.pipe()).unwrap();
    let before = other.token("data").unwrap();
    let frames: [&[u8]; 4] = [
        b"get / HTTP/1.1\r\n\r\n",
        b"DTK\x02\xff\xff\xff\xff",
        b"DTK\x02\x01\x00\x00\x00\x63",
        b"DTK\x02\x00\x00\x00\x00",
    ];
    for frame in frames {
        let mut pipe = host::call(&daemon.pipe());
        pipe.write_all(frame).unwrap();
        let mut answer = Vec::new();
        // The end of a pipe is either an error or the end of a file.
        let _ = pipe.read_to_end(&mut answer);
        assert_eq!(answer, b"", "{frame:?}");
    }
    assert_eq!(other.token("data").unwrap().secret(), before.secret());
}

/// Returns the response to a request for a token as text, after which the connection ends.
fn http_response(daemon: &Daemon) -> String {
    let mut pipe = host::call(&daemon.pipe());
    let target = "/v1/token/data?format=token";
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    pipe.write_all(request.as_bytes()).unwrap();
    let mut response = Vec::new();
    // The end of a pipe is either an error or the end of a file.
    let _ = pipe.read_to_end(&mut response);
    String::from_utf8(response).unwrap()
}

#[test]
fn token_is_served_over_http() {
    let sandbox = host::sandbox();
    let daemon = Daemon::start(Folder::with_config("http", &sandbox));
    let token = token_of(&daemon, &["data"]);
    let response = http_response(&daemon);
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(
        response.ends_with(&format!("\r\n\r\n{token}\n")),
        "{response}"
    );
}

#[test]
fn http_caller_over_the_limit_receives_429() {
    let sandbox = host::sandbox();
    let folder = Folder::with_config("http-limit", &sandbox);
    let config = folder.file("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("[limits]\nconnections = 1\n{text}")).unwrap();
    let daemon = Daemon::start(folder);
    let only = Broker::connect_to(daemon.pipe()).unwrap();
    only.token("data").unwrap();
    let response = http_response(&daemon);
    assert!(response.starts_with("HTTP/1.1 429 "), "{response}");
    assert!(response.contains("urn:domo-token:busy"), "{response}");
}

#[test]
fn second_daemon_exits_75_and_the_first_continues() {
    let sandbox = host::sandbox();
    let daemon = Daemon::start(Folder::with_config("second", &sandbox));
    let second = Folder::with_config("second-again", &sandbox);
    let mut command = Daemon::command(&second, &daemon.pipe());
    let (code, _, stderr) = parts(&mut command);
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("another domo-tokend"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(token_of(&daemon, &["data"]).len() > 100);
    assert_eq!(requests(&sandbox), 1, "the second asked nobody");
}

#[test]
fn exec_passes_the_token_in_the_environment_and_the_commands_exit_code() {
    let sandbox = host::sandbox();
    let daemon = Daemon::start(Folder::with_config("exec", &sandbox));
    let token = token_of(&daemon, &["data"]);
    let shell = ["exec", "data", "--", "cmd", "/c"];
    let run = |line: &str| parts(&mut daemon.helper(&[&shell[..], &[line]].concat()));
    let (code, stdout, stderr) = run("echo %DOMO_ACCESS_TOKEN%");
    assert_eq!((code, stdout.trim()), (Some(0), token.as_str()), "{stderr}");
    assert_eq!(run("exit 7").0, Some(7));
    let ask = |arguments: &[&str]| parts(&mut daemon.helper(arguments));
    assert_eq!(ask(&["exec", "data", "--", "no-such-program"]).0, Some(127));
    let (code, stdout, stderr) = ask(&["exec", "--fd", "3", "data", "--", "cmd"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(
        stderr.contains("--fd") && stderr.contains("--env"),
        "{stderr}"
    );
    let (code, _, stderr) = ask(&["watch", "--to", "x", "--mode", "0640", "data"]);
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn missing_broker_exits_69_and_an_invalid_pipe_name_is_explained() {
    let ask = |pipe: &str| parts(program("domo-token").args(["--socket", pipe, "data"]));
    let (code, stdout, stderr) = ask(r"\\.\pipe\domo-token-nobody");
    assert_eq!((code, stdout.as_str()), (Some(69), ""), "{stderr}");
    assert!(stderr.contains(r"\\.\pipe\domo-token-nobody"), "{stderr}");
    assert!(!stderr.contains("systemctl"), "{stderr}");
    let (code, _, stderr) = ask(r"C:\broker.sock");
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains("named pipe"), "{stderr}");
}

#[test]
fn secret_that_others_may_access_is_an_error_with_the_command_to_run() {
    let sandbox = host::sandbox();
    for (rights, what) in [("FR", "read it"), ("FW", "change it")] {
        let folder = Folder::with_config("open-secret", &sandbox);
        host::open_to_everyone(&folder.file("acme.secret"), rights);
        let mut check = program("domo-tokend");
        check
            .arg("check")
            .arg("--config")
            .arg(folder.file("config.toml"));
        let (code, _, stderr) = parts(&mut check);
        assert_eq!(code, Some(78), "{rights}: {stderr}");
        assert!(stderr.contains(&format!("lets S-1-1-0 {what}")), "{stderr}");
        assert!(stderr.contains("icacls"), "{stderr}");
    }
    assert_eq!(requests(&sandbox), 0);
}

#[test]
fn config_may_be_readable_but_not_writable_by_others() {
    let sandbox = host::sandbox();
    let check = |rights: &str| {
        let folder = Folder::with_config("open-config", &sandbox);
        host::open_to_everyone(&folder.file("config.toml"), rights);
        let mut check = program("domo-tokend");
        check
            .arg("check")
            .arg("--config")
            .arg(folder.file("config.toml"));
        parts(&mut check)
    };
    let (code, _, stderr) = check("FW");
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("change it"), "{stderr}");
    let (code, _, stderr) = check("FR");
    assert_eq!(code, Some(0), "{stderr}");
}

#[test]
fn private_file_is_created_private_and_replaces_no_other() {
    let folder = Folder::new("closed");
    let path = folder.file("closed");
    let mut file = acl::create_closed(&path).unwrap();
    file.write_all(b"x").unwrap();
    drop(file);
    let file = File::open(&path).unwrap();
    assert_eq!(acl::fault(&file, acl::Closed::ToReaders).unwrap(), None);
    assert!(acl::create_closed(&path).is_err());
}

#[test]
fn pipe_group_is_resolved_by_sid_and_a_missing_one_is_named() {
    let sandbox = host::sandbox();
    let start = |group: &str| {
        let folder = Folder::with_config("group", &sandbox);
        folder.append(
            "config.toml",
            &format!("[broker]\npipe_group = \"{group}\"\n"),
        );
        folder
    };
    let daemon = Daemon::start(start("S-1-5-32-545"));
    assert!(token_of(&daemon, &["data"]).len() > 100);
    let pipe = r"\\.\pipe\domo-token-no-group";
    let (code, _, stderr) = parts(&mut Daemon::command(&start("no-such-group"), pipe));
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("broker.pipe_group: no such group"),
        "{stderr}"
    );
}

#[test]
fn user_rules_are_an_error_on_windows() {
    let sandbox = host::sandbox();
    let folder = Folder::with_config("rules", &sandbox);
    let rules = "[clients.acme.access]\ndata = { users = [\"etl\"] }\n";
    folder.append("config.toml", rules);
    let (code, _, stderr) = parts(&mut Daemon::command(&folder, r"\\.\pipe\domo-token-rules"));
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("clients.acme.access: not supported on Windows"),
        "{stderr}"
    );
}

#[test]
fn changed_config_is_applied_automatically() {
    let sandbox = host::sandbox();
    let folder = Folder::with_config("reload", &sandbox);
    let mut daemon = Daemon::start(folder);
    token_of(&daemon, &["data"]);
    let text = fs::read_to_string(daemon.folder.file("config.toml")).unwrap();
    let text = text.replace("[\"data\"]", "[\"data\", \"user\"]");
    fs::write(daemon.folder.file("config.toml"), text).unwrap();
    daemon.wait_for_log("config loaded");
    assert!(token_of(&daemon, &["user"]).len() > 100);
}

#[test]
fn client_survives_a_broker_restart_and_fails_while_there_is_none() {
    let sandbox = host::sandbox();
    let daemon = Daemon::start(Folder::with_config("restart", &sandbox));
    let broker = Broker::connect_to(daemon.pipe()).unwrap();
    let first = broker.token("data").unwrap();
    let pipe = daemon.pipe();
    let folder = daemon.kill();
    let held = broker.token("data").unwrap();
    assert_eq!(held.generation(), first.generation(), "from memory");
    let in_vain = broker.with_timeout(Duration::from_millis(300));
    let error = in_vain.renew(&first).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
    let _daemon = Daemon::start_on(folder, &pipe);
    let second = broker.with_timeout(PATIENCE).renew(&first).unwrap();
    assert_ne!(second.generation(), first.generation());
}

#[test]
fn call_within_a_runtime_completes() {
    let sandbox = host::sandbox();
    let daemon = Daemon::start(Folder::with_config("runtime", &sandbox));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let token = runtime.block_on(async {
        let broker = Broker::connect_to(daemon.pipe()).unwrap();
        broker.token("data").unwrap()
    });
    assert!(token.secret().len() > 100);
}

#[test]
fn fifty_silent_callers_delay_no_other() {
    let sandbox = host::sandbox();
    let daemon = Daemon::start(Folder::with_config("silent", &sandbox));
    let held: Vec<File> = (0..50).map(|_| host::call(&daemon.pipe())).collect();
    let broker = Broker::connect_to(daemon.pipe())
        .unwrap()
        .with_timeout(PATIENCE);
    assert!(broker.token("data").is_ok());
    drop(held);
}

#[test]
fn watch_keeps_its_file_and_no_output_contains_the_secret() {
    let sandbox = host::sandbox();
    let daemon = Daemon::start(Folder::with_config("watch", &sandbox));
    let token = token_of(&daemon, &["data"]);
    let mut watch = daemon.helper(&["watch", "data"]);
    let mut watch: std::process::Child = Command::spawn(&mut watch).unwrap();
    let line = host::first_line(watch.stdout.take().unwrap());
    assert!(line.contains(&token), "{line}");
    watch.kill().unwrap();
    watch.wait().unwrap();
    let log = daemon.kill_for_log();
    assert!(!log.contains(CANARY_SECRET) && !log.contains(&token));
    assert!(log.contains("token obtained"), "{log}");
}

/// Returns the daemon's response over HTTP.
fn fetched(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_and_health_are_served_and_the_audit_file_can_be_renamed() {
    let sandbox = host::sandbox();
    let folder = Folder::with_config("beside", &sandbox);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    folder.append(
        "config.toml",
        &format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n[audit]\nfile = \"audit.jsonl\"\n"),
    );
    let daemon = Daemon::start(folder);
    let audit = daemon.folder.file("audit.jsonl");
    let wait_for_line = || {
        wait_until(|| fs::read_to_string(&audit).is_ok_and(|text| text.ends_with("}\n")));
        fs::read_to_string(&audit).unwrap()
    };
    let token = token_of(&daemon, &["data"]);
    let text = wait_for_line();
    assert!(text.contains("\"served\""), "{text}");
    assert!(!text.contains(&token), "{text}");
    fs::rename(&audit, daemon.folder.file("audit.old")).unwrap();
    token_of(&daemon, &["data"]);
    assert_eq!(wait_for_line().lines().count(), 1, "in a file of its own");
    assert!(fetched(port, "/readyz").contains("200 OK"));
    let metrics = fetched(port, "/metrics");
    assert!(metrics.contains("domo_token_requests_total"), "{metrics}");
}

#[test]
fn watch_file_is_updated_with_each_new_token() {
    let sandbox = host::sandbox();
    let daemon = Daemon::start(Folder::with_config("file", &sandbox));
    let first = token_of(&daemon, &["data"]);
    let path = daemon.folder.file("token");
    let mut watch = daemon.helper(&["watch", "--to"]);
    let mut watch = watch.arg(&path).arg("data").spawn().unwrap();
    let wait_for = |token: &str| {
        let line = format!("{token}\n");
        wait_until(|| fs::read_to_string(&path).is_ok_and(|there| there == line));
    };
    wait_for(&first);
    let broker = Broker::connect_to(daemon.pipe())
        .unwrap()
        .with_timeout(PATIENCE);
    let refused = broker.token("data").unwrap();
    wait_for(broker.renew(&refused).unwrap().secret());
    watch.kill().unwrap();
    watch.wait().unwrap();
}
