//! The daemon where no thread can be started.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use tempfile::TempDir;

use crate::common::callers::{USER_A, give_to, is_root};
use crate::common::process::wrapped;
use crate::common::{Daemon, HOUR, client_text, config_text, parts, sandbox_and_folder, token};

/// Starts the daemon as a user with a limit of threads.
fn start_limited(folder: TempDir, user: u32, threads: u32) -> Daemon {
    give_to(user, folder.path());
    let limit = format!("--nproc={threads}");
    let mut command = wrapped(&["prlimit", &limit], &Daemon::command(folder.path()));
    command.stdout(Stdio::null()).uid(user).gid(user);
    Daemon::start_as(command, folder)
}

#[test]
fn daemon_without_threads_serves_warns_and_stops() {
    if !is_root() {
        return;
    }
    let (sandbox, folder) = sandbox_and_folder(HOUR);
    let audit = folder.path().join("audit.jsonl");
    let config = config_text(&sandbox, "[\"data\"]");
    // A name lookup takes a thread.
    let by_name = client_text("beta", &sandbox, "[\"data\"]");
    let by_name = by_name.replace("//127.0.0.1:", "//localhost:");
    assert!(by_name.contains("localhost"), "{by_name}");
    let config = format!(
        "[broker]\ndefault_client = \"acme\"\n{config}{by_name}[audit]\nfile = \"{}\"\n",
        audit.display()
    );
    fs::write(folder.path().join("config.toml"), config).unwrap();
    // The process itself uses up the limit.
    let mut daemon = start_limited(folder, USER_A, 1);
    daemon.wait_for_log("cannot watch files: cannot start a thread");
    token(&daemon.ask(&["data"]));
    daemon.wait_for_log("lines are lost until it is writable");
    let (code, _, stderr) = parts(&daemon.ask(&["-c", "beta", "--timeout", "2s", "data"]));
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("cannot start a thread"), "{stderr}");
    daemon.signal("-HUP");
    daemon.wait_for_log("cannot read the config: cannot start a thread");
    token(&daemon.ask(&["data"]));
    let metrics = daemon.ask(&["status", "--metrics"]).stdout;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(
        metrics.contains("domo_token_audit_lost_total 3"),
        "{metrics}"
    );
    assert!(
        metrics.contains("domo_token_log_lines_dropped_total 0"),
        "{metrics}"
    );
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn daemon_with_few_threads_serves_and_stops() {
    if !is_root() {
        return;
    }
    // Which of the threads exceeds the limit depends on what else runs at that moment.
    for threads in [2, 3, 4] {
        let (sandbox, folder) = sandbox_and_folder(HOUR);
        let audit = folder.path().join("audit.jsonl");
        let config = config_text(&sandbox, "[\"data\"]");
        let config = format!("{config}[audit]\nfile = \"{}\"\n", audit.display());
        fs::write(folder.path().join("config.toml"), config).unwrap();
        // Threads of another test's daemon must not count.
        let daemon = start_limited(folder, USER_A + threads, threads);
        token(&daemon.ask(&["data"]));
        let (code, log) = daemon.stop();
        assert_eq!(code, Some(0), "{threads} threads: {log}");
        assert!(!log.contains("panicked"), "{threads} threads: {log}");
    }
}
