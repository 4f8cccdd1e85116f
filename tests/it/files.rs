//! The files that the daemon reads: their owners, and who can read and write them.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::{Command, Output};

use crate::common;
use crate::common::callers::{USER_A, is_root};
use crate::common::process::make_fifo;
use crate::common::{
    CANARY_SECRET, Daemon, HOUR, PATIENCE, chmod, config_text, folder, parts, print_skip,
    run_to_end, sandbox, sandbox_and_daemon, sandbox_and_folder, token,
};
use tempfile::TempDir;

/// Asserts that the daemon and `check` reject the files in the folder with this message.
fn assert_refused(folder: &TempDir, words: &str) {
    let (code, stderr) = run_to_end(Daemon::command(folder.path()));
    assert_eq!(code, Some(78), "{stderr}");
    let (code, _, message) = check(folder.path(), &[]);
    assert_eq!(code, Some(78), "{message}");
    for message in [stderr, message] {
        assert!(
            message.contains(words) && !message.contains("c4nary"),
            "{words} in {message}"
        );
    }
}

fn check(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    common::check(&folder.join("config.toml"), arguments)
}

#[test]
fn secret_file_open_to_others_is_an_error_with_the_chmod_command() {
    let (sandbox, folder) = sandbox_and_folder(HOUR);
    for open in [0o644, 0o606, 0o622, 0o666] {
        chmod(folder.path().join("acme.secret"), open);
        assert_refused(&folder, "run: chmod 600");
    }
    assert_eq!(sandbox.requests().len(), 0);
}

#[test]
fn secret_of_another_user_or_in_a_directory_open_to_others_is_an_error() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let open = folder(&config.replace("\"acme.secret\"", "\"open/acme.secret\""));
    let inner = open.path().join("open");
    fs::create_dir(&inner).unwrap();
    fs::rename(open.path().join("acme.secret"), inner.join("acme.secret")).unwrap();
    chmod(&inner, 0o777);
    assert_refused(&open, "chmod go-w");
    if rustix::process::geteuid().is_root() {
        let foreign = folder(&config);
        let secret = foreign.path().join("acme.secret");
        chown(&secret, Some(USER_A), None).unwrap();
        assert_refused(&foreign, "belongs to user 4242");
        // A symlink of the same user is checked by its target.
        fs::rename(&secret, foreign.path().join("theirs")).unwrap();
        symlink("theirs", &secret).unwrap();
        assert_refused(&foreign, "belongs to user 4242");
    }
    assert_eq!(sandbox.requests().len(), 0);
}

#[test]
fn world_readable_secret_is_accepted_where_the_config_allows_it() {
    let sandbox = sandbox(HOUR);
    let folder =
        folder(&(config_text(&sandbox, "[\"data\"]") + "allow_world_readable_secret = true\n"));
    chmod(folder.path().join("acme.secret"), 0o444);
    token(&Daemon::start_in(folder).ask(&["data"]));
}

#[test]
fn config_with_an_inline_secret_that_others_can_read_is_an_error() {
    let sandbox = sandbox(HOUR);
    let inline = format!("client_secret = \"{CANARY_SECRET}\"");
    let text = config_text(&sandbox, "[\"data\"]");
    let folder = folder(&text.replace("client_secret_file = \"acme.secret\"", &inline));
    chmod(folder.path().join("config.toml"), 0o644);
    assert_refused(
        &folder,
        "config.toml: mode 0644 lets others read it; set allow_world_readable_secret",
    );
}

#[test]
fn config_that_others_can_write_is_an_error_and_its_syntax_can_be_checked() {
    let (sandbox, folder) = sandbox_and_folder(HOUR);
    let config = folder.path().join("config.toml");
    for open in [0o664, 0o646, 0o666] {
        chmod(&config, open);
        assert_refused(&folder, "chmod go-w");
    }
    let (code, _, stderr) = check(folder.path(), &["--syntax"]);
    assert_eq!(code, Some(0), "{stderr}");
    chmod(&config, 0o644);
    chmod(folder.path(), 0o777);
    assert_refused(&folder, "lets others replace files in it; run: chmod go-w");
    chmod(folder.path(), 0o700);
    if rustix::process::geteuid().is_root() {
        chown(&config, Some(USER_A), None).unwrap();
        assert_refused(&folder, "belongs to user 4242");
        chown(&config, Some(0), None).unwrap();
        chown(folder.path(), Some(USER_A), None).unwrap();
        assert_refused(&folder, "belongs to user 4242, who can replace files in it");
    }
    assert_eq!(sandbox.requests().len(), 0);
}

