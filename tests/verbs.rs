//! `domo-token exec` and `watch`, as scripts use them, and what the helper asks of the system.

#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]
#![expect(clippy::print_stdout, reason = "what is skipped says so")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::wait::until;
use common::{Daemon, HOUR, config_text, helper, parts, rests, sandbox, timed, token};
use domo_sandbox::Fault;
use domo_token_client::DEFAULT_TIMEOUT;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[test]
fn exec_gives_the_token_in_a_variable_and_the_commands_own_code() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let held = token(&daemon.ask(&["data"]));
    let script = "printf %s \"$DOMO_ACCESS_TOKEN\"; exit 7";
    let (code, stdout, _) = parts(&daemon.ask(&["exec", "data", "--", "/bin/sh", "-c", script]));
    assert_eq!((code, stdout), (Some(7), held.clone()));
    let named = [
        "exec",
        "--env",
        "T",
        "data",
        "--",
        "/bin/sh",
        "-c",
        "printf %s \"$T\"",
    ];
    assert_eq!(parts(&daemon.ask(&named)).1, held);
    let signal = ["exec", "data", "--", "/bin/sh", "-c", "kill -9 $$"];
    assert_eq!(
        daemon.ask(&signal).status.code(),
        None,
        "no process in between"
    );
}

#[test]
fn exec_gives_the_token_behind_a_descriptor_and_not_in_the_environment() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let held = token(&daemon.ask(&["data"]));
    let script = "cat <&3; env | grep -c DOMO_ACCESS_TOKEN; echo x 2>/dev/null >&3 || echo sealed";
    let arguments = ["exec", "--fd", "3", "--format", "header", "data", "--"];
    let (_, stdout, stderr) =
        parts(&daemon.ask(&[&arguments[..], &["/bin/sh", "-c", script]].concat()));
    assert_eq!(
        stdout,
        format!("Authorization: Bearer {held}\n0\nsealed\n"),
        "{stderr}"
    );
    let (_, stdout, _) = parts(&daemon.ask(&["exec", "--fd", "0", "data", "--", "/bin/cat"]));
    assert_eq!(stdout, format!("{held}\n"));
    let far = [
        "exec", "--fd", "9", "data", "--", "/bin/sh", "-c", "cat <&9",
    ];
    assert_eq!(parts(&daemon.ask(&far)).1, format!("{held}\n"));
}

#[test]
fn exec_runs_nothing_without_a_token_and_says_what_cannot_be_run() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let (code, stdout, _) = parts(&daemon.ask(&["exec", "nosuch", "--", "/bin/echo", "ran"]));
    assert_eq!((code, stdout.as_str()), (Some(78), ""));
    for (program, expected) in [("/nowhere/curl", 127), ("/etc/passwd", 126)] {
        let (code, stdout, stderr) = parts(&daemon.ask(&["exec", "data", "--", program]));
        assert_eq!((code, stdout.as_str()), (Some(expected), ""), "{stderr}");
        assert!(stderr.contains(program), "{stderr}");
    }
    let missing = daemon.folder().join("none.sock");
    let output = helper(&missing, &["exec", "data", "--", "/bin/echo", "ran"]).output();
    let (code, stdout, _) = parts(&output.unwrap());
    assert_eq!((code, stdout.as_str()), (Some(69), ""));
    let mut taken = Command::new("/bin/sh");
    taken.args([
        "-c",
        "exec \"$0\" exec --fd 3 data -- /bin/echo ran 3</dev/null",
    ]);
    taken.arg(daemon.helper(&[]).get_program());
    taken.env("DOMO_TOKEN_SOCKET", daemon.socket());
    let (code, stdout, stderr) = parts(&taken.output().unwrap());
    assert_eq!((code, stdout.as_str()), (Some(126), ""), "{stderr}");
    assert!(
        stderr.contains("descriptor 3: it is open already"),
        "{stderr}"
    );
}

