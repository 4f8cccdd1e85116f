use std::fs::OpenOptions;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat};
use tempfile::TempDir;

use super::*;

/// Returns a pipe with a name, and its other end.
fn pipe() -> (TempDir, PathBuf, File) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut options = OpenOptions::new();
    options.read(true);
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let reader = options.open(&path).unwrap();
    (folder, path, reader)
}

/// Returns what is in the pipe.
fn drain(pipe: &mut File) -> String {
    let mut bytes = Vec::new();
    let end = pipe.read_to_end(&mut bytes).unwrap_err();
    assert_eq!(end.kind(), io::ErrorKind::WouldBlock);
    String::from_utf8(bytes).unwrap()
}

fn note(audit: &Audit, scope: &str) {
    audit.record(&Caller::default(), None, scope, "served", None);
}

#[test]
fn lines_past_the_backlog_are_lost_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, _writer) = Audit::open(&folder.path().join("audit")).unwrap();
    for _ in 0..MAX_QUEUED {
        note(&audit, "data");
    }
    assert_eq!(audit.lost(), 0);
    note(&audit, "data");
    assert_eq!(audit.lost(), 1);
    assert_eq!(MAX_QUEUED, 4096, "docs/config.md says so");
}

#[test]
fn incomplete_line_damages_no_other_line_and_complete_ones_are_kept() {
    let (_folder, path, mut reader) = pipe();
    let (audit, mut writer) = Audit::open(&path).unwrap();
    // So that it is full as a disk is, within a line.
    fcntl_setfl(&writer.file, OFlags::APPEND | OFlags::NONBLOCK).unwrap();
    let count = 2_000;
    let lines: Vec<String> = (0..count).map(|line| format!("{line:99}\n")).collect();
    let (whole, error) = writer.write(lines.concat());
    let kept = usize::try_from(whole).unwrap();
    assert_eq!(error.as_ref().unwrap().kind(), io::ErrorKind::WouldBlock);
    writer.shared.queued.store(count, Ordering::Relaxed);
    writer.report(count, whole, error);
    assert_eq!(audit.lost(), count - whole);
    let before = drain(&mut reader);
    let (complete, torn) = before.split_at(kept * 100);
    assert_eq!(complete, lines[..kept].concat());
    assert!(!torn.is_empty() && lines[kept].starts_with(torn), "{torn}");
    for _ in 0..2 {
        let (whole, error) = writer.write("next\nand next\n".to_owned());
        assert_eq!((whole, error.is_none()), (2, true));
    }
    assert_eq!(drain(&mut reader), "\nnext\nand next\nnext\nand next\n");
}

#[test]
fn incomplete_line_of_an_earlier_process_is_not_continued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    for (before, after) in [
        ("", "next\n"),
        ("{}\n", "{}\nnext\n"),
        ("{}\n{", "{}\n{\nnext\n"),
    ] {
        fs::write(&path, before).unwrap();
        let (_audit, mut writer) = Audit::open(&path).unwrap();
        assert_eq!(writer.write("next\n".to_owned()).0, 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), after);
    }
    // Nor is one in a file that has taken its place.
    let (_audit, mut writer) = Audit::open(&path).unwrap();
    fs::rename(&path, folder.path().join("old")).unwrap();
    fs::write(&path, "{").unwrap();
    assert_eq!(writer.write("next\n".to_owned()).0, 1);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\nnext\n");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_pipe_that_is_not_read() {
    let (_folder, path, reader) = pipe();
    let (audit, writer) = Audit::open(&path).unwrap();
    let scope = "s".repeat(1024);
    for _ in 0..MAX_QUEUED {
        note(&audit, &scope);
    }
    let finish = audit.finish(tokio::spawn(writer.run()));
    let finished = timeout(Duration::from_secs(30), finish).await;
    // Which ends the write.
    drop(reader);
    finished.unwrap();
    assert_eq!(audit.lost(), 4096);
}

#[test]
fn pipe_without_a_reader_is_an_immediate_error() {
    let (_folder, path, reader) = pipe();
    drop(reader);
    assert!(Audit::open(&path).is_err());
}

/// Returns the result of `check` of the path, which is compared with the error of a writer.
fn refusal(path: &Path) -> Option<String> {
    let checked = check(path).err().map(|error| error.to_string());
    let opened = Audit::open(path).err().map(|error| error.to_string());
    assert_eq!(checked, opened, "{}", path.display());
    checked
}

#[test]
fn path_that_others_could_redirect_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("config.toml"), "").unwrap();
    symlink("config.toml", at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    for name in ["link", "dangling"] {
        let said = refusal(&at(name)).unwrap();
        assert!(said.starts_with("is a symlink"), "{said}");
    }
    assert_eq!(fs::read_to_string(at("config.toml")).unwrap(), "");
    assert!(!at("nowhere").exists());
    for path in [folder.path(), Path::new("/dev/null")] {
        let said = refusal(path).unwrap();
        assert!(said.contains("neither a regular file nor a FIFO"), "{said}");
    }
    fs::write(at("open"), "").unwrap();
    fs::set_permissions(at("open"), fs::Permissions::from_mode(0o662)).unwrap();
    let said = refusal(&at("open")).unwrap();
    assert!(said.contains("run: chmod o-w"), "{said}");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let said = refusal(&at("new")).unwrap();
    assert!(said.contains("lets others replace files in it"), "{said}");
    assert!(!at("new").exists());
    // In a sticky one nobody can replace what is ours.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    check(&at("new")).unwrap();
    assert!(!at("new").exists(), "a check makes nothing");
    Audit::open(&at("new")).unwrap();
}

#[test]
fn file_or_fifo_of_another_user_is_an_error() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_folder, path, _reader) = pipe();
    assert_eq!(refusal(&path), None);
    chown(&path, Some(4242), None).unwrap();
    assert!(refusal(&path).unwrap().contains("belongs to user 4242"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit");
    fs::write(&file, "").unwrap();
    assert_eq!(refusal(&file), None);
    chown(&file, Some(4242), None).unwrap();
    assert!(refusal(&file).unwrap().contains("belongs to user 4242"));
}

#[test]
fn file_that_replaces_the_open_one_is_checked_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (_audit, mut writer) = Audit::open(&at("audit")).unwrap();
    assert_eq!(writer.write("one\n".to_owned()).0, 1);
    fs::rename(at("audit"), at("old")).unwrap();
    fs::write(at("config.toml"), "").unwrap();
    symlink("config.toml", at("audit")).unwrap();
    let (whole, error) = writer.write("two\n".to_owned());
    assert_eq!(whole, 0);
    assert!(error.unwrap().to_string().contains("symlink"));
    assert_eq!(fs::read_to_string(at("config.toml")).unwrap(), "");
    fs::remove_file(at("audit")).unwrap();
    assert_eq!(writer.write("three\n".to_owned()).0, 1);
    assert_eq!(fs::read_to_string(at("audit")).unwrap(), "three\n");
}
