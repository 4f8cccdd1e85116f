use std::collections::BTreeSet;
#[cfg(unix)]
use std::os::unix::fs::symlink;

use notify::{Event, EventKind};
use tokio::time::timeout;

use super::watcher::is_relevant;
use super::*;

/// Reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(20);

fn files(paths: &[&Path]) -> Files {
    let mut files = Files::new();
    let stamps = paths
        .iter()
        .map(|path| (path.to_path_buf(), Stamp::of(path)));
    files.watch(stamps.collect());
    files
}

/// Returns a folder with a file in it.
fn config_file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, "1").unwrap();
    (folder, file)
}

/// Returns a folder, a directory in it, and a file in that.
#[cfg(unix)]
fn file_in_a_directory() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    let file = inner.join("config.toml");
    fs::create_dir(&inner).unwrap();
    fs::write(&file, "1").unwrap();
    (folder, inner, file)
}

async fn is_noticed(files: &mut Files) {
    timeout(PATIENCE, files.changed()).await.unwrap();
}

#[tokio::test]
async fn writes_renames_and_swaps_are_noticed() {
    let (folder, file) = config_file();
    let mut files = files(&[&file]);

    fs::write(&file, "2").unwrap();
    is_noticed(&mut files).await;

    let other = folder.path().join("new");
    fs::write(&other, "3").unwrap();
    fs::rename(&other, &file).unwrap();
    is_noticed(&mut files).await;

    fs::remove_file(&file).unwrap();
    is_noticed(&mut files).await;

    #[cfg(unix)]
    {
        symlink("a", &file).unwrap();
        is_noticed(&mut files).await;
        fs::write(folder.path().join("a"), "4").unwrap();
        is_noticed(&mut files).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn swapped_directory_behind_symlinks_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for version in ["v1", "v2"] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("secret"), version).unwrap();
    }
    symlink("v1", at("..data")).unwrap();
    symlink("..data/secret", at("secret")).unwrap();
    let secret = at("secret");
    let mut files = files(&[&secret]);
    symlink("v2", at("..tmp")).unwrap();
    fs::rename(at("..tmp"), at("..data")).unwrap();
    is_noticed(&mut files).await;
    fs::write(at("v2/secret"), "v3").unwrap();
    is_noticed(&mut files).await;
}

