//! Config and credential files that are replaced while the daemon runs, without a signal.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common;
use crate::common::wait::until;
use crate::common::{
    CANARY_SECRET, CLIENT_ID, Daemon, HOUR, PATIENCE, chmod, client_text, config_text, parts,
    sandbox, sandbox_and_folder, secrecy, token,
};
use domo_sandbox::Sandbox;
use domo_token_client::Broker;
use domo_token_client::clock::boot_now;

/// The scopes of the sets. Which of them a config contains identifies the config.
const SCOPES: [&str; 6] = ["data", "user", "audit", "dashboard", "workflow", "account"];

fn sandbox_with_all_scopes() -> Sandbox {
    Sandbox::builder()
        .client(CLIENT_ID, CANARY_SECRET, &SCOPES)
        .start()
        .unwrap()
}

/// A config whose client `acme` has the scope sets of the bits in `choice`, and whose client `stable` never
/// changes.
fn config_with(sandbox: &Sandbox, stable: &Sandbox, choice: usize) -> String {
    let chosen = (0..SCOPES.len()).filter(|bit| choice >> bit & 1 == 1);
    let sets: Vec<&str> = chosen.map(|bit| SCOPES[bit]).collect();
    client_text("acme", sandbox, &format!("{sets:?}"))
        + &client_text("stable", stable, "[\"data\"]")
}

/// Replaces a file in one of the ways that people and tools do.
fn replace(path: &Path, text: &str, way: usize) {
    let closed = || fs::Permissions::from_mode(0o600);
    let folder = path.parent().unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let write = |path: &Path| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, closed()).unwrap();
    };
    match way % 4 {
        0 => write(path),
        1 => {
            let new = folder.join(format!("{name}.new"));
            write(&new);
            fs::rename(&new, path).unwrap();
        }
        2 => {
            fs::remove_file(path).unwrap();
            write(path);
        }
        _ => {
            // As Kubernetes does: a directory behind two symlinks, the first of which is replaced.
            let data = folder.join(format!("..{name}-{way}"));
            let _ = fs::create_dir(&data);
            write(&data.join(name));
            let link = folder.join("..swap");
            let _ = fs::remove_file(&link);
            symlink(&data, &link).unwrap();
            fs::rename(&link, folder.join(format!("..{name}"))).unwrap();
            if fs::read_link(path).is_err() {
                symlink(format!("..{name}/{name}"), &link).unwrap();
                fs::rename(&link, path).unwrap();
            }
        }
    }
}

/// Waits until the client `acme` has exactly the scope sets of `choice`.
fn wait_for_choice(broker: &Broker, choice: usize) {
    let mut wanted: Vec<&str> = (0..SCOPES.len())
        .filter(|bit| choice >> bit & 1 == 1)
        .map(|bit| SCOPES[bit])
        .collect();
    wanted.sort_unstable();
    until(|| {
        let status = broker.status().unwrap();
        let sets = status.scopes.iter().filter(|set| set.client == "acme");
        let mut found: Vec<&str> = sets.map(|set| set.scope.as_str()).collect();
        found.sort_unstable();
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found:?}, not {wanted:?}"))
        }
    });
}

/// Returns its open descriptors and watched directories.
fn descriptors_and_watches(daemon: &Daemon) -> (usize, usize) {
    let process = format!("/proc/{}", daemon.pid());
    let descriptors = fs::read_dir(format!("{process}/fd")).unwrap().count();
    let infos = fs::read_dir(format!("{process}/fdinfo")).unwrap();
    let texts = infos.filter_map(|info| fs::read_to_string(info.unwrap().path()).ok());
    let watches = texts.map(|text| text.matches("inotify wd:").count()).sum();
    (descriptors, watches)
}

