//! `domo-sandbox run`: what ends it, what its terminal does, and that nothing is left.

#![cfg(test)]
#![cfg(unix)]

mod common;

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use common::run::{BROKER_PID, PROGRAM, Place, Running, parts, path, runs, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn signals_are_forwarded_and_the_command_decides() {
    let place = Place::new();
    for (signal, name) in [
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGQUIT, "QUIT"),
    ] {
        let script =
            format!("trap 'echo {name}; exit 5' {name}; echo ready; while :; do sleep 0.05; done");
        let mut running = place.start(&[], &script);
        assert_eq!(running.line(), "ready");
        running.send(signal);
        assert_eq!(running.line(), name);
        assert_eq!(running.end(), (Some(5), String::new()));
        place.assert_empty();
    }
    let mut running = place.start(&[], "echo ready; exec sleep 60");
    assert_eq!(running.line(), "ready");
    running.send(Signal::SIGTERM);
    assert_eq!(running.end(), (Some(143), String::new()));
    place.assert_empty();
}

#[test]
fn signal_before_the_command_starts_ends_the_run() {
    let place = Place::new();
    let mut running = place.start(&["--delay", "1h"], "echo started");
    until(|| place.leftovers().len() == 1);
    running.send(Signal::SIGINT);
    assert_eq!(running.line(), "");
    assert_eq!(running.end(), (Some(130), String::new()));
    place.assert_empty();
}

#[test]
fn ignored_signal_stays_ignored() {
    let place = Place::new();
    // As under nohup(1).
    let inner = "kill -HUP $PPID $$; echo survived";
    let mut command = place.run(&[], &["sh", "-c", inner]);
    let arguments: Vec<OsString> = command.get_args().map(OsString::from).collect();
    command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", PROGRAM]);
    command.args(arguments).env("TMPDIR", place.0.path());
    let (code, stdout, _) = parts(command.output().unwrap());
    assert_eq!((code, &*stdout), (Some(0), "survived\n"));
    place.assert_empty();
}

#[test]
fn sigkill_leaves_no_broker_and_no_files() {
    let place = Place::new();
    let script = format!("{BROKER_PID}; echo $$; exec sleep 60");
    let mut running = place.start(&[], &script);
    let broker: i32 = running.line().parse().unwrap();
    let command: i32 = running.line().parse().unwrap();
    assert!(runs(broker));
    running.send(Signal::SIGKILL);
    assert_eq!(running.child.wait().unwrap().code(), None);
    until(|| !runs(broker) && place.leftovers().is_empty());
    // The command is not part of what is stopped.
    kill(Pid::from_raw(command), Signal::SIGKILL).unwrap();
}

#[test]
fn surviving_children_of_the_command_do_not_hold_the_run() {
    let place = Place::new();
    let script = format!("{BROKER_PID}; sleep 60 & echo $!; exit 3");
    let mut running = place.start(&[], &script);
    let broker: i32 = running.line().parse().unwrap();
    let survivor: i32 = running.line().parse().unwrap();
    assert_eq!(running.child.wait().unwrap().code(), Some(3));
    assert!(!runs(broker) && runs(survivor));
    place.assert_empty();
    kill(Pid::from_raw(survivor), Signal::SIGKILL).unwrap();
}

#[test]
fn broker_that_ends_is_reported_and_the_command_continues() {
    let place = Place::new();
    // The run reaps the process that keeps the broker, and then reports it.
    let script = format!(
        "broker=$({BROKER_PID}); keeper=$(ps -o ppid= -p $broker | tr -d ' '); kill -KILL $broker; \
         while [ -e /proc/$keeper ]; do :; done; domo-token data; exit 4"
    );
    let (code, stdout, stderr) = place.script(&[], &script);
    assert_eq!((code, &*stdout), (Some(4), ""));
    let report = "domo-sandbox: the broker ended with 137; the command continues";
    assert!(stderr.contains(report), "{stderr}");
}

