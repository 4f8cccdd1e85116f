//! `watch --to` with a path that is not a regular file.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::watch::{wait_for, wait_for_token};
use crate::common::callers::{USER_A, is_root, open_daemon};
use crate::common::process::{KillOnDrop, make_fifo, send_signal, wrapped};
use crate::common::wait::until;
use crate::common::{Daemon, HOUR, chmod, helper, kernel, parts, sandbox, sandbox_and_daemon};

/// Returns all entries of a folder, with type and inode number.
fn listing(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        format!("{} {:?} {}", path.display(), found.file_type(), found.ino())
    });
    let mut entries: Vec<String> = entries.collect();
    entries.sort();
    entries
}

/// A folder with entries that `watch --to` must not replace.
fn folder_of_targets() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    make_fifo(&at("fifo"));
    drop(UnixListener::bind(at("socket")).unwrap());
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("real"), "kept").unwrap();
    fs::write(at("empty"), "").unwrap();
    for (name, target) in [
        ("link", "real"),
        ("dangling", "absent"),
        ("nowhere", "none/absent"),
        ("to-directory", "directory"),
        ("loop", "loop"),
        ("to-null", "/dev/null"),
        ("to-empty", "empty"),
        ("to-descriptors", "/proc/self/fd"),
    ] {
        symlink(target, at(name)).unwrap();
    }
    folder
}

/// Runs `watch --to` without a broker. Returns the message of its exit with 74.
fn rejection(folder: &Path, to: &str) -> String {
    let arguments = ["watch", "--to", to, "--wait", "--timeout", "1", "data"];
    let output = helper(&folder.join("none.sock"), &arguments).output();
    let (code, stdout, stderr) = parts(&output.unwrap());
    assert_eq!((code, stdout.as_str()), (Some(74), ""), "{to}: {stderr}");
    stderr
}

#[test]
fn watch_rejects_a_path_that_is_not_a_regular_file_before_it_connects() {
    let folder = folder_of_targets();
    let before = listing(folder.path());
    let path = folder.path().display();
    let link = "a symbolic link";
    // The last column is the path that the message suggests instead, if any.
    for (name, kind, instead) in [
        ("/dev/null", "a device", ""),
        ("/dev/stdout", link, ""),
        ("/proc/self/fd/1", link, ""),
        ("fifo", "a FIFO", ""),
        ("socket", "a socket", ""),
        (
            "directory",
            "a directory",
            "a file in it: --to DIR/directory/token",
        ),
        (
            "link",
            link,
            "its target (it is replaced, and removed at the end): --to DIR/real",
        ),
        ("to-empty", link, "its target: --to DIR/empty"),
        ("dangling", link, "its target: --to DIR/absent"),
        ("nowhere", link, ""),
        (
            "to-directory",
            "a symbolic link to a directory",
            "a file in it: --to DIR/to-directory/token",
        ),
        (
            "to-directory/",
            "a directory",
            "a file in it: --to DIR/to-directory/token",
        ),
        ("loop", link, ""),
        ("to-null", link, ""),
        ("to-descriptors", "a symbolic link to a directory", ""),
        ("/dev", "a directory", ""),
        ("/dev/fd", "a symbolic link to a directory", ""),
    ] {
        let to = folder.path().join(name).display().to_string();
        let hint = if instead.is_empty() {
            "to print the token, omit --to".to_owned()
        } else {
            format!("use {}", instead.replace("DIR", &path.to_string()))
        };
        let message = format!("domo-token: cannot write {to}: it is {kind}; {hint}\n");
        assert_eq!(rejection(folder.path(), &to), message);
    }
    let below = folder.path().join("real/token").display().to_string();
    assert!(rejection(folder.path(), &below).contains("Not a directory"));
    assert_eq!(listing(folder.path()), before);
    let kept = fs::read_to_string(folder.path().join("real")).unwrap();
    assert_eq!(kept, "kept");
}

#[test]
fn watch_rejects_a_path_that_ends_with_a_slash() {
    let folder = folder_of_targets();
    for (name, advice) in [
        ("absent/", "use a file: --to DIR/absent"),
        ("empty/", "use a file: --to DIR/empty"),
        (
            "real//",
            "use a file (it is replaced, and removed at the end): --to DIR/real",
        ),
        ("fifo/", "to print the token, omit --to"),
    ] {
        let to = folder.path().join(name).display().to_string();
        let advice = advice.replace("DIR", &folder.path().display().to_string());
        let message = format!("cannot write {to}: the path ends with a slash; {advice}");
        assert_eq!(
            rejection(folder.path(), &to),
            format!("domo-token: {message}\n")
        );
    }
}

#[test]
fn watch_advises_no_file_that_a_redirection_leads_to() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("app.log");
    fs::write(&log, "kept").unwrap();
    for to in [
        "/dev/stdout",
        "/dev/fd/1",
        "/proc/self/fd/1",
        "/proc/thread-self/fd/1",
    ] {
        let arguments = ["watch", "--to", to, "data"];
        let mut command = helper(&folder.path().join("none.sock"), &arguments);
        let stdout = fs::File::options().append(true).open(&log).unwrap();
        let (code, _, stderr) = parts(&command.stdout(stdout).output().unwrap());
        assert_eq!(code, Some(74), "{stderr}");
        let cause = "it is a symbolic link; to print the token, omit --to";
        assert_eq!(stderr, format!("domo-token: cannot write {to}: {cause}\n"));
    }
    assert_eq!(fs::read_to_string(&log).unwrap(), "kept");
}

