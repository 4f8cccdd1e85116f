//! Rules by systemd unit: they apply to the process that connected, as long as it runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use domo_sandbox::Sandbox;

use crate::common::callers::{
    USER_A, USER_B, daemon_as, is_root, open_daemon, open_folder, token_request,
};
use crate::common::namespaces::{Container, can_create_containers};
use crate::common::process::wrapped;
use crate::common::{Daemon, HOUR, failure, kernel, parts, print_skip, sandbox, token};

/// A cgroup in systemd's hierarchy that looks like that of a unit with this name.
struct Unit {
    folder: PathBuf,
    name: String,
}

impl Unit {
    /// `None` where no cgroup can be made.
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
        let created = folder.filter(|folder| fs::create_dir(folder).is_ok());
        if created.is_none() {
            print_skip("no cgroup can be made here");
        }
        created.map(|folder| Self { folder, name })
    }

    /// Config lines that grant the scope set `data` to processes of this unit.
    fn rule(&self) -> String {
        format!(
            "[clients.acme.access]\ndata = {{ units = [\"{}\"] }}\n",
            self.name
        )
    }

    /// A daemon whose only rule is that of this unit.
    fn daemon(&self, sandbox: &Sandbox) -> Daemon {
        open_daemon(sandbox, "[\"data\"]", "", &self.rule())
    }

    /// A command that runs this program in the unit.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let join = "echo $$ > \"$0\"/cgroup.procs && exec \"$@\"";
        command.arg("-c").arg(join).arg(&self.folder).arg(program);
        command.args(arguments);
        command
    }

    /// Runs the helper in the unit.
    fn helper(&self, daemon: &Daemon, arguments: &[&str]) -> Output {
        let socket = daemon.socket();
        let arguments = [&["--socket", socket.to_str().unwrap()], arguments].concat();
        let mut helper = self.command(env!("CARGO_BIN_EXE_domo-token"), &arguments);
        helper.output().unwrap()
    }

    /// Runs a script in the unit and returns its output. The script has the socket's path as `path`, a
    /// complete request as `request`, and `answer`, which prints what the daemon answered.
    fn python(&self, daemon: &Daemon, script: &str) -> String {
        let preamble = format!(
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
            .command("python3", &["-c", &(preamble + script)])
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
    let Some(unit) = Unit::new("grants") else {
        return;
    };
    let sandbox = sandbox(HOUR);
    let daemon = unit.daemon(&sandbox);
    failure(&daemon.ask(&["data"]), 77);
    token(&unit.helper(&daemon, &["data"]));
    let (_, explanation, _) = parts(&unit.helper(&daemon, &["--explain", "data"]));
    assert!(
        explanation.contains(&format!("unit {}", unit.name)),
        "{explanation}"
    );
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
    for owner in [USER_A, USER_B] {
        let folder = open_folder(&sandbox, "[\"data\"]", "", &unit.rule());
        let daemon = daemon_as(owner, folder);
        let socket = daemon.socket();
        let user = ["--reuid", "4242", "--regid", "4242", "--clear-groups"];
        let helper = env!("CARGO_BIN_EXE_domo-token");
        let ask = [helper, "--socket", socket.to_str().unwrap(), "data"];
        let output = unit
            .command("setpriv", &[&user[..], &ask].concat())
            .output();
        token(&output.unwrap());
    }
}

/// Lines after which the script continues in a child, once its first process has ended.
const CONTINUE_IN_CHILD: &str = "first=os.getpid()\n\
                                 if os.fork(): os._exit(0)\n\
                                 while os.getppid()==first: pass\n";

/// A script that connects and sends its request from a child.
fn passed_to_child() -> String {
    format!("s.connect(path)\n{CONTINUE_IN_CHILD}s.send(request); answer(s)")
}

#[test]
fn connection_of_an_ended_process_or_passed_to_another_has_no_unit() {
    let Some(unit) = Unit::new("outlives") else {
        return;
    };
    let sandbox = sandbox(HOUR);
    let daemon = unit.daemon(&sandbox);
    assert_eq!(
        unit.python(&daemon, "s.connect(path); s.send(request); answer(s)"),
        "GRANTED"
    );
    assert_eq!(unit.python(&daemon, &passed_to_child()), "REFUSED");
    // A request granted before the process ended does not affect the next one.
    let later = format!(
        "s.connect(path); s.send(request); answer(s)\n\
         {CONTINUE_IN_CHILD}s.send(request[4:]); answer(s)"
    );
    assert_eq!(unit.python(&daemon, &later), "GRANTED\nREFUSED");
    // The child that connected has ended, but is not reaped yet.
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
    let daemon = unit.daemon(&sandbox);
    let changed = |before: &str, after: &str| {
        let script = format!("{before}; s.connect(path); {after}; s.send(request); answer(s)");
        unit.python(&daemon, &script)
    };
    let [other, root] = [USER_A, 0].map(|user| format!("os.seteuid({user})"));
    assert_eq!(changed(&other, "pass"), "GRANTED");
    assert_eq!(changed(&other, &root), "REFUSED");
    assert_eq!(changed("pass", &other), "REFUSED");
    assert_eq!(changed("pass", &format!("os.setegid({USER_A})")), "REFUSED");
}

/// In a PID namespace: a process connects and ends, a process of the unit gets its pid, and then a
/// request is sent over the connection. Counts how often the pid was the same, and the answers.
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

# The victims' parent is in the unit, and forks a victim for each byte that it reads.
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
    seen["refused"] += b"may not have" in answer or b"cannot yet identify the calling process" in answer
    s.close()
    os.write(order[1], b"k")
    os.read(ordered[0], 4)

# A process of the unit is granted, so that the rule can match at all.
if not os.fork():
    open(unit + "/cgroup.procs", "w").write(str(os.getpid()))
    while True:
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        s.send(request)
        answer = s.recv(65536)
        s.close()
        if b"cannot yet identify the calling process" not in answer:
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
    let mut command = wrapped(&kernel::WITHOUT_PEER_PIDFD, &Daemon::command(folder.path()));
    command.stdout(Stdio::null());
    let daemon = Daemon::start_as(command, folder);
    for _ in 0..5 {
        token(&unit.helper(&daemon, &["data"]));
    }
    assert_eq!(daemon.ask(&["data"]).status.code(), Some(77));
    assert_eq!(unit.python(&daemon, &passed_to_child()), "REFUSED");
}

