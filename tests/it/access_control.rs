//! Access rules: callers of other users, groups and units, and hostile callers.

use std::fs;
use std::io::Read;
use std::process::Command;
use std::time::Duration;

use crate::common;
use crate::common::callers::{
    DAEMON, GAMES_GROUP, USER_A, ask_as, is_root, open_daemon, python_as,
};
use crate::common::wait::until;
use crate::common::{Daemon, HOUR, chmod, config_text, failure, folder, parts, sandbox, token};
use domo_token_client::ErrorKind;

#[test]
fn users_receive_exactly_the_scope_sets_granted_by_rules() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let rules = "[clients.acme.access]\n\
                 data = { users = [\"daemon\"], groups = [\"games\"] }\n\
                 \"user, data\" = { groups = [60] }\n";
    let tokens = "[\"data\", \"data user\", \"audit\"]";
    let daemon = open_daemon(&sandbox, tokens, "", rules);
    let code = |uid, gid, scope: &str| ask_as(&daemon, uid, gid, &[scope]).status.code();
    assert_eq!(code(DAEMON, DAEMON, "data"), Some(0), "by name");
    assert_eq!(code(USER_A, GAMES_GROUP, "data"), Some(0), "by group");
    assert_eq!(code(USER_A, GAMES_GROUP, "data user"), Some(0));
    assert_eq!(code(DAEMON, DAEMON, "data user"), Some(77));
    assert_eq!(code(USER_A, USER_A, "data"), Some(77));
    assert_eq!(code(0, 0, "data"), Some(77), "root too");
    assert_eq!(code(0, 0, "nosuch"), Some(78), "root sees what there is");
    assert_eq!(
        code(65534, GAMES_GROUP, "data"),
        Some(77),
        "the overflow uid is anyone"
    );

    // Configured or not, and for each client: the same message except for the names in the request.
    let words = |arguments: &[&str]| {
        let stderr = failure(&ask_as(&daemon, USER_A, USER_A, arguments), 77);
        let pid = stderr
            .split("pid ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        stderr.replace(&pid, "PID")
    };
    let unnamed = words(&["data"]);
    assert_eq!(unnamed, words(&["nosuch"]).replace("nosuch", "data"));
    assert!(!unnamed.contains("acme"), "{unnamed}");
    let known = words(&["-c", "acme", "data"]);
    assert_eq!(
        known,
        words(&["-c", "nobody", "data"]).replace("nobody", "acme")
    );
    assert!(known.contains("uid 4242"), "{known}");

    let status = |uid, gid| parts(&ask_as(&daemon, uid, gid, &["status", "--json"])).1;
    assert!(status(0, 0).contains("audit") && status(0, 0).contains("data user"));
    assert!(
        !status(DAEMON, DAEMON).contains("data user") && status(DAEMON, DAEMON).contains("data")
    );
    assert!(!status(USER_A, USER_A).contains("acme"));
}

#[test]
fn denied_caller_receives_its_identity_and_the_log_has_the_rule() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let rules = "[clients.acme.access]\n\
                 data = { users = [\"daemon\"], groups = [\"games\"] }\n\
                 [audit]\nfile = \"audit.jsonl\"\n";
    let mut daemon = open_daemon(&sandbox, "[\"data\"]", "", rules);
    token(&ask_as(&daemon, DAEMON, DAEMON, &["data"]));
    assert_eq!(
        ask_as(&daemon, USER_A, USER_A, &["data"]).status.code(),
        Some(77)
    );
    let (_, reply, _) = parts(&ask_as(&daemon, DAEMON, DAEMON, &["--explain", "data"]));
    assert!(
        reply.contains("uid 1 (daemon)") && reply.contains("user daemon"),
        "{reply}"
    );
    let rule = "the rule for \"data\" grants it only to user daemon, group games";
    let (_, reply, _) = parts(&ask_as(&daemon, 0, 0, &["--explain", "data"]));
    assert!(reply.contains(rule), "root sees the rule: {reply}");
    let (_, reply, _) = parts(&ask_as(&daemon, USER_A, USER_A, &["--explain", "data"]));
    assert!(!reply.contains("games"), "others don't: {reply}");
    let explain = ["--explain", "--json", "data"];
    let explained = |user| {
        let (code, text, _) = parts(&ask_as(&daemon, user, user, &explain));
        (
            code,
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
        )
    };
    let (code, granted) = explained(DAEMON);
    let peer = granted["peer"].as_str().unwrap();
    assert!(peer.starts_with("uid 1 (daemon)"), "{peer}");
    let expected = serde_json::json!({
        "broker": daemon.socket(), "peer": peer, "seen_as": peer, "client": "acme", "scope": "data", "allowed": true,
        "decision": "allowed", "rule": granted["rule"],
    });
    assert_eq!((code, &granted), (Some(0), &expected));
    let (code, denied) = explained(USER_A);
    assert_eq!(code, Some(77));
    let shown = ["allowed", "client", "kind"].map(|key| denied[key].to_string());
    assert_eq!(shown, ["false", "null", "\"not_permitted\""]);
    assert!(!denied.to_string().contains("games"), "{denied}");
    let line = daemon.wait_for_log("denied: uid 4242");
    // As logged, where quotes within a message are escaped.
    let logged = rule.replace('"', "\\\"");
    assert!(
        line.contains("may not have client \\\"acme\\\"") && line.contains(&logged),
        "{line}"
    );
    let audit = daemon.folder().join("audit.jsonl");
    let record = until(|| {
        let text = fs::read_to_string(&audit).unwrap_or_default();
        let refused = text.lines().find(|line| line.contains("not_permitted"));
        refused.map(str::to_owned).ok_or(text)
    });
    for part in ["\"client\":\"acme\"", "\"uid\":4242,", "\"scope\":\"data\""] {
        assert!(record.contains(part), "{record}");
    }
}

