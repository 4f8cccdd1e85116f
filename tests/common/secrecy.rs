//! Searches for secrets and tokens where they must not be.
//!
//! The output, files and process of each [`super::Daemon`] are searched when it ends.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::print_skip;

/// Parts of the secrets of all tests: as text, and as base64 at each of the three alignments.
const SECRETS: [&str; 4] = [
    "c4nary",
    "YzRuYXJ5LXNlY3Jld",
    "M0bmFyeS1zZWNyZX",
    "jNG5hcnktc2VjcmV0",
];

/// The start of each token of the sandbox: its tokens are JWTs with one algorithm.
const TOKEN: &str = "eyJhbGciOi";

fn marks() -> impl Iterator<Item = &'static str> {
    SECRETS.into_iter().chain([TOKEN])
}

/// Fails if the text contains a secret or a token.
#[track_caller]
pub(crate) fn assert_none(source: &str, text: &str) {
    for mark in marks() {
        let shown = text.lines().find(|line| line.contains(mark));
        assert_eq!(shown, None, "a secret is in {source}");
    }
}

/// Returns the names in a folder.
pub(crate) fn names(folder: &Path) -> BTreeSet<OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// Fails if a file of the folder contains a token, or one that is not in `initial` a secret. Files that keep them
/// by design are ignored: `token…`, `….secret`, `….toml`.
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

/// Fails if a secret is in what other processes can read of a process: its arguments, name, and environment, unless
/// the test `gave` it a secret there. Only root can read a daemon's environment.
#[track_caller]
pub(crate) fn assert_none_in_process(pid: u32, gave: bool) {
    for (name, may_hold) in [("cmdline", false), ("environ", gave), ("comm", false)] {
        let read = fs::read(format!("/proc/{pid}/{name}"));
        if let Err(error) = &read
            && error.kind() == ErrorKind::PermissionDenied
        {
            print_skip(format_args!(
                "/proc/PID/{name} of the daemon can't be read, nor searched"
            ));
        }
        // The files of a process that has ended are empty.
        let bytes = read.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replace('\0', "\n");
        if !may_hold {
            assert_none(&format!("/proc/PID/{name}"), &text);
        }
    }
}

/// Returns how often `what` is in the memory of a process, or `None` without permission to read it.
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
        // Some pages, such as the kernel's, cannot be read.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            found += bytes
                .windows(what.len())
                .filter(|bytes| *bytes == what)
                .count();
        }
    }
    Some(found)
}
