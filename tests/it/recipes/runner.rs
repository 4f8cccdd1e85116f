//! Runs recipes against a daemon and the sandbox.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{CANARY_SECRET, Daemon, parts, print_skip, sandbox_and_daemon, token};
use domo_sandbox::Sandbox;

pub(super) const DOMO: &str = "https://api.domo.com";

/// The name of the sandbox's first dataset.
pub(crate) const FIRST_DATASET: &str = "Leonhard Euler Party";

/// Returns the recipe for the file of that name from the document.
pub(super) fn recipe(name: &str) -> String {
    code_block("docs/recipes.md", name)
}

/// Returns the code block of a page for the file of that name.
pub(crate) fn code_block(page: &str, name: &str) -> String {
    let text = fs::read_to_string(in_repository(page)).unwrap();
    let mut lines = text.lines();
    let begins = |line: &&str| line.starts_with("```") && line.ends_with(&format!(" {name}"));
    assert!(lines.by_ref().any(|line| begins(&line)), "no {name}");
    let body = lines.take_while(|line| *line != "```");
    body.flat_map(|line| [line, "\n"]).collect()
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A broker, its sandbox, and a folder to run recipes in.
pub(crate) struct Recipes {
    pub(crate) sandbox: Sandbox,
    pub(crate) daemon: Daemon,
    pub(crate) folder: tempfile::TempDir,
}

impl Recipes {
    pub(crate) fn new() -> Self {
        // The floor between two requests of a scope set is 2 s, so that a renewal waits no longer.
        let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(40));
        token(&daemon.ask(&["data"]));
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().join("node_modules");
        fs::create_dir(&modules).unwrap();
        symlink(in_repository("js"), modules.join("domo-token")).unwrap();
        Self {
            sandbox,
            daemon,
            folder,
        }
    }

    /// Writes a file in which Domo's address is replaced by the sandbox's.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let host = self
            .sandbox
            .url("")
            .trim_start_matches("http://")
            .to_owned();
        let pydomo = format!("api_host=\"{host}\", use_https=False");
        let text = text.replace(DOMO, &self.sandbox.url(""));
        let text = text.replace("api_host=\"api.domo.com\"", &pydomo);
        fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn recipe(&self, name: &str) -> PathBuf {
        self.write(name, &recipe(name))
    }

    /// A command in the folder, with a minimal environment in which Python and Node find the packages.
    pub(crate) fn command(&self, words: &[&str], socket: &Path) -> Command {
        let helper = Path::new(env!("CARGO_BIN_EXE_domo-token"));
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .current_dir(&self.folder)
            .env_clear()
            .env(
                "PATH",
                format!("{}:{path}", helper.parent().unwrap().display()),
            )
            .env("HOME", self.folder.path())
            .env("PYTHONPATH", in_repository("python/src"))
            // Without this, Python would write its cache into the source tree.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("DOMO_TOKEN_SOCKET", socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command. Returns its exit code, its output, and the file that it wrote.
    pub(crate) fn run(&self, words: &[&str], socket: &Path) -> (Option<i32>, String) {
        let output = self.command(words, socket).output().unwrap();
        let (code, stdout, stderr) = parts(&output);
        let left = self.folder.path().join("datasets.json");
        let left = fs::read_to_string(left).unwrap_or_default();
        (code, stdout + &stderr + &left)
    }

    pub(crate) fn statuses(&self) -> Vec<u16> {
        let calls = self.sandbox.resource_calls();
        calls.iter().map(|call| call.status).collect()
    }

    /// Checks what the document promises about all recipes.
    pub(super) fn assert_works(&self, words: &[&str]) {
        self.assert_sends_a_token(words);
        let trace = self.assert_no_token_in_arguments(words);
        assert!(trace.is_none_or(|trace| trace.contains("domo-token")));
    }

    /// Checks the same of a program that uses a package instead of the helper.
    pub(super) fn assert_works_without_the_helper(&self, words: &[&str]) {
        self.assert_sends_a_token(words);
        let trace = self.assert_no_token_in_arguments(words);
        assert!(trace.is_none_or(|trace| !trace.contains("debug/domo-token")));
    }

    fn assert_sends_a_token(&self, words: &[&str]) {
        let socket = self.daemon.socket();
        let before = self.statuses().len();
        let (code, shown) = self.run(words, &socket);
        assert_eq!(code, Some(0), "{words:?}: {shown}");
        assert!(shown.contains(FIRST_DATASET), "{words:?}: {shown}");
        let cached = token(&self.daemon.ask(&["data"]));
        let kept = [cached.as_str(), CANARY_SECRET];
        assert!(!kept.iter().any(|secret| shown.contains(secret)), "{shown}");
        let calls = self.statuses().split_off(before);
        assert!(!calls.is_empty() && calls.iter().all(|status| *status == 200));
        let _ = fs::remove_file(self.folder.path().join("datasets.json"));
        self.assert_fails_without_a_broker(words);
    }

    pub(super) fn assert_fails_without_a_broker(&self, words: &[&str]) {
        let before = self.statuses().len();
        let none = self.folder.path().join("none.sock");
        // Without a broker it would wait.
        let without_wait: Vec<String> = words
            .iter()
            .map(|word| word.replace("--wait ", ""))
            .collect();
        let without_wait: Vec<&str> = without_wait.iter().map(String::as_str).collect();
        let (code, shown) = self.run(&without_wait, &none);
        assert!(
            code != Some(0) && code.is_some(),
            "{words:?}: {code:?} {shown}"
        );
        assert!(shown.contains("no broker listens"), "{words:?}: {shown}");
        assert_eq!(self.statuses().len(), before, "{words:?} sent something");
    }

    /// Returns the trace of the programs that were started, if there is a tracer.
    fn assert_no_token_in_arguments(&self, words: &[&str]) -> Option<String> {
        let cached = token(&self.daemon.ask(&["data"]));
        let trace = self.folder.path().join("trace");
        let to = trace.to_str().unwrap();
        let options = ["strace", "-f", "-s", "9999", "-e", "trace=execve", "-o", to];
        let probe = Command::new("strace")
            .args(["-o", "/dev/null", "true"])
            .output();
        if !probe.is_ok_and(|output| output.status.success()) {
            print_skip(format_args!(
                "no strace here: {words:?} was not searched for its arguments"
            ));
            return None;
        }
        let (code, shown) = self.run(&[&options[..], words].concat(), &self.daemon.socket());
        assert_eq!(code, Some(0), "{words:?}: {shown}");
        let _ = fs::remove_file(self.folder.path().join("datasets.json"));
        let trace = fs::read_to_string(trace).unwrap();
        assert!(trace.contains(words[0]), "{trace}");
        assert!(!trace.contains(&cached), "{words:?} shows its token");
        Some(trace)
    }
}

/// Returns whether a tool is installed; otherwise prints that its recipe is skipped.
pub(super) fn is_installed(tool: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::null());
    let here = command.output().is_ok_and(|output| output.status.success());
    if !here {
        print_skip(format_args!(
            "no {tool} {arguments:?} here: its recipe was not tried"
        ));
    }
    here
}
