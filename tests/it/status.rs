//! `domo-token status` for people, scripts and machines.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use crate::common;
use crate::common::{
    CLIENT_ID, Daemon, HOUR, config_text, parts, sandbox, sandbox_and_daemon, sandbox_and_folder,
    token,
};
use domo_sandbox::Fault;
use domo_token_client::clock::boot_now;
use domo_token_protocol::frame::encode;
use domo_token_protocol::greeting::{GREETING, Greeting, HELLO, hello};
use domo_token_protocol::messages::{Refusal, RefusalKind, Response, VERSION};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

#[test]
fn quiet_status_reports_by_exit_code_only() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"nosuch user\"]"));
    token(&daemon.ask(&["data"]));
    let refused = daemon.ask(&["nosuch", "user"]);
    assert_eq!(refused.status.code(), Some(78));
    for (arguments, expected) in [
        (&["status", "-q"][..], 78),
        (&["status", "-q", "data"], 0),
        (&["status", "-q", "data", "user nosuch"], 78),
        (&["status", "-q", "nosuch,user"], 78),
        (&["status", "-q", "d\"ata"], 2),
    ] {
        let (code, stdout, _) = parts(&daemon.ask(arguments));
        assert_eq!(
            (code, stdout.as_str()),
            (Some(expected), ""),
            "{arguments:?}"
        );
    }
    let (code, stdout, stderr) = parts(&daemon.ask(&["status", "audit"]));
    assert_eq!((code, stdout.as_str()), (Some(78), ""), "there is none");
    assert!(stderr.contains("audit"), "{stderr}");
    let missing = daemon.folder().join("none.sock");
    let output = common::helper(&missing, &["status", "-q"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn scope_set_without_a_token_exits_75() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(503));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let failed = daemon.ask(&["--timeout", "1", "data"]);
    assert_eq!(failed.status.code(), Some(75));
    let (code, stdout, _) = parts(&daemon.ask(&["status"]));
    assert_eq!(code, Some(75));
    for words in ["failing", "no token", "retries in", "failed attempt", "503"] {
        assert!(stdout.contains(words), "{words} in {stdout}");
    }
}

#[test]
fn relative_config_path_is_shown_as_an_absolute_path() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let whole = folder.path().canonicalize().unwrap().join("config.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command
        .env_clear()
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .args(["--config", "config.toml", "--socket", "broker.sock"]);
    let daemon = Daemon::start_as(command, folder);
    let status = daemon.status();
    assert_eq!(status["broker"]["config_path"], whole.to_str().unwrap());
}

#[test]
fn json_fields_are_stable() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let secret = token(&daemon.ask(&["data"]));
    let (code, text, _) = parts(&daemon.ask(&["status", "--json"]));
    assert_eq!((code, text.lines().count()), (Some(0), 1));
    assert!(
        !text.contains(&secret) && !text.contains(CLIENT_ID),
        "{text}"
    );
    let status: Value = serde_json::from_str(&text).unwrap();
    let broker = status["broker"].as_object().unwrap();
    for field in [
        "socket",
        "version",
        "protocol",
        "pid",
        "started_at",
        "config_path",
        "config_loaded_at",
        "config_error",
    ] {
        assert!(broker.contains_key(field), "{field}");
    }
    let set = status["tokens"][0].as_object().unwrap();
    for field in [
        "client",
        "client_id",
        "scope",
        "state",
        "obtained_at",
        "expires_at",
        "generation",
        "next_attempt_at",
        "requests",
        "failed_attempts",
        "last_error",
        "last_error_at",
        "rejected",
        "last_rejected_by",
        "credentials_error",
    ] {
        assert!(set.contains_key(field), "{field}");
    }
    let at = |field: &str| set[field].as_u64().unwrap();
    assert!(at("obtained_at") < at("next_attempt_at"));
    assert!(at("next_attempt_at") < at("expires_at"));
    assert_eq!(set["state"], "fresh");
}