#[test]
fn config_error_is_shown_to_callers_that_may_see_everything() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let rules = "[clients.acme.access]\ndata = { users = [1] }\n";
    let mut daemon = open_daemon(&sandbox, "[\"data\"]", "", rules);
    daemon.write("config.toml", "[clients.acme");
    daemon.wait_for_log("keeping the previous one");
    let status = |user| parts(&ask_as(&daemon, user, user, &["status", "--json"])).1;
    assert!(status(0).contains("config.toml:1:"));
    let status_of_other = status(USER_A);
    assert!(
        status_of_other.contains("the config file is invalid")
            && !status_of_other.contains("config.toml:1:"),
        "{status_of_other}"
    );
}

#[test]
fn socket_group_grants_access_to_its_members_only() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let config = format!(
        "[broker]\nsocket_mode = \"0660\"\nsocket_group = \"games\"\n{}",
        config_text(&sandbox, "[\"data\"]")
    );
    let folder = folder(&config);
    chmod(folder.path(), 0o755);
    let daemon = Daemon::start_in(folder);
    token(&ask_as(&daemon, USER_A, GAMES_GROUP, &["data"]));
    let stderr = failure(&ask_as(&daemon, USER_A, USER_A, &["data"]), 77);
    assert!(stderr.contains("group games (60)"), "{stderr}");
    let closed = daemon.folder();
    chmod(closed, 0o700);
    let (code, _, stderr) = parts(&ask_as(&daemon, USER_A, USER_A, &["data"]));
    assert_eq!(code, Some(77), "{stderr}");
    assert!(
        stderr.contains("for user 0 alone") && stderr.contains("socket_group"),
        "{stderr}"
    );
}

#[test]
fn unknown_names_grant_nobody_and_are_an_error_in_check() {
    let sandbox = sandbox(HOUR);
    let rules =
        "[clients.acme.access]\ndata = { users = [\"nosuchuser\"], groups = [\"nosuchgroup\"] }\n";
    let config = config_text(&sandbox, "[\"data\"]") + rules;
    let daemon = Daemon::start(&config);
    for name in ["nosuchuser", "nosuchgroup"] {
        assert!(daemon.log.contains(name), "{}", daemon.log);
    }
    assert_eq!(daemon.ask(&["data"]).status.code(), Some(77));
    let mut check = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    check.env_clear().arg("check").arg("--config");
    let output = check
        .arg(daemon.folder().join("config.toml"))
        .output()
        .unwrap();
    let (code, _, stderr) = parts(&output);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("nosuchuser") && stderr.contains("nosuchgroup"),
        "{stderr}"
    );
}

#[test]
fn changed_rules_apply_and_a_watcher_without_access_is_notified() {
    let sandbox = sandbox(Duration::from_secs(4));
    let config = config_text(&sandbox, "[\"data\"]");
    let own_uid = rustix::process::geteuid().as_raw();
    let mut daemon = Daemon::start(&config);
    let broker = daemon.broker();
    let mut watch = broker.watch("data").unwrap();
    watch.next().unwrap().unwrap();
    let rules = |uid: u32| format!("{config}[clients.acme.access]\ndata = {{ users = [{uid}] }}\n");
    daemon.write("config.toml", &rules(own_uid));
    daemon.wait_for_log("config loaded");
    assert!(daemon.broker().token("data").is_ok());
    watch.next().unwrap().unwrap();
    daemon.write("config.toml", &rules(own_uid + 1));
    daemon.wait_for_log("config loaded");
    let refused = daemon.broker().token("data").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotPermitted, "{refused}");
    let last = loop {
        // Tokens from before the rule may be unread.
        if let Err(error) = watch.next().unwrap() {
            break error;
        }
    };
    assert_eq!(last.kind(), ErrorKind::NotPermitted, "{last}");
    assert!(watch.next().is_none());
}

#[test]
fn broker_of_another_user_receives_no_request() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    chmod(folder.path(), 0o1777);
    let socket = folder.path().join("broker.sock");
    let script = format!(
        "import socket,sys\n\
         s=socket.socket(socket.AF_UNIX); s.bind({socket:?}); s.listen()\n\
         import os; os.chmod({socket:?},0o777); print('ready',flush=True)\n\
         c,_=s.accept(); print(len(c.recv(4096)),flush=True)\n"
    );
    let mut fake = python_as(USER_A, &script);
    let mut fake = fake.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    let mut stdout = fake.stdout.take().unwrap();
    stdout.read_exact(&mut ready).unwrap();
    let (code, printed, stderr) = parts(&common::helper(&socket, &["data"]).output().unwrap());
    assert_eq!((code, printed.as_str()), (Some(77), ""), "{stderr}");
    assert!(stderr.contains("user 4242"), "{stderr}");
    let mut received = String::new();
    stdout.read_to_string(&mut received).unwrap();
    assert_eq!(received.trim(), "0", "no request was sent");
    fake.wait().unwrap();
}