#[test]
fn watch_advises_a_directory_only_where_it_is_missing() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for (to, hint) in [
        ("/proc/tok", "; to print the token, omit --to\n"),
        ("/dev/fd/77", "; to print the token, omit --to\n"),
        ("none/tok", "; create its directory with: mkdir -p none\n"),
    ] {
        let mut command = daemon.helper(&["watch", "--to", to, "data"]);
        let (code, _, stderr) = parts(&command.current_dir(daemon.folder()).output().unwrap());
        assert_eq!(code, Some(74), "{stderr}");
        assert!(stderr.ends_with(hint), "{stderr}");
    }
}

/// A running `watch --to` whose standard error is in a file.
pub(super) struct Watching {
    child: KillOnDrop,
    folder: tempfile::TempDir,
}

impl Watching {
    pub(super) fn start(daemon: &Daemon, to: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stderr = fs::File::create(folder.path().join("stderr")).unwrap();
        let mut command = daemon.helper(&["watch", "--to", to.to_str().unwrap(), "data"]);
        let child = KillOnDrop(command.stderr(stderr).spawn().unwrap());
        let watching = Self { child, folder };
        wait_for_token(to);
        watching
    }

    pub(super) fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Waits until that text was printed that often.
    pub(super) fn wait_for(&self, text: &str, count: usize) {
        until(|| {
            let stderr = self.stderr();
            let found = stderr.matches(text).count() >= count;
            found.then_some(()).ok_or(stderr)
        });
    }

    /// Sends SIGTERM and returns standard error.
    pub(super) fn stop(mut self) -> String {
        send_signal(self.child.id(), "-TERM");
        assert_eq!(self.child.wait().unwrap().signal(), Some(15));
        let stderr = self.stderr();
        crate::common::secrecy::assert_none("standard error", &stderr);
        stderr
    }
}

#[test]
fn watch_keeps_a_foreign_file_at_its_path_and_writes_again_once_it_is_removed() {
    let (_sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(3));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let victim = folder.path().join("victim");
    fs::write(&victim, "kept").unwrap();
    let watching = Watching::start(&daemon, &file);
    let kinds = ["a symbolic link", "a FIFO", "a socket", "a directory"];
    for (count, kind) in (1..).zip(kinds) {
        let other = folder.path().join("other");
        match kind {
            "a FIFO" => make_fifo(&other),
            "a socket" => drop(UnixListener::bind(&other).unwrap()),
            "a directory" => fs::create_dir(&other).unwrap(),
            _ => symlink("victim", &other).unwrap(),
        }
        renameat_with(CWD, &other, CWD, &file, RenameFlags::EXCHANGE).unwrap();
        fs::remove_file(&other).unwrap();
        let before = fs::symlink_metadata(&file).unwrap();
        watching.wait_for(&format!("{}: it is {kind}; ", file.display()), 1);
        let after = fs::symlink_metadata(&file).unwrap();
        assert_eq!(before.ino(), after.ino());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        if kind == "a directory" {
            fs::remove_dir(&file).unwrap();
        } else {
            fs::remove_file(&file).unwrap();
        }
        wait_for_token(&file);
        watching.wait_for("wrote the current token to ", count);
    }
    // The next token replaces a regular file.
    fs::write(folder.path().join("other"), "another's").unwrap();
    fs::rename(folder.path().join("other"), &file).unwrap();
    wait_for_token(&file);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    let stderr = watching.stop();
    assert_eq!(stderr.matches("cannot write").count(), 4, "{stderr}");
    assert!(!file.exists());
}

#[test]
fn watch_needs_no_right_to_list_the_directory_of_its_file() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, "[\"data\"]", "", "");
    let folder = tempfile::tempdir().unwrap();
    chmod(folder.path(), 0o1733);
    let file = folder.path().join("token");
    let mut command = daemon.helper(&["watch", "--to", file.to_str().unwrap(), "data"]);
    command.uid(USER_A).gid(USER_A).current_dir("/");
    let mut watch = command.spawn().unwrap();
    wait_for_token(&file);
    send_signal(watch.id(), "-TERM");
    assert_eq!(watch.wait().unwrap().signal(), Some(15));
    assert!(!file.exists());
}

#[test]
fn watch_replaces_its_file_where_there_are_only_plain_renames() {
    let (_sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(3));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let watch = daemon.helper(&["watch", "--to", file.to_str().unwrap(), "data"]);
    let program = which_python();
    let refusing = [kernel::WITHOUT_NOREPLACE, kernel::WITHOUT_EXCHANGE].concat();
    let refusing: Vec<&str> = refusing
        .into_iter()
        .map(|word| if word == "python3" { &program } else { word })
        .collect();
    let mut child = wrapped(&refusing, &watch).spawn().unwrap();
    wait_for_token(&file);
    let first = fs::read_to_string(&file).unwrap();
    let is_another = |text: &str| text.len() > 600 && text != first;
    wait_for(&file, |text| text.is_some_and(is_another));
    assert_eq!(listing(folder.path()).len(), 1);
    fs::remove_file(&file).unwrap();
    symlink("elsewhere", &file).unwrap();
    send_signal(child.id(), "-TERM");
    child.wait().unwrap();
    let target = fs::read_link(&file).unwrap();
    assert_eq!(target, Path::new("elsewhere"));
}

/// `execv`, which starts the second one, does not search `PATH`.
fn which_python() -> String {
    let found = Command::new("sh")
        .args(["-c", "command -v python3"])
        .output();
    String::from_utf8(found.unwrap().stdout)
        .unwrap()
        .trim()
        .to_owned()
}
