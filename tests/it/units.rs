//! Rules by systemd unit: they ask for the very process that connected, as it was, and alive.

#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]
#![expect(clippy::print_stdout, reason = "what is skipped says so")]

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::callers::{
    ACCOMPLICE, STRANGER, is_root, open_daemon, open_folder, token_request,
};
use crate::common::namespaces::{Container, can_be_made};
use crate::common::{Daemon, HOUR, kernel, parts, sandbox, token};

/// A cgroup of systemd's hierarchy, as if of a unit of that name; `None` where none can be made.
struct Unit {
    folder: PathBuf,
    name: String,
}

impl Unit {
    fn new(name: &str) -> Option<Self> {
        let hierarchies = [
            "/sys/fs/cgroup/systemd",
            "/sys/fs/cgroup/unified",
            "/sys/fs/cgroup",
        ];
        let mut found = hierarchies.map(Path::new).into_iter();
        let root = found.find(|path| path.join("cgroup.procs").exists());
        let name = format!("domo-test-{name}-{}.service", std::process::id());
        let folder = root.map(|root| root.join(&name));
        let made = folder.filter(|folder| fs::create_dir(folder).is_ok());
        if made.is_none() {
            println!("skipped: no cgroup can be made here");
        }
        made.map(|folder| Self { folder, name })
    }

    /// Lines of a config that give the set `data` to who runs in it.
    fn rule(&self) -> String {
        format!(
            "[clients.acme.access]\ndata = {{ units = [\"{}\"] }}\n",
            self.name
        )
    }

    /// A command that runs that program in it.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let join = "echo $$ > \"$0\"/cgroup.procs && exec \"$@\"";
        command.arg("-c").arg(join).arg(&self.folder).arg(program);
        command.args(arguments);
        command
    }

    /// What a script in it prints, which finds the socket's path and a whole request in `path` and
    /// `request`, and `answer` to tell what came back.
    fn python(&self, daemon: &Daemon, script: &str) -> String {
        let given = format!(
            "import os,socket,sys\n\
             path=\"{}\"\nrequest=bytes({:?})\n\
             def answer(s):\n\
             \ts.settimeout(20); d=s.recv(65536)\n\
             \tprint('REFUSED' if b'may not have' in d else 'GRANTED' if b'eyJ' in d else repr(d),flush=True)\n\
             s=socket.socket(socket.AF_UNIX)\n",
            daemon.socket().display(),
            token_request()
        );
        let output = self
            .command("python3", &["-c", &(given + script)])
            .output()
            .unwrap();
        let (_, stdout, stderr) = parts(&output);
        assert_eq!(stderr, "");
        stdout.trim().to_owned()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

#[test]
fn unit_rule_grants_processes_of_the_unit_only_and_explains_it() {
    let Some(unit) = Unit::new("says") else {
        return;
    };
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, "[\"data\"]", "", &unit.rule());
    let (code, stdout, stderr) = parts(&daemon.ask(&["data"]));
    assert_eq!((code, stdout.as_str()), (Some(77), ""), "{stderr}");
    let socket = daemon.socket();
    let socket = socket.to_str().unwrap();
    let helper = env!("CARGO_BIN_EXE_domo-token");
    let ask = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["--socket", socket]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        unit.command(helper, &arguments).output().unwrap()
    };
    token(&ask(&["data"]));
    let (_, why, _) = parts(&ask(&["--explain", "data"]));
    assert!(why.contains(&format!("unit {}", unit.name)), "{why}");
}

#[test]
fn hardened_helper_is_found_in_its_unit_by_a_daemon_of_any_user() {
    if !is_root() {
        return;
    }
    let Some(unit) = Unit::new("closed") else {
        return;
    };
    let sandbox = sandbox(HOUR);
    for owner in [STRANGER, ACCOMPLICE] {
        let folder = open_folder(&sandbox, "[\"data\"]", "", &unit.rule());
        for name in ["", "config.toml", "acme.secret"] {
            chown(folder.path().join(name), Some(owner), Some(owner)).unwrap();
        }
        let mut command = Daemon::command(folder.path());
        command.uid(owner).gid(owner).current_dir("/");
        let daemon = Daemon::start_as(command, folder);
        let socket = daemon.socket();
        let user = ["--reuid", "4242", "--regid", "4242", "--clear-groups"];
        let helper = env!("CARGO_BIN_EXE_domo-token");
        let ask = [helper, "--socket", socket.to_str().unwrap(), "data"];
        let asked = unit
            .command("setpriv", &[&user[..], &ask].concat())
            .output();
        token(&asked.unwrap());
    }
}