#[test]
fn watch_prints_each_new_token_as_a_line() {
    let sandbox = sandbox(Duration::from_secs(3));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let mut watch = daemon.helper(&["watch", "data"]).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let generations: Vec<u64> = lines
        .take(3)
        .map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            assert!(line["access_token"].as_str().unwrap().len() > 600);
            line["generation"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(generations.len(), 3);
    assert!(
        generations
            .windows(2)
            .all(|pair| pair.first() != pair.last())
    );
    watch.kill().unwrap();
    watch.wait().unwrap();
}

/// Waits until the file holds something that `suits`.
fn wait_for(path: &Path, suits: impl Fn(Option<&str>) -> bool) {
    until(|| {
        let text = fs::read_to_string(path).ok();
        if suits(text.as_deref()) {
            Ok(())
        } else {
            Err(text)
        }
    });
}

#[test]
fn watch_keeps_a_file_that_is_whole_closed_and_gone_with_its_token() {
    let sandbox = sandbox(Duration::from_secs(3));
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let file = daemon.folder().join("token");
    let to = file.to_str().unwrap();
    let arguments = ["watch", "--to", to, "--format", "header", "data"];
    let mut watch = daemon.helper(&arguments).spawn().unwrap();
    let is_whole = |text: Option<&str>| {
        text.is_some_and(|text| text.starts_with("Authorization: Bearer ") && text.ends_with('\n'))
    };
    wait_for(&file, is_whole);
    let first = fs::read_to_string(&file).unwrap();
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    wait_for(&file, |text| is_whole(text) && text != Some(&*first));
    daemon.restart("-KILL");
    let second = fs::read_to_string(&file).unwrap_or_default();
    wait_for(&file, |text| is_whole(text) && text != Some(&*second));
    sandbox.always(Fault::status(503));
    wait_for(&file, |text| text.is_none());
    sandbox.recover();
    wait_for(&file, is_whole);
    let left: Vec<_> = fs::read_dir(daemon.folder()).unwrap().collect();
    let names = left.into_iter().map(|entry| entry.unwrap().file_name());
    assert_eq!(
        names
            .filter(|name| name.to_string_lossy().contains("token"))
            .count(),
        1
    );
    daemon.write("config.toml", &config_text(&sandbox, "[\"user\"]"));
    assert_eq!(watch.wait().unwrap().code(), Some(78), "the set is gone");
    assert!(!file.exists());
}

#[test]
fn exec_leaves_nothing_of_its_own_to_the_command() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let held = token(&daemon.ask(&["data"]));
    let script = "echo $PPID; tr '\\0' ' ' </proc/$$/cmdline; tr '\\0' ' ' </proc/$$/environ";
    let sh = ["--", "/bin/sh", "-c", script];
    let command = [&["exec", "--fd", "3", "data"][..], &sh].concat();
    let (_, stdout, stderr) = parts(&daemon.ask(&command));
    let (parent, rest) = stdout.split_once('\n').unwrap();
    assert_eq!(parent, std::process::id().to_string(), "{stderr}");
    assert!(!rest.contains(&held) && !rest.contains("DOMO_ACCESS_TOKEN"));
    let command = [&["exec", "data"][..], &sh].concat();
    let (_, stdout, _) = parts(&daemon.ask(&command));
    assert_eq!(stdout.matches(&held).count(), 1, "in its environment alone");
    let list = ["/bin/ls", "/proc/self/fd"];
    let usual = Command::new(list[0])
        .arg(list[1])
        .stdin(Stdio::null())
        .output();
    let usual = parts(&usual.unwrap()).1;
    let open = |place: &[&str]| parts(&daemon.ask(&[place, &["data", "--"], &list].concat())).1;
    assert_eq!(open(&["exec"]), usual);
    let more: Vec<String> = open(&["exec", "--fd", "77"])
        .lines()
        .filter(|line| !usual.lines().any(|known| known == *line))
        .map(str::to_owned)
        .collect();
    assert_eq!(more, ["77"]);
}

#[test]
fn watch_fails_as_get_does_without_a_first_token() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(503));
    let folder = common::folder(&config_text(&sandbox, "[\"data\"]"));
    let socket = folder.path().join("broker.sock");
    let file = folder.path().join("token");
    let to = ["watch", "--to", file.to_str().unwrap()];
    let watch = |arguments: &[&str]| helper(&socket, &[&to[..], arguments].concat());
    let missing = watch(&["data"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(69));
    let late = watch(&["--wait", "--timeout", "1", "data"]).output();
    assert_eq!(late.unwrap().status.code(), Some(69));
    let mut patient = watch(&["--wait", "--timeout", "60", "data"])
        .spawn()
        .unwrap();
    let daemon = Daemon::start_in(folder);
    let (code, _, stderr) = parts(&watch(&["--timeout", "1", "data"]).output().unwrap());
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("503"), "{stderr}");
    for (arguments, expected) in [
        (&["nosuch"][..], 78),
        (&["-c", "nobody", "data"], 78),
        (&["da\"ta"], 2),
    ] {
        let (code, _, stderr) = parts(&watch(arguments).output().unwrap());
        assert_eq!(code, Some(expected), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    sandbox.recover();
    wait_for(&file, |text| text.is_some_and(|text| text.len() > 600));
    let long = watch(&["--min-ttl", "2h", "--wait", "data"]).output();
    assert_eq!(long.unwrap().status.code(), Some(78));
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        token(&daemon.ask(&["data"])) + "\n"
    );
    patient.kill().unwrap();
    patient.wait().unwrap();
}