#[test]
fn thousand_replacements_apply_the_last_one_and_leak_nothing() {
    let (sandbox, stable) = (sandbox_with_all_scopes(), sandbox(HOUR));
    let daemon = Daemon::start(&config_with(&sandbox, &stable, 1));
    let broker = daemon.broker().with_client("stable");
    let cached = broker.token("data").unwrap();
    let config = daemon.folder().join("config.toml");
    let secret = daemon.folder().join("acme.secret");
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut before = None;
    for round in 1..=1000 {
        let choice = rng.usize(1..64);
        let way = rng.usize(..4);
        replace(&config, &config_with(&sandbox, &stable, choice), way);
        replace(&secret, &format!("{CANARY_SECRET}\n"), rng.usize(..4));
        if round % 200 == 0 {
            wait_for_choice(&broker, choice);
            // Uses the same layout of the folder each time, so that watches can be compared.
            replace(&config, &config_with(&sandbox, &stable, 1), 3);
            replace(&secret, &format!("{CANARY_SECRET}\n"), 3);
            wait_for_choice(&broker, 1);
            token(&daemon.ask(&["-c", "acme", "data"]));
            // Another thread watches, with a delay: the folder, and the directory of each of the two files.
            let descriptors = until(|| match descriptors_and_watches(&daemon) {
                (descriptors, 3) => Ok(descriptors),
                (_, watches) => Err((watches, seed)),
            });
            let least = *before.get_or_insert(descriptors);
            assert!(
                descriptors <= least + 4,
                "{descriptors}, not {least}; seed {seed}"
            );
        }
    }
    let after = daemon.broker().with_client("stable").token("data").unwrap();
    assert_eq!(after.generation(), cached.generation(), "seed {seed}");
    assert_eq!(stable.requests().len(), 1);
}

/// Stops the threads when dropped, also by a panic: a scope waits for them before it unwinds.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn callers_are_served_during_five_changes_of_credentials() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let daemon = Daemon::start(&config);
    let socket = daemon.socket();
    token(&daemon.ask(&["data"]));
    let stop = AtomicBool::new(false);
    let calls: u64 = thread::scope(|scope| {
        let end = StopOnDrop(&stop);
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    // A new broker has no cached token, so that it requests one from the daemon.
                    let broker = || Broker::connect_to(&socket).unwrap();
                    let mut calls = 0;
                    while !stop.load(Ordering::Relaxed) {
                        broker().token("data").unwrap();
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        let mut old = CLIENT_ID.to_owned();
        // From the fourth pair on, each waits for the limit of credential changes.
        for number in 0..5 {
            let (id, secret) = (format!("client-{number}"), format!("c4nary-{number}"));
            sandbox.add_client(&id, &secret, &["data"]);
            daemon.write("acme.secret", &secret);
            replace(
                &daemon.folder().join("config.toml"),
                &config.replace(CLIENT_ID, &id),
                number,
            );
            sandbox.remove_client(&old);
            let is_used = |seen: &domo_sandbox::Recorded| {
                seen.client_id.as_deref() == Some(&id) && seen.status == Some(200)
            };
            until(|| {
                let requests = sandbox.requests();
                let used = requests.iter().any(is_used);
                used.then_some(()).ok_or(requests)
            });
            old = id;
        }
        drop(end);
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .sum()
    });
    assert!(calls > 1000, "{calls}");
}

#[test]
fn new_scope_set_and_fixed_secret_are_applied_within_two_seconds() {
    let (sandbox, folder) = sandbox_and_folder(HOUR);
    fs::write(folder.path().join("acme.secret"), "c4nary-wrong\n").unwrap();
    let mut daemon = Daemon::start_in(folder);
    daemon.wait_for_log("cause=denied");
    let start = boot_now();
    daemon.write("acme.secret", &format!("{CANARY_SECRET}\n"));
    sandbox.wait_for_requests(2, PATIENCE).unwrap();
    token(&daemon.ask(&["--wait", "data"]));
    daemon.write(
        "config.toml",
        &config_text(&sandbox, "[\"data\", \"user\"]"),
    );
    sandbox.wait_for_requests(3, PATIENCE).unwrap();
    let took = boot_now().saturating_since(start);
    assert!(took < Duration::from_secs(4), "{took:?} for both");
}

/// The log messages for an unusable config and an unusable secret.
const KEPT_CONFIG: &str = "keeping the previous one";
const KEPT_SECRET: &str = "its previous credentials stay in use";