// On Windows a directory under watch can be neither removed nor moved at any time.
#[cfg(unix)]
#[tokio::test]
async fn directory_made_again_is_noticed() {
    let (_folder, inner, file) = file_in_a_directory();
    let mut files = files(&[&file]);
    for content in ["2", "3"] {
        fs::remove_dir_all(&inner).unwrap();
        is_noticed(&mut files).await;
        fs::create_dir(&inner).unwrap();
        fs::write(&file, content).unwrap();
        is_noticed(&mut files).await;
        fs::write(&file, "again").unwrap();
        is_noticed(&mut files).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn directory_moved_away_and_made_again_is_noticed() {
    let (folder, inner, file) = file_in_a_directory();
    let mut files = files(&[&file]);
    fs::write(&file, "2").unwrap();
    is_noticed(&mut files).await;
    fs::rename(&inner, folder.path().join("old")).unwrap();
    is_noticed(&mut files).await;
    fs::create_dir(&inner).unwrap();
    fs::write(&file, "3").unwrap();
    is_noticed(&mut files).await;
}

#[tokio::test]
async fn change_between_reading_and_watching_is_noticed() {
    let (_folder, file) = config_file();
    let before = Stamp::of(&file);
    fs::write(&file, "two").unwrap();
    let mut files = Files::new();
    files.watch(vec![(file, before)]);
    is_noticed(&mut files).await;
}

#[tokio::test]
async fn file_written_continuously_is_noticed() {
    let (_folder, file) = config_file();
    let never_quiet = Timing {
        quiet: Duration::from_secs(600),
        quiet_max: Duration::from_millis(50),
        ..TIMING
    };
    let mut files = Files::with_timing(never_quiet, true);
    files.watch(vec![(file.clone(), Stamp::of(&file))]);
    fs::write(&file, "2").unwrap();
    is_noticed(&mut files).await;
}

#[test]
fn reads_and_changes_of_other_files_are_ignored() {
    use notify::event::{AccessKind, Flag, ModifyKind};
    let ours = PathBuf::from("/etc/domo-token/config.toml");
    let names = BTreeSet::from([ours.clone()]);
    let written = EventKind::Modify(ModifyKind::Any);
    let about =
        |kind, path: &Path| is_relevant(&Event::new(kind).add_path(path.to_owned()), &names);
    assert!(about(written, &ours));
    assert!(!about(EventKind::Access(AccessKind::Any), &ours));
    assert!(!about(written, Path::new("/etc/domo-token/daemon.log")));
    let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
    assert!(is_relevant(&lost, &names), "events were lost");
}

#[tokio::test]
async fn change_without_events_is_noticed_by_polling() {
    let (_folder, file) = config_file();
    let often = Timing {
        poll: Duration::from_millis(1),
        ..TIMING
    };
    let mut files = Files::with_timing(often, false);
    files.watch(vec![(file.clone(), Stamp::of(&file))]);
    for content in ["two", "three"] {
        fs::write(&file, content).unwrap();
        is_noticed(&mut files).await;
    }
}

#[tokio::test]
async fn socket_change_is_distinguished_from_a_file_change() {
    let folder = tempfile::tempdir().unwrap();
    let [file, socket] = ["config", "run"].map(|name| {
        let directory = folder.path().join(name);
        fs::create_dir(&directory).unwrap();
        directory.join("watched")
    });
    let mut files = files(&[&file]);
    let mut lost = files.watch_socket(vec![socket.clone()]);
    fs::write(&socket, "1").unwrap();
    timeout(PATIENCE, lost.recv()).await.unwrap().unwrap();
    fs::write(&file, "1").unwrap();
    is_noticed(&mut files).await;
    // Messages come in the order of the events: one for the file would have been received.
    fs::remove_file(&socket).unwrap();
    timeout(PATIENCE, lost.recv()).await.unwrap().unwrap();
    let none = timeout(Duration::ZERO, files.changed()).await;
    assert!(none.is_err(), "the socket's removal is no change of a file");
}

#[cfg(unix)]
#[tokio::test]
async fn rename_above_the_directory_of_the_socket_is_noticed_without_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let above = folder.path().join("above");
    let socket = above.join("run").join("socket");
    fs::create_dir_all(above.join("run")).unwrap();
    // A directory that is moved away at the wrong moment counts as on a network file system, which is polled at `poll`.
    let often = Timing {
        poll: Duration::from_millis(1),
        poll_with_events: Duration::from_millis(1),
        ..TIMING
    };
    let mut files = Files::with_timing(often, true);
    let mut lost = files.watch_socket(vec![socket.clone()]);
    fs::write(&socket, "1").unwrap();
    timeout(PATIENCE, lost.recv()).await.unwrap().unwrap();
    fs::rename(&above, folder.path().join("old")).unwrap();
    timeout(PATIENCE, lost.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn ended_thread_is_restarted_without_missing_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let timing = Timing {
        poll: Duration::from_millis(1),
        ..TIMING
    };
    let mut files = Files::with_timing(timing, true);
    let mut lost = files.watch_socket(vec![folder.path().join("socket")]);
    files.watch(vec![(file.clone(), Stamp::of(&file))]);
    // As after a panic.
    files.send(Message::End);
    let restarted = async {
        tokio::select! {
            _ = lost.recv() => {}
            () = async { loop { files.changed().await } } => {}
        }
    };
    timeout(PATIENCE, restarted).await.unwrap();
    fs::write(&file, "1").unwrap();
    is_noticed(&mut files).await;
}