#[test]
fn watch_gives_out_no_token_with_less_life_than_asked_for_and_renews_in_time() {
    let sandbox = sandbox(Duration::from_secs(8));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let arguments = ["watch", "--min-ttl", "5", "data"];
    let mut watch = daemon.helper(&arguments).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for line in lines.take(4) {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let left = line["expires_in"].as_u64().unwrap();
        // Whole seconds, of which one may have begun.
        assert!((5..=8).contains(&(left + 1)), "{left}");
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    // By itself the broker renews after 5.6 s at least, but for the first token.
    let rests = rests(&sandbox.requests());
    let late = rests
        .iter()
        .skip(1)
        .any(|rest| *rest > Duration::from_secs(5));
    assert!(rests.len() >= 3 && !late, "{rests:?}");
}

#[test]
fn watch_takes_its_file_away_when_it_is_stopped_and_no_file_of_others() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let file = daemon.folder().join("token");
    let to = file.to_str().unwrap();
    let start = |mode| {
        let mut command = daemon.helper(&["watch", "--to", to, "--mode", mode, "data"]);
        let child = command.spawn().unwrap();
        wait_for(&file, |text| text.is_some_and(|text| text.len() > 600));
        child
    };
    for (signal, number) in [("-TERM", 15), ("-INT", 2), ("-HUP", 1)] {
        let mut watch = start("0640");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        kill(&watch, signal);
        assert_eq!(watch.wait().unwrap().signal(), Some(number));
        assert!(!file.exists());
    }
    let mut watch = start("0600");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "another's").unwrap();
    kill(&watch, "-TERM");
    watch.wait().unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "another's");
    let nowhere = daemon.folder().join("none/token");
    let nowhere = daemon.ask(&["watch", "--to", nowhere.to_str().unwrap(), "data"]);
    let (code, _, stderr) = parts(&nowhere);
    assert_eq!(code, Some(74));
    assert!(stderr.contains("make its directory first"), "{stderr}");
}

fn kill(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .arg(signal)
        .arg(child.id().to_string())
        .status();
    assert!(status.unwrap().success());
}

/// Runs a command under strace; `None`, and says so, where that can't be done.
fn traced(socket: &Path, calls: &str, arguments: &[&str]) -> Option<String> {
    let able = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    if !able.is_ok_and(|output| output.status.success()) {
        println!("no strace here: what the helper asks of the system is not seen");
        return None;
    }
    let trace = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("strace")
        .args(["-f", "-s", "4096", "-e", calls, "-o"])
        .arg(trace.path())
        .args(arguments)
        .env("DOMO_TOKEN_SOCKET", socket)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(fs::read_to_string(trace.path()).unwrap())
}

#[test]
fn two_hundred_calls_write_the_token_to_standard_output_alone_and_leave_nothing() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let held = token(&daemon.ask(&["data"]));
    let helper = env!("CARGO_BIN_EXE_domo-token");
    let script = format!("for i in $(seq 200); do {helper} data >/dev/null || exit; done");
    let calls = "trace=%network,%file,write,writev,pwrite64,sendfile,memfd_create,openat";
    let Some(trace) = traced(&daemon.socket(), calls, &["sh", "-c", &script]) else {
        return;
    };
    let of = |part: &str| trace.lines().filter(|line| line.contains(part)).count();
    let with_token: Vec<_> = trace.lines().filter(|line| line.contains(&held)).collect();
    assert_eq!(with_token.len(), 400, "one read and one write each");
    assert!(
        with_token
            .iter()
            .all(|line| line.contains(" write(1, ") || line.contains(" recvfrom("))
    );
    assert_eq!(
        (of(" socket("), of(" connect(")),
        (200, 200),
        "one connection each"
    );
    let made = |line: &&str| {
        ["O_CREAT", "memfd_create", "mkdir", "rename", "link("]
            .iter()
            .any(|call| line.contains(call))
    };
    // The shell's own redirections.
    let made: Vec<_> = trace
        .lines()
        .filter(made)
        .filter(|line| !line.contains("\"/dev/null\""))
        .collect();
    assert!(made.is_empty(), "{made:?}");
    assert!(!fs::read_dir(daemon.folder()).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        fs::read_to_string(path).is_ok_and(|text| text.contains(&held))
    }));
}

