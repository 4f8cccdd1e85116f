//! `watch --to` while its file cannot be written: on a full or read-only file system, and while its directory is
//! moved.

use std::fs;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use domo_sandbox::Sandbox;
use serde_json::Value;

use super::watch::{wait_for, wait_for_token};
use super::watch_target::Watching;
use crate::common::callers::is_root;
use crate::common::process::{KillOnDrop, first_line, wrapped};
use crate::common::wait::until;
use crate::common::{Daemon, HOUR, parts, print_skip, sandbox_and_daemon, timed, token};

/// A small file system, mounted in a namespace that ends with it.
struct Mounted {
    holder: KillOnDrop,
    folder: tempfile::TempDir,
}

impl Mounted {
    /// Returns `None`, and prints that the test is skipped, where nothing can be mounted.
    fn new() -> Option<Self> {
        if !is_root() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let script =
            "mount -t tmpfs -o size=16k,mode=755 none \"$0\" && echo mounted && exec cat >&2";
        let holder = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", script])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut holder = KillOnDrop(holder.unwrap());
        let line = first_line(holder.stdout.take().unwrap());
        let mounted = Self { holder, folder };
        if line != "mounted\n" {
            print_skip("no file system can be mounted here");
            return None;
        }
        Some(mounted)
    }

    /// Its root, as seen from outside.
    fn path(&self) -> PathBuf {
        let folder = self.folder.path().display();
        format!("/proc/{}/root{folder}", self.holder.id()).into()
    }

