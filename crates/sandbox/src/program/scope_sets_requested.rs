//! Which scope sets the command requested, by the broker's audit: its error for one that is not configured cannot name
//! the option of `run` that adds it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::thread::{self, JoinHandle};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use super::config::DEFAULT_CLIENT;

/// The audit in the broker's directory: a FIFO, so that it needs no space.
pub(super) const AUDIT: &str = "audit";

/// The `outcome` in the audit of a scope set that is not configured.
const UNKNOWN: &str = "unknown_scope";

/// Reads the audit while the command runs.
pub(super) struct AuditReader {
    fifo: File,
    thread: JoinHandle<Requested>,
}

/// The scope sets of the default client that were requested.
#[derive(Debug, Default)]
pub(super) struct Requested {
    all: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

impl AuditReader {
    /// Creates the FIFO, and starts the thread that reads it.
    pub(super) fn start(directory: &Path) -> io::Result<Self> {
        let path = directory.join(AUDIT);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        // With a writer of its own the FIFO has no end before `finish`.
        let fifo = File::options().read(true).write(true).open(path)?;
        let lines = BufReader::new(fifo.try_clone()?).lines();
        let read = move || {
            let mut requested = Requested::default();
            for line in lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
            {
                requested.add(&line);
            }
            requested
        };
        let thread = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(read)?;
        Ok(Self { fifo, thread })
    }

    /// Returns what was requested, once the broker has stopped.
    pub(super) fn finish(mut self) -> Requested {
        // The first newline ends a line that the broker could not complete.
        let ended = self.fifo.write_all(b"\n\n");
        // A panic was printed.
        let requested = ended.ok().and_then(|()| self.thread.join().ok());
        requested.unwrap_or_default()
    }
}

impl Requested {
    /// Adds a line of the audit.
    fn add(&mut self, line: &str) {
        let Ok(entry) = serde_json::from_str::<Value>(line) else {
            return;
        };
        let text = |key| entry.get(key).and_then(Value::as_str);
        let (Some(DEFAULT_CLIENT), Some(scope)) = (text("client"), text("scope")) else {
            return;
        };
        if !self.all.contains(scope) {
            self.all.insert(scope.to_owned());
        }
        if text("outcome") == Some(UNKNOWN) {
            self.unknown.insert(scope.to_owned());
        }
    }

    /// Returns what to do about scope sets that were requested in vain.
    pub(super) fn advice(&self) -> Option<String> {
        if self.unknown.is_empty() {
            return None;
        }
        let quoted = self.unknown.iter().map(|scope| format!("{scope:?}"));
        let unknown = quoted.collect::<Vec<_>>().join(", ");
        let all = self.all.iter().map(String::as_str);
        let all = all.collect::<Vec<_>>().join(";");
        Some(format!(
            "the command requested scope sets that the broker does not have: {unknown}; \
             add them with --tokens '{all}'"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_all_scope_sets_that_the_command_needs() {
        let mut requested = Requested::default();
        let line = |client, scope, outcome| {
            serde_json::json!({"client": client, "scope": scope, "outcome": outcome}).to_string()
        };
        requested.add(&line("sandbox", "data", "served"));
        requested.add(&line("other", "user", UNKNOWN));
        requested.add("no JSON");
        assert_eq!(requested.advice(), None);
        requested.add(&line("sandbox", "audit buzz", UNKNOWN));
        let advice = requested.advice().unwrap();
        assert!(advice.ends_with("have: \"audit buzz\"; add them with --tokens 'audit buzz;data'"));
    }
}