#[test]
fn a_kept_file_is_on_disk_before_it_is_seen() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    token(&daemon.ask(&["data"]));
    let file = daemon.folder().join("token");
    let helper = env!("CARGO_BIN_EXE_domo-token");
    // Ended by the set's end once the file is there.
    let script = format!(
        "{helper} watch --to {} data & until [ -s {0} ]; do :; done; kill $!; wait; true",
        file.display()
    );
    let calls = "trace=fsync,rename,openat";
    let Some(trace) = traced(&daemon.socket(), calls, &["sh", "-c", &script]) else {
        return;
    };
    let name = |line: &str| {
        line.split_whitespace()
            .nth(1)
            .unwrap_or("")
            .split('(')
            .next()
            .unwrap_or("")
            .to_owned()
    };
    let is_ours = |line: &&str| line.contains("fsync(") || line.contains("rename(");
    let order: Vec<String> = trace.lines().filter(is_ours).map(name).collect();
    assert_eq!(order[..3], ["fsync", "rename", "fsync"], "{trace}");
}

#[test]
fn wrong_sockets_are_69_in_one_line_that_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
    let long = "x".repeat(120);
    for name in ["none", "file", "file/x", "loop", ".", &long] {
        let socket = folder.path().join(name);
        for verb in ["get", "watch", "status"] {
            let words = if verb == "status" {
                vec![verb]
            } else {
                vec![verb, "data"]
            };
            let (code, stdout, stderr) = parts(&helper(&socket, &words).output().unwrap());
            assert_eq!((code, stdout.as_str()), (Some(69), ""), "{name}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert!(stderr.contains(socket.to_str().unwrap()), "{stderr}");
            assert!(
                stderr.contains("start it with") || stderr.contains("--socket"),
                "{stderr}"
            );
        }
    }
}

#[test]
fn whoever_reads_only_the_help_has_a_line_that_works() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let (code, help, _) = parts(&daemon.ask(&["--help"]));
    assert_eq!(code, Some(0));
    let lines: Vec<&str> = help.lines().collect();
    let at = |part| lines.iter().position(|line| line.contains(part)).unwrap();
    let exec = at("exec --fd 3");
    let exec = lines[exec..=exec + 1].join("\n");
    let piped = lines[at("| curl -fsS")];
    let path = Path::new(env!("CARGO_BIN_EXE_domo-token"))
        .parent()
        .unwrap();
    for line in [piped, &exec] {
        let line = line.replace("https://api.domo.com", &sandbox.url(""));
        let output = Command::new("sh")
            .args(["-c", &line])
            .env(
                "PATH",
                format!("{}:{}", path.display(), std::env::var("PATH").unwrap()),
            )
            .env("DOMO_TOKEN_SOCKET", daemon.socket())
            .output();
        let (code, stdout, stderr) = parts(&output.unwrap());
        assert_eq!(code, Some(0), "{line}: {stderr}");
        assert!(stdout.contains("Leonhard Euler Party"), "{line}: {stdout}");
    }
    let (code, stdout, stderr) = parts(&daemon.helper(&[]).output().unwrap());
    assert_eq!((code, stdout.as_str(), stderr), (Some(2), "", help));
}

#[test]
fn a_daemon_that_takes_no_connection_is_waited_for_no_longer_than_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _waits = UnixStream::connect(&path).unwrap();
    let asked = ["--timeout", "1", "data"];
    let (took, output) = timed(|| helper(&path, &asked).output().unwrap());
    let (code, stdout, stderr) = parts(&output);
    assert_eq!((code, stdout.as_str()), (Some(75), ""), "{stderr}");
    assert!(took < DEFAULT_TIMEOUT / 2, "{took:?}");
}

#[test]
fn signals_do_not_lengthen_the_wait_for_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.sock");
    // Which takes connections, and never answers.
    let _listener = UnixListener::bind(&path).unwrap();
    let mut asking = helper(&path, &["--timeout", "1", "data"]).spawn().unwrap();
    let process = Pid::from_child(&asking);
    let status = until(|| {
        for signal in [Signal::STOP, Signal::CONT] {
            kill_process(process, signal).unwrap();
        }
        asking.try_wait().unwrap().ok_or("it waits on")
    });
    assert_eq!(status.code(), Some(75));
}