    fn remount(&self, options: &str) {
        let pid = self.holder.id().to_string();
        let output = Command::new("nsenter")
            .args(["-t", &pid, "-m", "mount", "-o", options])
            .arg(self.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn fill(&self) {
        let all = fs::write(self.path().join("fill"), vec![0; 1 << 20]);
        assert!(all.is_err(), "the file system is too large");
    }

    fn free(&self) {
        fs::remove_file(self.path().join("fill")).unwrap();
    }
}

/// A `watch --to` whose file is on a small file system, with tokens of that lifetime.
fn watch_on_a_disk(lifetime_s: u64) -> Option<(Mounted, Sandbox, Daemon, Watching)> {
    let disk = Mounted::new()?;
    let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(lifetime_s));
    let watching = Watching::start(&daemon, &disk.path().join("token"));
    Some((disk, sandbox, daemon, watching))
}

/// Renews the broker's token and returns the new one.
fn renew(daemon: &Daemon) -> String {
    let (_, stdout, _) = parts(&daemon.ask(&["--format", "json", "data"]));
    let current: Value = serde_json::from_str(&stdout).unwrap();
    let renew = format!("--renew={}", current.get("generation").unwrap());
    token(&daemon.ask(&[&renew, "--wait", "--timeout", "20s", "data"]))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn watch_keeps_the_last_token_on_a_full_disk_and_writes_the_newest_once_there_is_room() {
    // Renewed after 14 s at least, and after 1 s on request.
    let Some((disk, _sandbox, daemon, watching)) = watch_on_a_disk(20) else {
        return;
    };
    let file = disk.path().join("token");
    let first = fs::read_to_string(&file).unwrap();
    disk.fill();
    let second = renew(&daemon);
    assert_ne!(first, second.clone() + "\n");
    watching.wait_for(
        "; retrying, and keeping the last token, which is valid for ",
        1,
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), first);
    assert_eq!(names(&disk.path()), ["fill", "token"], "no part of a file");
    disk.free();
    wait_for(&file, |text| text == Some(&(second.clone() + "\n")));
    watching.wait_for("wrote the current token to ", 1);
    let stderr = watching.stop();
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
    assert!(stderr.contains("No space left on device"), "{stderr}");
    assert_eq!(names(&disk.path()), [""; 0]);
}

#[test]
fn watch_removes_an_expired_token_on_a_full_disk() {
    let Some((disk, _sandbox, _daemon, watching)) = watch_on_a_disk(3) else {
        return;
    };
    let file = disk.path().join("token");
    disk.fill();
    wait_for(&file, |text| text.is_none());
    assert_eq!(names(&disk.path()), ["fill"]);
    disk.free();
    wait_for_token(&file);
    watching.stop();
}

#[test]
fn watch_survives_a_read_only_remount_and_does_not_prevent_it() {
    let Some((disk, _sandbox, _daemon, watching)) = watch_on_a_disk(3) else {
        return;
    };
    let file = disk.path().join("token");
    disk.remount("remount,ro");
    watching.wait_for("cannot write the token file ", 1);
    watching.wait_for("cannot remove the token file ", 1);
    assert_eq!(names(&disk.path()), ["token"]);
    disk.remount("remount,rw");
    watching.wait_for("wrote the current token to ", 1);
    wait_for_token(&file);
    let stderr = watching.stop();
    assert_eq!(stderr.matches("domo-token: cannot ").count(), 2, "{stderr}");
    assert!(stderr.contains("Read-only file system"), "{stderr}");
    assert_eq!(names(&disk.path()), [""; 0]);
}

#[test]
fn watch_exits_74_if_the_first_write_fails() {
    let Some(disk) = Mounted::new() else {
        return;
    };
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let file = disk.path().join("token");
    let ask = || parts(&daemon.ask(&["watch", "--to", file.to_str().unwrap(), "data"]));
    disk.fill();
    let (code, _, stderr) = ask();
    assert_eq!(code, Some(74), "{stderr}");
    assert_eq!(names(&disk.path()), ["fill"]);
    disk.remount("remount,ro");
    let (code, _, stderr) = ask();
    assert_eq!(code, Some(74), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn watch_leaves_at_most_one_file_where_none_can_be_removed() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let change = |flag: &str| {
        let mut chattr = Command::new("chattr");
        let output = chattr.arg(flag).arg(folder.path()).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !change("+a") {
        print_skip("no directory can be made append-only here");
        return;
    }
    let file = folder.path().join("token");
    let outputs: Vec<_> = (0..3)
        .map(|_| daemon.ask(&["watch", "--to", file.to_str().unwrap(), "data"]))
        .collect();
    let left = names(folder.path());
    assert!(change("-a"));
    for output in outputs {
        let (code, _, stderr) = parts(&output);
        assert_eq!(code, Some(74), "{stderr}");
        assert!(stderr.contains("Operation not permitted"), "{stderr}");
    }
    assert_eq!(left.len(), 1, "{left:?}");
    Watching::start(&daemon, &file).stop();
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn watch_removes_leftovers_of_a_killed_one_and_supports_long_names() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let long = "t".repeat(255);
    for (name, leftover) in [
        ("token", ".token.0123456789abcdef".to_owned()),
        (&long, format!(".{}.0123456789abcdef", &long[..100])),
    ] {
        let file = folder.path().join(name);
        fs::write(folder.path().join(leftover), "an old token").unwrap();
        let watching = Watching::start(&daemon, &file);
        assert_eq!(names(folder.path()), [name]);
        watching.stop();
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

#[test]
fn watch_exits_75_without_descriptors_for_its_signals() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let file = daemon.folder().join("token");
    let watch = daemon.helper(&["watch", "--to", file.to_str().unwrap(), "data"]);
    // One for the connection, and one more.
    let words = ["prlimit", "--nofile=5:5"];
    let (code, _, stderr) = parts(&wrapped(&words, &watch).output().unwrap());
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("Too many open files"), "{stderr}");
    assert!(!file.exists());
}

#[test]
fn watch_writes_to_a_recreated_directory_and_leaves_no_token_in_the_moved_one() {
    let (_sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(4));
    let folder = tempfile::tempdir().unwrap();
    let [here, away] = ["here", "away"].map(|name| folder.path().join(name));
    fs::create_dir(&here).unwrap();
    let file = here.join("token");
    let watching = Watching::start(&daemon, &file);
    fs::rename(&here, &away).unwrap();
    watching.wait_for("No such file or directory", 1);
    // Its last token expires there.
    until(|| {
        let names = names(&away);
        names.is_empty().then_some(()).ok_or(names)
    });
    fs::rename(&away, &here).unwrap();
    wait_for_token(&file);
    watching.wait_for("wrote the current token to ", 1);
    // Another directory takes its place.
    fs::rename(&here, &away).unwrap();
    fs::create_dir(&here).unwrap();
    wait_for_token(&file);
    until(|| {
        let names = names(&away);
        names.is_empty().then_some(()).ok_or(names)
    });
    // It is deleted.
    fs::remove_dir_all(&here).unwrap();
    watching.wait_for("No such file or directory", 2);
    fs::create_dir(&here).unwrap();
    wait_for_token(&file);
    watching.stop();
    assert_eq!(names(&here), [""; 0]);
}

#[test]
fn watch_writes_its_file_again_when_another_watch_has_removed_it() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let first = Watching::start(&daemon, &file);
    let inode = fs::metadata(&file).unwrap().ino();
    let second = Watching::start(&daemon, &file);
    until(|| match fs::metadata(&file).map(|found| found.ino()) {
        Ok(other) if other != inode => Ok(()),
        found => Err(found.ok()),
    });
    let (took, ()) = timed(|| {
        assert_eq!(second.stop(), "");
        wait_for_token(&file);
    });
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(first.stop(), "");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn watch_writes_a_deleted_file_again_at_the_next_event() {
    let (_sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let watching = Watching::start(&daemon, &file);
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    daemon.signal("-KILL");
    daemon.wait();
    wait_for(&file, |found| found == Some(&*text));
    watching.stop();
    assert!(!file.exists());
    daemon.start_again();
}