#[test]
fn config_made_writable_to_others_at_run_time_keeps_the_previous_one() {
    let (sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    let config = daemon.folder().join("config.toml");
    daemon.write(
        "config.toml",
        &config_text(&sandbox, "[\"data\", \"user\"]"),
    );
    daemon.wait_for_log("config loaded");
    chmod(&config, 0o666);
    let line = daemon.wait_for_log("keeping the previous one");
    assert!(line.contains("chmod go-w"), "{line}");
    token(&daemon.ask(&["user"]));
}

#[test]
fn special_binary_and_huge_files_are_errors_without_delay() {
    let sandbox = sandbox(HOUR);
    let text = config_text(&sandbox, "[\"data\"]");
    let folder = folder(&text);
    let config = folder.path().join("config.toml");
    fs::write(
        &config,
        text.replace("441e307a", "\u{e9}").replace('\u{e9}', "?"),
    )
    .unwrap();
    let mut bytes = text.clone().into_bytes();
    bytes.extend_from_slice(b"# caf\xe9\n");
    fs::write(&config, bytes).unwrap();
    assert_refused(&folder, "config.toml:7:6: not UTF-8");
    let file = fs::File::create(&config).unwrap();
    file.set_len(17 * 1024 * 1024).unwrap();
    assert_refused(&folder, "exceeds 16777216 bytes");
    for name in ["config.toml", "acme.secret"] {
        fs::write(&config, &text).unwrap();
        let path = folder.path().join(name);
        fs::remove_file(&path).unwrap();
        make_fifo(&path);
        chmod(&path, 0o600);
        assert_refused(&folder, "not a regular file");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn secret_behind_symlinks_is_checked_with_each_directory_of_the_path() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let at = |name: &str| folder.path().join(name);
    for name in ["open", "closed"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::rename(at("acme.secret"), at("closed/secret")).unwrap();
    symlink("../closed/secret", at("open/link")).unwrap();
    symlink("open/link", at("acme.secret")).unwrap();
    assert_eq!(check(folder.path(), &[]).0, Some(0));
    chmod(at("open"), 0o777);
    assert_refused(&folder, "/open: mode 0777 lets others replace files in it");
    chmod(at("open"), 0o1777);
    assert_eq!(check(folder.path(), &[]).0, Some(0), "sticky");
    chmod(at("closed"), 0o770);
    assert_refused(&folder, "/closed: mode 0770");
}

#[test]
fn ca_file_that_others_can_write_is_an_error() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&(config_text(&sandbox, "[\"data\"]") + "ca_file = \"ca.pem\"\n"));
    fs::write(folder.path().join("ca.pem"), "").unwrap();
    chmod(folder.path().join("ca.pem"), 0o666);
    assert_refused(&folder, "ca_file");
}

#[test]
fn id_file_may_be_readable_but_not_writable_by_others() {
    let sandbox = sandbox(HOUR);
    let text = config_text(&sandbox, "[\"data\"]");
    let id = format!("client_id = \"{}\"", common::CLIENT_ID);
    let folder = folder(&text.replace(&id, "client_id_file = \"id\""));
    let file = folder.path().join("id");
    fs::write(&file, common::CLIENT_ID).unwrap();
    for open in [0o664, 0o646, 0o666] {
        chmod(&file, open);
        assert_refused(&folder, "lets others write it; run: chmod go-w");
    }
    chmod(&file, 0o444);
    chmod(folder.path(), 0o777);
    assert_refused(&folder, "lets others replace files in it");
    chmod(folder.path(), 0o700);
    if is_root() {
        chown(&file, Some(USER_A), None).unwrap();
        assert_refused(&folder, "belongs to user 4242");
        chown(&file, Some(0), None).unwrap();
    }
    assert_eq!(sandbox.requests().len(), 0);
    token(&Daemon::start_in(folder).ask(&["data"]));
}

#[test]
fn command_whose_program_others_can_write_is_an_error_and_not_run() {
    let sandbox = sandbox(HOUR);
    let text = config_text(&sandbox, "[\"data\"]");
    let folder = folder("");
    let program = folder.path().join("secret.sh");
    let ran = folder.path().join("ran");
    let script = format!(
        "#!/bin/sh\n: > {}\ncat {}/acme.secret\n",
        ran.display(),
        folder.path().display()
    );
    fs::write(&program, script).unwrap();
    let command = format!("client_secret_command = [\"{}\"]", program.display());
    let text = text.replace("client_secret_file = \"acme.secret\"", &command);
    fs::write(folder.path().join("config.toml"), text).unwrap();
    for open in [0o775, 0o757, 0o777] {
        chmod(&program, open);
        assert_refused(&folder, "lets others write it; run: chmod go-w");
    }
    chmod(&program, 0o755);
    if is_root() {
        chown(&program, Some(USER_A), None).unwrap();
        assert_refused(&folder, "belongs to user 4242");
        chown(&program, Some(0), None).unwrap();
    }
    assert!(!ran.exists(), "it has run");
    let daemon = Daemon::start_in(folder);
    token(&daemon.ask(&["data"]));
    assert!(ran.exists(), "it runs once it is safe");
}

#[test]
fn group_readable_secret_is_accepted_from_root_only() {
    if !is_root() {
        return;
    }
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let secret = folder.path().join("acme.secret");
    chmod(folder.path(), 0o755);
    chmod(&secret, 0o640);
    let as_user = || {
        use std::os::unix::process::CommandExt;
        let mut command = Daemon::command(folder.path());
        command.arg("check");
        command.uid(USER_A).gid(USER_A).current_dir("/");
        run_to_end(command)
    };
    chown(&secret, Some(0), Some(USER_A)).unwrap();
    let (code, stderr) = as_user();
    assert_eq!(code, Some(0), "root's, open to our group: {stderr}");
    chown(&secret, Some(USER_A), Some(USER_A)).unwrap();
    let (code, stderr) = as_user();
    assert_eq!(code, Some(78), "ours, open to our group: {stderr}");
    assert!(stderr.contains("chmod 600"), "{stderr}");
}

/// Runs a script in a mount namespace, with a folder as `$1`. Returns `None` where this is impossible.
fn in_mount_namespace(folder: &Path, script: &str) -> Option<Output> {
    let mut command = Command::new("unshare");
    let script =
        format!("mount -t tmpfs none \"$1/try\" && umount \"$1/try\" && echo READY && {script}");
    fs::create_dir_all(folder.join("try")).unwrap();
    let output = command
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(folder)
        .output()
        .ok()?;
    let is_there = output.stdout.starts_with(b"READY");
    if !is_there {
        print_skip("no mount namespace can be made here");
    }
    is_there.then_some(output)
}

#[test]
fn container_with_shared_volumes_requires_two_keys_that_the_errors_name() {
    // A directory for the socket like an emptyDir, and a secret as Kubernetes mounts it.
    let sandbox = sandbox(HOUR);
    let text = config_text(&sandbox, "[\"data\"]");
    let text = text.replace("\"acme.secret\"", "\"secrets/acme.secret\"");
    let folder = folder(&text);
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("secrets/..v1")).unwrap();
    fs::rename(at("acme.secret"), at("secrets/..v1/acme.secret")).unwrap();
    chmod(at("secrets/..v1/acme.secret"), 0o644);
    symlink("..v1", at("secrets/..data")).unwrap();
    symlink("..data/acme.secret", at("secrets/acme.secret")).unwrap();
    fs::create_dir(at("run")).unwrap();
    chmod(at("run"), 0o777);
    let start = || run_to_end(Daemon::command_at(folder.path(), &at("run/broker.sock")));
    let (code, stderr) = start();
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("shared_directory = true"), "{stderr}");
    let shared = format!("[broker]\nshared_directory = true\n{text}");
    fs::write(at("config.toml"), &shared).unwrap();
    let (code, stderr) = start();
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("allow_world_readable_secret = true"),
        "{stderr}"
    );

    let both = shared + "allow_world_readable_secret = true\n";
    fs::write(at("config.toml"), both).unwrap();
    // Its directory is writable for all, but nobody can change a read-only mount.
    chmod(at("secrets"), 0o777);
    let script = format!(
        "mount --bind \"$1/secrets\" \"$1/secrets\" && mount -o remount,bind,ro \"$1/secrets\" && \
         {{ {daemon} --config \"$1/config.toml\" --socket \"$1/run/broker.sock\" & }} && \
         unshare --pid --fork --mount-proc {helper} --socket \"$1/run/broker.sock\" --wait --timeout {patience} data; code=$?; \
         kill $!; exit $code",
        daemon = env!("CARGO_BIN_EXE_domo-tokend"),
        helper = env!("CARGO_BIN_EXE_domo-token"),
        patience = PATIENCE.as_secs(),
    );
    if let Some(output) = in_mount_namespace(folder.path(), &script) {
        let (code, _, stderr) = parts(&output);
        assert_eq!(code, Some(0), "{stderr}");
    }
}
