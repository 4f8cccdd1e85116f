//! Three users: one in the group, one that may have one scope set, and one without access. They exist in a mount
//! namespace with its own user database.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::common;
use crate::common::callers::is_root;
use crate::common::process::{send_signal, wrapped};
use crate::common::{Daemon, HOUR, chmod, config_text, parts, print_skip, sandbox, token};

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\n\
                      ann:x:4301:4301::/:/bin/sh\n\
                      report:x:4302:4302::/:/bin/sh\n\
                      eve:x:4303:4303::/:/bin/sh\n";

/// Ann is one of the analysts, which is not her primary group.
const GROUP: &str = "root:x:0:\nann:x:4301:\nreport:x:4302:\neve:x:4303:\nanalysts:x:4310:ann\n";

const RULES: &str = "[clients.acme.access]\n\
                     data = { users = [\"report\"], groups = [\"analysts\"] }\n\
                     \"data user\" = { groups = [\"analysts\"] }\n";

/// A command that runs another one with these users.
fn with_users(folder: &Path, command: &Command) -> Command {
    let script = "mount --bind \"$0/passwd\" /etc/passwd && mount --bind \"$0/group\" /etc/group && \
                  exec \"$@\"";
    let folder = folder.to_str().unwrap();
    wrapped(&["unshare", "-m", "sh", "-c", script, folder], command)
}

/// Runs the helper as one of these users, with all of its groups.
fn ask_as(daemon: &Daemon, user: &str, arguments: &[&str]) -> Output {
    let setpriv = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"];
    let command = wrapped(&setpriv, &daemon.helper(arguments));
    with_users(daemon.folder(), &command).output().unwrap()
}

fn daemon_among_users(sandbox: &domo_sandbox::Sandbox, broker: &str) -> Option<Daemon> {
    if !is_root() {
        return None;
    }
    let config = config_text(sandbox, "[\"data\", \"data user\"]");
    let folder = common::folder(&format!("[broker]\n{broker}{config}{RULES}"));
    chmod(folder.path(), 0o755);
    fs::write(folder.path().join("passwd"), PASSWD).unwrap();
    fs::write(folder.path().join("group"), GROUP).unwrap();
    let try_it = with_users(folder.path(), &Command::new("true"))
        .output()
        .unwrap();
    if !try_it.status.success() {
        print_skip("no mount namespace can be made here");
        return None;
    }
    let command = with_users(folder.path(), &Daemon::command(folder.path()));
    Some(Daemon::start_as(command, folder))
}

/// A trace of what the daemon writes.
struct Trace(Child);

impl Trace {
    fn of(daemon: &Daemon) -> Option<Self> {
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-s",
            "100000",
            "-e",
            "trace=write,writev,sendto,sendmsg",
        ]);
        command.arg("-o").arg(daemon.folder().join("trace"));
        command.args(["-p", &daemon.pid().to_string()]);
        let Ok(mut child) = command.stderr(Stdio::piped()).spawn() else {
            print_skip("no strace here");
            return None;
        };
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let attached = lines.any(|line| line.unwrap().contains("attached"));
        if !attached {
            print_skip("strace may not trace here");
            return None;
        }
        Some(Self(child))
    }

    fn end(mut self, daemon: &Daemon) -> String {
        send_signal(self.0.id(), "-INT");
        self.0.wait().unwrap();
        let trace = daemon.folder().join("trace");
        let written = fs::read_to_string(&trace).unwrap();
        fs::remove_file(trace).unwrap();
        written
    }
}

#[test]
fn three_users_receive_their_own_tokens_and_no_byte_of_others() {
    let sandbox = sandbox(HOUR);
    let Some(daemon) = daemon_among_users(&sandbox, "socket_mode = \"0666\"\n") else {
        return;
    };
    let code = |user, arguments: &[&str]| {
        let (code, stdout, stderr) = parts(&ask_as(&daemon, user, arguments));
        assert!(code == Some(0) || stdout.is_empty(), "{stdout}");
        assert!(code == Some(0) || stderr.contains(user), "{stderr}");
        code
    };
    let data = token(&ask_as(&daemon, "ann", &["data"]));
    let both = token(&ask_as(&daemon, "ann", &["data", "user"]));
    assert_eq!(token(&ask_as(&daemon, "report", &["data"])), data);

    let Some(trace) = Trace::of(&daemon) else {
        return;
    };
    assert_eq!(code("report", &["data", "user"]), Some(77));
    for arguments in [
        &["data"][..],
        &["data", "user"],
        &["watch", "data"],
        &["exec", "data", "--", "true"],
    ] {
        assert_eq!(code("eve", arguments), Some(77), "{arguments:?}");
    }
    let (_, status, _) = parts(&ask_as(&daemon, "eve", &["status", "--json"]));
    assert!(!status.contains("acme"), "{status}");
    let written = trace.end(&daemon);
    assert!(written.contains("may not have "), "{written}");
    for token in [&data, &both] {
        // Not even a part of it.
        let piece = token.get(200..240).unwrap();
        assert!(
            !written.contains(piece) && !written.contains("eyJ"),
            "{written}"
        );
    }

    let trace = Trace::of(&daemon).unwrap();
    token(&ask_as(&daemon, "report", &["data"]));
    let written = trace.end(&daemon);
    assert!(
        written.contains(&data),
        "a token that is written is seen: {written}"
    );
}

#[test]
fn socket_group_admits_members_with_any_primary_group() {
    let sandbox = sandbox(HOUR);
    let broker = "socket_mode = \"0660\"\nsocket_group = \"analysts\"\n";
    let Some(daemon) = daemon_among_users(&sandbox, broker) else {
        return;
    };
    token(&ask_as(&daemon, "ann", &["data"]));
    let (code, _, stderr) = parts(&ask_as(&daemon, "report", &["data"]));
    assert_eq!(code, Some(77), "{stderr}");
    assert!(stderr.contains("group analysts (4310)"), "{stderr}");
}