/// Starts it on a terminal with 40 columns and 24 rows.
fn on_terminal(command: &mut Command) -> (File, Child) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ptsname(&master, Vec::new()).unwrap();
    let size = Winsize {
        ws_row: 24,
        ws_col: 40,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&master, size).unwrap();
    let slave = File::options()
        .write(true)
        .open(slave.to_str().unwrap())
        .unwrap();
    let child = command.stdout(slave).spawn().unwrap();
    (File::from(master), child)
}

/// Returns the terminal output of a command that ends by itself.
fn shown(mut command: Command) -> String {
    let (mut screen, mut child) = on_terminal(&mut command);
    // The last process that could write to it has ended: the end is an error.
    drop(command);
    let mut bytes = Vec::new();
    let _ = screen.read_to_end(&mut bytes);
    child.wait().unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn terminal_is_colored_unless_its_type_or_a_variable_forbids_it() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    token(&daemon.ask(&["data"]));
    let status = |variables: &[(&str, &str)]| {
        let mut command = daemon.helper(&["status"]);
        command.envs(variables.iter().copied());
        command
    };
    let colourful = shown(status(&[("TERM", "xterm")]));
    assert!(colourful.contains("\x1b[32mfresh"), "{colourful:?}");
    assert!(colourful.contains("renews in"), "{colourful:?}");
    let empty = shown(status(&[("TERM", "xterm"), ("NO_COLOR", "")]));
    assert!(empty.contains("\x1b[32m"), "{empty:?}");
    for variables in [
        &[("TERM", "xterm"), ("NO_COLOR", "1")][..],
        &[("TERM", "dumb")],
        &[],
    ] {
        let plain = shown(status(variables));
        assert!(
            plain.contains("fresh") && !plain.contains('\x1b'),
            "{plain:?}"
        );
    }
    let (_, piped, _) = parts(&status(&[("TERM", "xterm")]).output().unwrap());
    assert!(
        piped.contains("fresh") && !piped.contains('\x1b'),
        "{piped:?}"
    );
}

#[test]
fn color_option_decides_before_the_terminal_and_its_variables() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    token(&daemon.ask(&["data"]));
    let status = |when: &str, variables: &[(&str, &str)]| {
        let mut command = daemon.helper(&["status", "--color", when]);
        command.envs(variables.iter().copied());
        command
    };
    let xterm = ("TERM", "xterm");
    let piped = |when, variables: &[_]| parts(&status(when, variables).output().unwrap()).1;
    let always = piped("always", &[("NO_COLOR", "1"), ("TERM", "dumb")]);
    assert!(always.contains("\x1b[32mfresh"), "{always:?}");
    for text in [
        piped("auto", &[xterm]),
        shown(status("never", &[xterm])),
        shown(status("auto", &[xterm, ("NO_COLOR", "1")])),
    ] {
        assert!(text.contains("fresh") && !text.contains('\x1b'), "{text:?}");
    }
    let auto = shown(status("auto", &[xterm]));
    assert!(auto.contains("\x1b[32mfresh"), "{auto:?}");
}