#[test]
fn runs_at_the_same_time_do_not_clash() {
    let place = Place::new();
    let runs: Vec<Child> = (0..4)
        .map(|_| {
            let words = ["sh", "-c", "read _; domo-token data"];
            place
                .run(&[], &words)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    // All of them run when the first one may end.
    until(|| place.leftovers().len() == 4);
    let mut tokens: Vec<String> = Vec::new();
    for mut run in runs {
        run.stdin.take().unwrap().write_all(b"\n").unwrap();
        let (code, stdout, stderr) = parts(run.wait_with_output().unwrap());
        assert_eq!((code, &*stderr), (Some(0), ""));
        assert!(!tokens.contains(&stdout));
        tokens.push(stdout);
    }
    place.assert_empty();
}

/// Runs under script(1), which gives the run a terminal. Returns what the terminal shows, once `line` was typed when
/// it showed `ready`.
fn on_terminal(place: &Place, script: &str, typed: &[u8]) -> Option<String> {
    // Without exec, the shell of script(1) would be interrupted too.
    let run = format!("exec {PROGRAM} run -- sh -c '{script}'");
    let mut command = Command::new("script");
    command.args(["-qec", &run, "/dev/null"]);
    command.env("TMPDIR", place.0.path()).env("PATH", path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        common::print_skip("script(1) is not installed");
        return None;
    };
    let mut shown = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("ready") {
        assert_ne!(shown.read_line(&mut text).unwrap(), 0, "{text}");
    }
    child.stdin.as_mut().unwrap().write_all(typed).unwrap();
    shown.read_to_string(&mut text).unwrap();
    let status = child.wait().unwrap();
    Some(format!("{text}code {}", status.code().unwrap()))
}

#[test]
fn command_reads_from_the_terminal() {
    let place = Place::new();
    let script = "test -t 0 && echo ready; read line; echo \"read $line\"";
    let Some(shown) = on_terminal(&place, script, b"a line\n") else {
        return;
    };
    assert!(shown.contains("read a line"), "{shown}");
    place.assert_empty();
}

/// Counts the interrupts until a SIGTERM that the run forwards: the run forwards signals in the order of their numbers.
const COUNT_INTERRUPTS: &str = "
import os, signal, sys
signals = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print('ready', flush=True)
count = 0
while signal.sigwaitinfo(signals).si_signo == signal.SIGINT:
    count += 1
    os.kill(os.getppid(), signal.SIGTERM)
print('interrupts:', count)
sys.exit(6)
";

#[test]
fn interrupt_key_reaches_the_command_once() {
    let place = Place::new();
    let program = tempfile::NamedTempFile::new().unwrap();
    fs::write(&program, COUNT_INTERRUPTS).unwrap();
    let script = format!("exec python3 {}", program.path().display());
    let Some(shown) = on_terminal(&place, &script, b"\x03") else {
        return;
    };
    assert!(shown.contains("interrupts: 1\r\n"), "{shown}");
    assert!(shown.ends_with("code 6"), "{shown}");
    place.assert_empty();
}

#[test]
fn as_pid_1_it_stops_and_reaps_orphans() {
    if !nix::unistd::geteuid().is_root() {
        common::print_skip("needs root");
        return;
    }
    let place = Place::new();
    // The orphan's parent ends before it; PID 1 reaps it, or its entry in /proc stays.
    let script = "(sleep 0.05 & echo $! >\"$DOMO_TOKEN_SOCKET.orphan\"); \
                  orphan=$(cat \"$DOMO_TOKEN_SOCKET.orphan\"); \
                  while [ -e /proc/$orphan ]; do sleep 0.01; done; \
                  trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let inner = place.run(&[], &["sh", "-c", script]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.env("TMPDIR", place.0.path()).env("PATH", path());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::new(command);
    assert_eq!(running.line(), "ready");
    // The child of unshare(1) is PID 1 of the namespace.
    let unshare = running.child.id();
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    let init: i32 = children.trim().parse().unwrap();
    kill(Pid::from_raw(init), Signal::SIGTERM).unwrap();
    assert_eq!(running.end().0, Some(9));
    place.assert_empty();
}