#[test]
fn incomplete_empty_or_unreadable_files_keep_the_previous_config() {
    let sandbox = sandbox(HOUR);
    let good = config_text(&sandbox, "[\"data\"]");
    let mut daemon = Daemon::start(&good);
    let cached = token(&daemon.ask(&["data"]));
    let secret = daemon.folder().join("acme.secret");
    for (name, text, kept, fixed) in [
        (
            "config.toml",
            &good[..40],
            KEPT_CONFIG,
            "config file is valid again and unchanged",
        ),
        (
            "config.toml",
            "",
            KEPT_CONFIG,
            "config file is valid again and unchanged",
        ),
        ("acme.secret", "", KEPT_SECRET, "client loaded"),
    ] {
        // Writes only this file: a write empties the file first, so that a read in between would find a second
        // error.
        let path = daemon.folder().join(name);
        let whole = fs::read_to_string(path).unwrap();
        daemon.write(name, text);
        let line = daemon.wait_for_log(kept);
        assert!(line.contains(name), "{line}");
        assert_eq!(token(&daemon.ask(&["data"])), cached);
        daemon.write(name, &whole);
        daemon.wait_for_log(fixed);
    }
    chmod(&secret, 0o644);
    let line = daemon.wait_for_log(KEPT_SECRET);
    assert!(line.contains("chmod 600"), "{line}");
    chmod(&secret, 0o600);
    daemon.wait_for_log("client loaded");
    assert_eq!(token(&daemon.ask(&["data"])), cached);
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn failing_new_credentials_keep_the_old_token_and_are_reported() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let mut daemon = Daemon::start(&config);
    let cached = token(&daemon.ask(&["data"]));
    daemon.write("config.toml", &config.replace(CLIENT_ID, "00000000-none"));
    daemon.wait_for_log("cause=denied");
    assert_eq!(token(&daemon.ask(&["data"])), cached);
    let set = daemon.status_of("data");
    assert_eq!(set["client_id"], "00000000…", "{set}");
    assert!(
        set["last_error"]
            .as_str()
            .unwrap()
            .contains("Bad client credentials"),
        "{set}"
    );
    assert!(set["expires_at"].is_u64(), "{set}");
    assert_eq!(set["credentials_error"], set["last_error"]);
    let (_, table, _) = parts(&daemon.ask(&["status"]));
    assert!(
        table.contains("since the last change or restart (00000000…): Domo returned 401"),
        "{table}"
    );
    assert_eq!(sandbox.requests().len(), 2, "the new pair alone is tried");
}

#[test]
fn log_file_beside_the_config_causes_no_reload_and_commands_inherit_no_descriptor() {
    let sandbox = sandbox(HOUR);
    let folder = common::folder("");
    // The command writes a line each time the files are read.
    let command = format!(
        "client_secret_command = [\"/bin/sh\", \"-c\", \"ls -l /proc/self/fd > fds; echo read >> reads; echo {CANARY_SECRET}\"]"
    );
    let config = config_text(&sandbox, "[\"data\"]");
    let config = config.replace("client_secret_file = \"acme.secret\"", &command);
    let path = folder.path().join("config.toml");
    fs::write(&path, &config).unwrap();
    let log = fs::File::create(folder.path().join("daemon.log")).unwrap();
    let mut command = Daemon::command(folder.path());
    command
        .current_dir(folder.path())
        .env("PATH", "/usr/bin:/bin");
    let mut daemon = command
        .env("RUST_LOG", "trace")
        .stderr(log)
        .spawn()
        .unwrap();
    let ask = || {
        let socket = folder.path().join("broker.sock");
        common::helper(&socket, &["--wait", "data"])
            .output()
            .unwrap()
    };
    for _ in 0..20 {
        token(&ask());
    }
    fs::write(&path, config + "# changed\n").unwrap();
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    until(|| match text("daemon.log") {
        log if log.contains("config loaded") => Ok(()),
        log => Err(log),
    });
    // A change that does not concern the client runs no command, and a reload does.
    assert_eq!(text("reads").lines().count(), 1, "{}", text("daemon.log"));
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    until(|| match text("reads").lines().count() {
        2 => Ok(()),
        reads => Err(reads),
    });
    for _ in 0..20 {
        token(&ask());
    }
    assert_eq!(text("reads").lines().count(), 2, "{}", text("daemon.log"));
    for ours in [
        "socket:",
        "inotify",
        "eventpoll",
        "timerfd",
        "lock",
        "config.toml",
    ] {
        assert!(!text("fds").contains(ours), "{ours} in {}", text("fds"));
    }
    secrecy::assert_none_in_process(daemon.id(), false);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    secrecy::assert_none("the log", &text("daemon.log"));
}

#[test]
fn changed_log_level_is_applied() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let folder = common::folder(&config);
    let command = Daemon::command_of_config(folder.path());
    let mut daemon = Daemon::start_as(command, folder);
    let level = |level: &str| format!("{config}[log]\nlevel = \"{level}\"\n");
    daemon.write("config.toml", &level("debug"));
    daemon.wait_for_log("config loaded");
    token(&daemon.ask(&["data"]));
    daemon.wait_for_log("level=debug");
}