#[test]
fn watch_on_a_terminal_redraws_in_place_at_its_width() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    token(&daemon.ask(&["data"]));
    let mut command = daemon.helper(&["status", "--watch"]);
    command.env("TERM", "xterm");
    let (screen, mut child) = on_terminal(&mut command);
    let mut lines = BufReader::new(screen).lines().map(Result::unwrap);
    let first: Vec<String> = lines.by_ref().take(6).collect();
    // Up to the first of six lines, and over it.
    let again = lines.next().unwrap();
    assert!(
        again.contains("\x1b[6A\rdomo-tokend"),
        "{again:?} {first:?}"
    );
    for line in first {
        let visible = line.replace("\x1b[K", "").replace("\x1b[0m", "");
        let visible = visible.replace("\x1b[32m", "").replace("\x1b[1m", "");
        assert!(visible.trim_end().chars().count() <= 40, "{line:?}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn lines(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

#[test]
fn watch_on_a_pipe_prints_only_changes() {
    let (sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    token(&daemon.ask(&["data"]));
    let mut machine = daemon
        .helper(&["status", "--watch", "--json"])
        .spawn()
        .unwrap();
    let mut person = daemon.helper(&["status", "--watch"]).spawn().unwrap();
    let mut states = lines(&mut machine).map(|line| {
        let state: Value = serde_json::from_str(&line.unwrap()).unwrap();
        state
    });
    let mut tables = lines(&mut person).map(Result::unwrap);
    assert_eq!(states.next().unwrap()["tokens"][0]["requests"], 1);
    let first: Vec<String> = tables.by_ref().take(6).collect();
    assert!(first.concat().contains("fresh"), "{first:?}");
    sandbox.always(Fault::status(401));
    daemon.restart("-KILL");
    // The next line of each shows a change, whatever happened in between.
    let refused = states.find(|state| state["tokens"][0]["state"] == "denied");
    assert!(refused.is_some());
    let more = tables.find(|line| line.contains(" rejected "));
    assert!(more.is_some());
    for mut child in [machine, person] {
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.lines().count() <= 1,
            "one word of an outage: {stderr}"
        );
    }
}

fn greeting() -> Vec<u8> {
    let greeting = Greeting::new(VERSION, boot_now());
    greeting.encode(&mut [0; GREETING]).to_vec()
}

/// A server that accepts one connection, reads the start of a request, and answers with these bytes.
fn broker_answering_with(socket: &Path, bytes: Vec<u8>) -> thread::JoinHandle<Vec<u8>> {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; HELLO + 5];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(&bytes).unwrap();
        // Closing before everything is read would discard the answer.
        let _ = stream.read_to_end(&mut Vec::new());
        request.split_off(HELLO)
    })
}

#[test]
fn metrics_in_several_frames_are_printed_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("broker.sock");
    let pieces = ["# TYPE x gauge\nx{scope=\"data\"}", " 1\n", "# EOF\n"];
    let answers = pieces.map(|piece| Response::Metrics(piece.to_owned()));
    let frames = answers.iter().chain([&Response::End]).map(encode);
    let frames = frames.flat_map(|frame| frame.unwrap().to_vec());
    let request = broker_answering_with(&socket, greeting().into_iter().chain(frames).collect());
    let output = common::helper(&socket, &["status", "--metrics"]).output();
    let (code, stdout, stderr) = parts(&output.unwrap());
    assert_eq!((code, stdout), (Some(0), pieces.concat()), "{stderr}");
    assert_eq!(
        request.join().unwrap(),
        [1, 0, 0, 0, 4],
        "a metrics request"
    );
}

#[test]
fn unexpected_server_responses_map_to_exit_codes() {
    let refusal = |kind| {
        let refusal = Refusal {
            kind,
            cause: "because".to_owned(),
            next_attempt: None,
        };
        [
            &greeting()[..],
            &encode(&Response::Refusal(refusal)).unwrap(),
        ]
        .concat()
    };
    for (bytes, expected) in [
        (hello(VERSION + 1).to_vec(), 76),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), 70),
        (
            [&greeting()[..], &encode(&Response::End).unwrap()].concat(),
            70,
        ),
        (refusal(RefusalKind::NotPermitted), 77),
        (refusal(RefusalKind::UnknownClient), 78),
        (refusal(RefusalKind::UnknownScope), 78),
        (refusal(RefusalKind::MinTtlTooLong), 78),
        (refusal(RefusalKind::Denied), 78),
        (refusal(RefusalKind::Gone), 78),
        (refusal(RefusalKind::Unavailable), 75),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("broker.sock");
        let broker = broker_answering_with(&socket, bytes);
        let output = common::helper(&socket, &["data"]).output().unwrap();
        let (code, stdout, stderr) = parts(&output);
        assert_eq!((code, stdout.as_str()), (Some(expected), ""), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        broker.join().unwrap();
    }
}
