//! The path of the socket and its lock.

use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::callers::{USER_A, give_to, is_root};
use crate::common::process::in_shell_after;
use crate::common::{
    self, Daemon, HOUR, chmod, config_text, folder, mode, run_to_end, sandbox, sandbox_and_folder,
    token,
};

#[test]
fn socket_is_never_visible_with_a_wider_mode() {
    let sandbox = sandbox(HOUR);
    for _ in 0..20 {
        let folder = folder(&config_text(&sandbox, "[\"data\"]"));
        let mut command = in_shell_after("umask 0", &Daemon::command(folder.path()));
        command.stdout(Stdio::null());
        let daemon = Daemon::spawn_as(command, folder);
        let socket = daemon.socket();
        let first = loop {
            if let Ok(stat) = fs::symlink_metadata(&socket) {
                break stat;
            }
        };
        assert_eq!(first.permissions().mode() & 0o7777, 0o600);
    }
}

/// The daemon's command with that umask, as user A.
fn with_umask(umask: &str, plain: &Command) -> Command {
    let mut command = in_shell_after(&format!("umask {umask}"), plain);
    command.stdout(Stdio::null()).uid(USER_A).gid(USER_A);
    command
}

#[test]
fn daemon_under_any_umask_creates_files_and_directories_with_their_modes() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    for umask in ["0777", "0"] {
        let folder = folder(&config_text(&sandbox, "[\"data\"]"));
        let audit = folder.path().join("audit.jsonl");
        let config = config_text(&sandbox, "[\"data\"]");
        let config = format!("{config}[audit]\nfile = \"{}\"\n", audit.display());
        fs::write(folder.path().join("config.toml"), config).unwrap();
        give_to(USER_A, folder.path());
        let directory = folder.path().join("run");
        let socket = directory.join("broker.sock");
        let plain = Daemon::command_at(folder.path(), &socket);
        let _daemon = Daemon::start_as(with_umask(umask, &plain), folder);
        assert_eq!(mode(&directory), 0o700, "umask {umask}");
        assert_eq!(
            mode(directory.join("broker.sock.lock")),
            0o600,
            "umask {umask}"
        );
        assert_eq!(mode(&audit), 0o600, "umask {umask}");
        assert_eq!(mode(&socket), 0o600, "umask {umask}");
        let left = fs::read_dir(&directory).unwrap().count();
        assert_eq!(left, 2, "only socket and lock are left");
        token(&common::helper(&socket, &["data"]).output().unwrap());
    }
}

#[test]
fn init_under_any_umask_creates_files_and_directories_with_their_modes() {
    if !is_root() {
        return;
    }
    for umask in ["0777", "0"] {
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(USER_A), Some(USER_A)).unwrap();
        let config = folder.path().join("new/inner/config.toml");
        let mut plain = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
        plain.args(["init", "--offline", "--client-id", common::CLIENT_ID]);
        plain.arg("--config").arg(&config);
        let mut command = with_umask(umask, &plain);
        let secret = tempfile::tempfile().unwrap();
        (&secret).write_all(b"c4nary-of-init\n").unwrap();
        (&secret).rewind().unwrap();
        let output = command.stdin(secret).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "umask {umask}: {stderr}");
        for directory in ["new", "new/inner"] {
            assert_eq!(mode(folder.path().join(directory)), 0o700, "umask {umask}");
        }
        for file in fs::read_dir(config.parent().unwrap()).unwrap() {
            assert_eq!(mode(file.unwrap().path()), 0o600, "umask {umask}");
        }
    }
}

#[test]
fn stale_socket_is_replaced() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    drop(UnixListener::bind(folder.path().join("broker.sock")).unwrap());
    token(&Daemon::start_in(folder).ask(&["data"]));
}

#[test]
fn listening_socket_without_a_lock_is_not_replaced() {
    let (sandbox, folder) = sandbox_and_folder(HOUR);
    let _other_server = UnixListener::bind(folder.path().join("broker.sock")).unwrap();
    let (code, stderr) = run_to_end(Daemon::command(folder.path()));
    assert_eq!(code, Some(75), "{stderr}");
    assert_eq!(sandbox.requests().len(), 0);
}

#[test]
fn path_that_is_not_a_socket_is_never_replaced() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let path = folder.path().join("broker.sock");
    fs::write(&path, "precious").unwrap();
    let (code, stderr) = run_to_end(Daemon::command(folder.path()));
    assert_eq!(code, Some(78), "{stderr}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
    symlink("elsewhere", &path).unwrap();
    let (code, stderr) = run_to_end(Daemon::command(folder.path()));
    assert_eq!(code, Some(78), "{stderr}");
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
}

