//! What must not be found where it doesn't belong: secrets and tokens, by marks that they bear.
//!
//! All tests run under it: whatever a [`super::Daemon`] has said, written or shown of itself is
//! searched when it ends.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// In every secret of these tests: as it is, and in base64 as it is sent, for which there are three
/// ways to fall.
const SECRETS: [&str; 4] = [
    "c4nary",
    "YzRuYXJ5LXNlY3Jld",
    "M0bmFyeS1zZWNyZX",
    "jNG5hcnktc2VjcmV0",
];

/// In every token of the sandbox, which are JWTs of one algorithm.
const TOKEN: &str = "eyJhbGciOi";

fn marks() -> impl Iterator<Item = &'static str> {
    SECRETS.into_iter().chain([TOKEN])
}

/// No secret and no token.
#[track_caller]
pub(crate) fn assert_none(source: &str, text: &str) {
    for mark in marks() {
        let shown = text.lines().find(|line| line.contains(mark));
        assert_eq!(shown, None, "a secret is in {source}");
    }
}

/// What lies in a folder, by name.
pub(crate) fn names(folder: &Path) -> BTreeSet<OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// No token in any file of the folder, and no secret in those that `initial` lacks, but for files
/// that a test keeps them in: `token…`, `….secret`, `….toml`.
#[track_caller]
pub(crate) fn assert_none_in_files(folder: &Path, initial: &BTreeSet<OsString>) {
    for name in names(folder) {
        let shown = name.to_string_lossy().into_owned();
        let path = folder.join(&name);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|stat| stat.is_file());
        if !is_file || shown.starts_with("token") {
            continue;
        }
        let bytes = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let holds_secrets = [".secret", ".toml"].iter().any(|end| shown.ends_with(end));
        if initial.contains(&name) || holds_secrets {
            assert!(!text.contains(TOKEN), "a token is in the file {shown}");
        } else {
            assert_none(&format!("the file {shown}"), &text);
        }
    }
}

/// None in what other processes may see of a process: its arguments, its environment unless the
/// test `gave` it a secret there, its name. A daemon's environment is root's alone to see.
#[track_caller]
pub(crate) fn assert_none_in_process(pid: u32, gave: bool) {
    for (name, may_hold) in [("cmdline", false), ("environ", gave), ("comm", false)] {
        let read = fs::read(format!("/proc/{pid}/{name}"));
        if let Err(error) = &read
            && error.kind() == ErrorKind::PermissionDenied
        {
            println!("skipped: /proc/PID/{name} of the daemon can't be read, nor searched");
        }
        // A process that has ended shows nothing any more.
        let bytes = read.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replace('\0', "\n");
        if !may_hold {
            assert_none(&format!("/proc/PID/{name}"), &text);
        }
    }
}

/// How often `what` is in the memory of the process of that number. `None` if we may not look.
pub(crate) fn found_in_memory(pid: u32, what: &[u8]) -> Option<usize> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut found = 0;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, mode) = (fields.next()?, fields.next()?);
        if !mode.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-')?;
        let from = u64::from_str_radix(from, 16).ok()?;
        let to = u64::from_str_radix(to, 16).ok()?;
        let mut bytes = vec![0; usize::try_from(to - from).ok()?];
        // What can't be read, such as the kernel's own pages, holds nothing of ours.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            found += bytes
                .windows(what.len())
                .filter(|bytes| *bytes == what)
                .count();
        }
    }
    Some(found)
}