#[test]
fn connection_of_an_ended_process_or_passed_to_another_has_no_unit() {
    let Some(unit) = Unit::new("outlives") else {
        return;
    };
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, "[\"data\"]", "", &unit.rule());
    assert_eq!(
        unit.python(&daemon, "s.connect(path); s.send(request); answer(s)"),
        "GRANTED"
    );
    let forked = "s.connect(path)\n\
                  first=os.getpid()\n\
                  if os.fork(): os._exit(0)\n\
                  while os.getppid()==first: pass\n\
                  s.send(request); answer(s)";
    assert_eq!(unit.python(&daemon, forked), "REFUSED");
    // What it got while its process lived doesn't count for the next request.
    let later = "s.connect(path); s.send(request); answer(s)\n\
                 first=os.getpid()\n\
                 if os.fork(): os._exit(0)\n\
                 while os.getppid()==first: pass\n\
                 s.send(request[4:]); answer(s)";
    assert_eq!(unit.python(&daemon, later), "GRANTED\nREFUSED");
    // Connected by a child and passed up, which still waits to be reaped.
    let zombie = "child=os.fork()\n\
                  if not child: s.connect(path); os._exit(0)\n\
                  os.waitid(os.P_PID,child,os.WEXITED|os.WNOWAIT)\n\
                  s.send(request); answer(s)";
    assert_eq!(unit.python(&daemon, zombie), "REFUSED");
}

#[test]
fn process_that_changes_its_user_after_connecting_is_in_no_unit() {
    if !is_root() {
        return;
    }
    let Some(unit) = Unit::new("user") else {
        return;
    };
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, "[\"data\"]", "", &unit.rule());
    let changed = |before: &str, after: &str| {
        let script = format!("{before}; s.connect(path); {after}; s.send(request); answer(s)");
        unit.python(&daemon, &script)
    };
    let [other, root] = [STRANGER, 0].map(|user| format!("os.seteuid({user})"));
    assert_eq!(changed(&other, "pass"), "GRANTED");
    assert_eq!(changed(&other, &root), "REFUSED");
    assert_eq!(changed("pass", &other), "REFUSED");
    assert_eq!(
        changed("pass", &format!("os.setegid({STRANGER})")),
        "REFUSED"
    );
}

/// In a PID namespace of its own: a process connects and ends, one of the unit gets its number, and
/// the connection asks then. Counts how often the number was the same and what was answered.
const REUSE: &str = r#"
import collections, json, os, signal, socket, subprocess, sys
path, request, unit, tries = sys.argv[1], bytes(json.loads(sys.argv[2])), sys.argv[3], int(sys.argv[4])
daemon = subprocess.Popen(sys.argv[5:])
while True:
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect(path)
        break
    except OSError:
        s.close()

# The victims' parent lives in the unit, and makes one for each byte that it reads.
order, ordered = os.pipe(), os.pipe()
if not os.fork():
    open(unit + "/cgroup.procs", "w").write(str(os.getpid()))
    while os.read(order[0], 1):
        victim = os.fork()
        if not victim:
            signal.pause()
        os.write(ordered[1], victim.to_bytes(4, "little"))
        os.read(order[0], 1)
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        os.write(ordered[1], b"gone")
    os._exit(0)

seen = collections.Counter()
last = open("/proc/sys/kernel/ns_last_pid", "w")
for number in range(tries):
    s = socket.socket(socket.AF_UNIX)
    pid = os.fork()
    if not pid:
        s.connect(path)
        os._exit(0)
    os.waitpid(pid, 0)
    last.seek(0)
    last.write(str(pid - 1))
    last.flush()
    os.write(order[1], b"n")
    victim = int.from_bytes(os.read(ordered[0], 4), "little")
    seen["same"] += victim == pid
    s.send(request)
    s.settimeout(30)
    answer = s.recv(65536)
    seen["granted"] += b"eyJ" in answer
    seen["refused"] += b"may not have" in answer or b"which process is calling" in answer
    s.close()
    os.write(order[1], b"k")
    os.read(ordered[0], 4)

# That a process of the unit is let in shows that the rule could have been met.
if not os.fork():
    open(unit + "/cgroup.procs", "w").write(str(os.getpid()))
    while True:
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        s.send(request)
        answer = s.recv(65536)
        s.close()
        if b"which process is calling" not in answer:
            os._exit(0 if b"eyJ" in answer else 1)
os.close(order[1])
seen["unit"] = os.wait()[1]
daemon.kill()
print(json.dumps(seen))
"#;