#[test]
fn caller_of_another_pid_namespace_has_a_user_but_no_unit() {
    if !can_create_containers() {
        return;
    }
    let Some(unit) = Unit::new("namespace") else {
        return;
    };
    let sandbox = sandbox(HOUR);
    let rules = unit.rule() + "user = { users = [0] }\n";
    let folder = open_folder(&sandbox, "[\"data\", \"user\"]", "", &rules);
    // The daemon cannot see the processes outside its namespace.
    let command = Container::Pid.command(0, &Daemon::command(folder.path()));
    let daemon = Daemon::start_as(command, folder);
    let denied = unit.helper(&daemon, &["data"]);
    assert_eq!(denied.status.code(), Some(77));
    token(&unit.helper(&daemon, &["user"]));
    let (_, explanation, _) = parts(&unit.helper(&daemon, &["--explain", "user"]));
    assert!(
        explanation.contains("peer: uid 0 (root)\n"),
        "{explanation}"
    );
}

/// Checks that processes of the unit that got the pid of an ended caller are never granted its rule.
fn assert_reused_pids_have_no_unit(name: &str, tries: u64, kernel: &[&str]) {
    if !is_root() {
        return;
    }
    let Some(unit) = Unit::new(name) else {
        return;
    };
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
    let (_, stdout, stderr) = parts(&command.output().unwrap());
    if stderr.contains("unshare") {
        print_skip("no PID namespace can be made here");
        return;
    }
    assert!(stdout.starts_with('{'), "{stdout}{stderr}");
    let counts: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(counts["granted"], 0, "{counts}");
    assert_eq!(counts["refused"], tries, "{counts}");
    // The daemon's threads take pids too, so that some tries get another one.
    assert!(counts["same"].as_u64() >= Some(tries * 9 / 10), "{counts}");
    assert_eq!(counts["unit"], 0, "a process of the unit is granted");
}

#[test]
fn ten_thousand_reused_pids_are_never_granted_a_unit() {
    assert_reused_pids_have_no_unit("reuse", 10_000, &[]);
}

#[test]
fn without_pidfds_only_processes_older_than_their_connection_have_a_unit() {
    assert_reused_pids_have_no_unit("old", 1000, &kernel::WITHOUT_PEER_PIDFD);
}