/// Runs a daemon with that socket path in `folder`, which must fail. Returns the message.
fn start_error_at(folder: &TempDir, socket: &str) -> String {
    let command = Daemon::command_at(folder.path(), &folder.path().join(socket));
    let (code, stderr) = run_to_end(command);
    assert_eq!(code, Some(78), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[test]
fn directory_others_can_write_to_is_an_error_unless_sticky() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    for mode in [0o777, 0o775] {
        chmod(&open, mode);
        let stderr = start_error_at(&folder, "open/broker.sock");
        assert!(
            stderr.contains("chmod go-w") && stderr.contains("shared_directory"),
            "{stderr}"
        );
    }
    chmod(&open, 0o1777);
    let command = Daemon::command_at(folder.path(), &open.join("broker.sock"));
    let _daemon = Daemon::start_as(command, folder);
}

#[test]
fn symlink_as_the_directory_is_an_error_that_names_its_target() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    fs::create_dir(folder.path().join("real")).unwrap();
    let link = folder.path().join("link");
    symlink("real", &link).unwrap();
    if rustix::process::geteuid().is_root() {
        // Root's symlinks are trusted.
        std::os::unix::fs::lchown(&link, Some(USER_A), None).unwrap();
    }
    let stderr = start_error_at(&folder, "link/broker.sock");
    assert!(
        stderr.contains("/real") && stderr.contains("symlink"),
        "{stderr}"
    );
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn foreign_file_at_the_path_of_socket_or_lock_is_kept_and_named() {
    if !is_root() {
        return;
    }
    let (sandbox, folder) = sandbox_and_folder(HOUR);
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    chmod(&shared, 0o1777);
    let socket = shared.join("broker.sock");
    let lock = shared.join("broker.sock.lock");
    let theirs = |path: &Path| {
        std::os::unix::fs::lchown(path, Some(USER_A), Some(USER_A)).unwrap();
        let stderr = start_error_at(&folder, "shared/broker.sock");
        assert!(path.symlink_metadata().is_ok(), "it stays: {stderr}");
        stderr
    };
    drop(UnixListener::bind(&socket).unwrap());
    let stderr = theirs(&socket);
    assert!(stderr.contains("belongs to user 4242"), "{stderr}");
    fs::remove_file(&socket).unwrap();
    fs::create_dir(&socket).unwrap();
    let stderr = theirs(&socket);
    assert!(stderr.contains("not a socket"), "{stderr}");
    fs::remove_dir(&socket).unwrap();

    fs::remove_file(&lock).unwrap();
    fs::write(&lock, "").unwrap();
    chmod(&lock, 0o666);
    let stderr = theirs(&lock);
    assert!(
        stderr.contains("lock file belongs to user 4242"),
        "{stderr}"
    );
    fs::remove_file(&lock).unwrap();
    symlink("elsewhere", &lock).unwrap();
    let stderr = theirs(&lock);
    assert!(stderr.contains("regular file"), "{stderr}");
    assert!(!shared.join("elsewhere").exists());
    assert_eq!(sandbox.requests().len(), 0);
}

#[test]
fn lock_file_is_not_accessible_to_other_users() {
    if !is_root() {
        return;
    }
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    chmod(folder.path(), 0o755);
    let daemon = Daemon::start_in(folder);
    let lock = daemon.folder().join("broker.sock.lock");
    let mut open = Command::new("/bin/sh");
    open.uid(USER_A).gid(USER_A).current_dir("/");
    let script = "exec 3< \"$0\"";
    let output = open.args(["-c", script]).arg(&lock).output().unwrap();
    let (code, _, stderr) = common::parts(&output);
    assert!(
        code != Some(0) && stderr.contains("Permission denied"),
        "{stderr}"
    );
}

#[test]
fn listening_socket_with_a_full_backlog_does_not_delay_the_start() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let path = folder.path().join("broker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let backlog = rustix::net::listen(&listener, 0);
    backlog.unwrap();
    let _pending = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let (code, stderr) = run_to_end(Daemon::command(folder.path()));
    assert_eq!(code, Some(75), "{stderr}");
}

#[test]
fn socket_path_that_is_too_long_exits_78_with_the_cause() {
    let (sandbox, folder) = sandbox_and_folder(HOUR);
    let deep = folder.path().join("d".repeat(120));
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command
        .env_clear()
        .arg("--config")
        .arg(folder.path().join("config.toml"));
    command.arg("--socket").arg(deep.join("broker.sock"));
    let (code, stderr) = run_to_end(command);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("too long"), "{stderr}");
    assert_eq!(sandbox.requests().len(), 0);
}

#[test]
fn socket_name_that_is_too_long_for_callers_exits_78() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let socket = folder.path().join("s".repeat(110));
    let (code, stderr) = run_to_end(Daemon::command_at(folder.path(), &socket));
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("too long"), "{stderr}");
    let output = common::helper(&socket, &["data"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("the path is too long for a socket"),
        "{stderr}"
    );
}