#[test]
fn unit_rule_on_an_old_kernel_grants_a_script_of_the_unit_only() {
    let Some(unit) = Unit::new("script") else {
        return;
    };
    let sandbox = sandbox(HOUR);
    let folder = open_folder(&sandbox, "[\"data\"]", "", &unit.rule());
    let plain = Daemon::command(folder.path());
    let [python, old @ ..] = kernel::OLD;
    let mut command = Command::new(python);
    command.args(old).arg(plain.get_program());
    command.args(plain.get_args());
    let daemon = Daemon::start_as(command, folder);
    let socket = daemon.socket();
    let arguments = ["--socket", socket.to_str().unwrap(), "data"];
    let helper = env!("CARGO_BIN_EXE_domo-token");
    for _ in 0..5 {
        token(&unit.command(helper, &arguments).output().unwrap());
    }
    assert_eq!(daemon.ask(&["data"]).status.code(), Some(77));
    let forked = "s.connect(path)\n\
                  first=os.getpid()\n\
                  if os.fork(): os._exit(0)\n\
                  while os.getppid()==first: pass\n\
                  s.send(request); answer(s)";
    assert_eq!(unit.python(&daemon, forked), "REFUSED");
}

#[test]
fn caller_of_another_pid_namespace_has_a_user_but_no_unit() {
    if !can_be_made() {
        return;
    }
    let Some(unit) = Unit::new("namespace") else {
        return;
    };
    let sandbox = sandbox(HOUR);
    let rules = unit.rule() + "user = { users = [0] }\n";
    let folder = open_folder(&sandbox, "[\"data\", \"user\"]", "", &rules);
    // Neither it nor a daemon that it starts can see the processes outside.
    let command = Container::Pid.command(0, &Daemon::command(folder.path()));
    let daemon = Daemon::start_as(command, folder);
    let socket = daemon.socket();
    let ask = |arguments: &[&str]| {
        let named = [&["--socket", socket.to_str().unwrap()], arguments].concat();
        let helper = unit
            .command(env!("CARGO_BIN_EXE_domo-token"), &named)
            .output();
        helper.unwrap()
    };
    assert_eq!(ask(&["data"]).status.code(), Some(77));
    token(&ask(&["user"]));
    let (_, seen, _) = parts(&ask(&["--explain", "user"]));
    assert!(seen.contains("seen as: uid 0 (root)\n"), "{seen}");
}

/// What came of that many tries; `None` where there can be no PID namespace.
fn reuse(unit: &Unit, tries: usize, kernel: &[&str]) -> Option<serde_json::Value> {
    let sandbox = sandbox(HOUR);
    let folder = open_folder(&sandbox, "[\"data\"]", "", &unit.rule());
    let daemon = Daemon::command_of_config(folder.path());
    let mut command = Command::new("unshare");
    command.args(["-p", "-f", "--mount-proc", "python3", "-c", REUSE]);
    command.arg(folder.path().join("broker.sock"));
    command.arg(format!("{:?}", token_request()));
    command.arg(&unit.folder).arg(tries.to_string());
    command.args(kernel);
    command.arg(daemon.get_program()).args(daemon.get_args());
    let (_, stdout, stderr) = parts(&command.output().ok()?);
    if stderr.contains("unshare") {
        println!("skipped: no PID namespace can be made here");
        return None;
    }
    assert!(stdout.starts_with('{'), "{stdout}{stderr}");
    Some(serde_json::from_str(&stdout).unwrap())
}

/// The daemon's threads take numbers too, so that a try now and then gets another one.
fn assert_none_got_in(seen: &serde_json::Value, tries: u64) {
    assert_eq!(seen["granted"], 0, "{seen}");
    assert_eq!(seen["refused"], tries, "{seen}");
    assert!(seen["same"].as_u64() >= Some(tries * 9 / 10), "{seen}");
    assert_eq!(seen["unit"], 0, "a process of the unit is let in");
}

#[test]
fn ten_thousand_reused_pids_are_never_granted_a_unit() {
    if !is_root() {
        return;
    }
    let Some(unit) = Unit::new("reuse") else {
        return;
    };
    let Some(seen) = reuse(&unit, 10_000, &[]) else {
        return;
    };
    assert_none_got_in(&seen, 10_000);
}

#[test]
fn without_pidfds_only_processes_older_than_their_connection_have_a_unit() {
    if !is_root() {
        return;
    }
    let Some(unit) = Unit::new("old") else {
        return;
    };
    let Some(seen) = reuse(&unit, 1000, &kernel::OLD) else {
        return;
    };
    assert_none_got_in(&seen, 1000);
}
