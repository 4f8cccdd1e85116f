//! Each example of `docs/languages.md` that is not marked as not run, and the script of `docs/http.md`, with a daemon and
//! the sandbox. Examples whose language is not installed are skipped; with `DOMO_TOKEN_ALL_LANGUAGES` set, that is a
//! failure.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{CANARY_SECRET, Daemon, config_text, print_skip, token};
use crate::openapi::exchange::get;
use crate::recipes::runner::{FIRST_DATASET, Recipes, code_block};

const PAGE: &str = "docs/languages.md";

/// The examples that are run: the file, the command before its name, and a command that succeeds where the language and
/// its modules are installed.
const EXAMPLES: [(&str, &[&str], &[&str]); 6] = [
    ("Datasets.java", &["java"], &["javac", "--version"]),
    ("datasets.go", &["go", "run"], &["go", "version"]),
    (
        "datasets.R",
        &["Rscript", "--vanilla"],
        &["Rscript", "-e", "library(curl); library(jsonlite)"],
    ),
    ("datasets.rb", &["ruby"], &["ruby", "--version"]),
    ("datasets.php", &["php"], &["php", "-r", "curl_init();"]),
    ("datasets.pl", &["perl"], &["perl", "-MJSON::PP", "-e", "1"]),
];

/// The examples that the page marks as not run, because Debian does not package their language.
const NOT_RUN: [&str; 3] = ["Program.cs", "windows-pipe.cs", "datasets.ps1"];

/// Returns whether the probe of a language succeeds; otherwise prints that its example is skipped.
fn is_installed(probe: &[&str]) -> bool {
    let mut command = Command::new(probe[0]);
    command.args(&probe[1..]).stdin(Stdio::null());
    let installed = command.output().is_ok_and(|output| output.status.success());
    if !installed {
        assert!(
            env::var_os("DOMO_TOKEN_ALL_LANGUAGES").is_none(),
            "{probe:?} fails"
        );
        print_skip(format_args!(
            "no {} here: its example was not run",
            probe[0]
        ));
    }
    installed
}

/// Runs an example with a token, without a broker, and with a broker that does not have its scope set.
fn assert_example_works(name: &str) {
    let mut examples = EXAMPLES.iter();
    let (_, program, probe) = examples.find(|example| example.0 == name).unwrap();
    if !is_installed(probe) {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.write(name, &code_block(PAGE, name));
    let words = [program, &[script.to_str().unwrap()][..]].concat();
    let socket = recipes.daemon.socket();

    let (code, shown) = recipes.run(&words, &socket);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(FIRST_DATASET), "{shown}");
    let cached = token(&recipes.daemon.ask(&["data"]));
    for secret in [cached.as_str(), CANARY_SECRET] {
        assert!(!shown.contains(secret), "{name} shows a secret");
    }
    assert_eq!(recipes.statuses(), [200]);

    let none = recipes.folder.path().join("none.sock");
    let (code, shown) = recipes.run(&words, &none);
    assert!(code.is_some_and(|code| code != 0), "{code:?}: {shown}");

    let other = Daemon::start(&config_text(&recipes.sandbox, "[\"user\"]"));
    let (code, shown) = recipes.run(&words, &other.socket());
    assert!(code.is_some_and(|code| code != 0), "{code:?}: {shown}");
    let expected = detail(&other, "data");
    assert!(shown.contains(&expected), "{shown} instead of {expected}");
    assert_eq!(recipes.statuses(), [200], "nothing else was sent");
}

/// Returns the detail of the daemon's error for that scope set.
fn detail(daemon: &Daemon, scopes: &str) -> String {
    let response = get(&daemon.socket(), &format!("/v1/token/{scopes}"));
    let problem: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    problem["detail"].as_str().unwrap().to_owned()
}

#[test]
fn java_example_lists_datasets_and_prints_the_brokers_error() {
    assert_example_works("Datasets.java");
}

#[test]
fn go_example_lists_datasets_and_prints_the_brokers_error() {
    assert_example_works("datasets.go");
}

#[test]
fn r_example_lists_datasets_and_prints_the_brokers_error() {
    assert_example_works("datasets.R");
}

#[test]
fn ruby_example_lists_datasets_and_prints_the_brokers_error() {
    assert_example_works("datasets.rb");
}

#[test]
fn php_example_lists_datasets_and_prints_the_brokers_error() {
    assert_example_works("datasets.php");
}

#[test]
fn perl_example_lists_datasets_and_prints_the_brokers_error() {
    assert_example_works("datasets.pl");
}

#[test]
fn script_of_the_http_page_lists_datasets() {
    if !is_installed(&["curl", "--version"]) {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.write("datasets.sh", &code_block("docs/http.md", "datasets.sh"));
    let words = ["sh", script.to_str().unwrap()];
    let (code, shown) = recipes.run(&words, &recipes.daemon.socket());
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(FIRST_DATASET), "{shown}");
    // As the page states, a request without a token follows a failure of the first command.
    let none = recipes.folder.path().join("none.sock");
    let (code, shown) = recipes.run(&words, &none);
    assert!(code.is_some_and(|code| code != 0), "{code:?}: {shown}");
    assert_eq!(recipes.statuses(), [200, 401]);
}

#[test]
fn examples_of_the_page_are_run_or_marked_as_not_run() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = fs::read_to_string(path).unwrap();
    let tests = include_str!("languages.rs");
    for (name, ..) in EXAMPLES {
        let call = format!("assert_example_works(\"{name}\")");
        assert!(tests.contains(&call), "{name} has no test");
    }
    let mut names = Vec::new();
    for section in page.split("\n## ").skip(1) {
        let blocks = section.lines().filter_map(|line| line.strip_prefix("```"));
        let blocks = blocks.filter(|rest| !rest.is_empty());
        for block in blocks {
            let (_, name) = block.split_once(' ').expect("a file name");
            let is_marked = section.contains("\n\nNot run");
            assert_eq!(is_marked, NOT_RUN.contains(&name), "{name}");
            names.push(name);
        }
    }
    let mut expected: Vec<&str> = EXAMPLES.iter().map(|example| example.0).collect();
    expected.extend(NOT_RUN);
    expected.sort_unstable();
    names.sort_unstable();
    assert_eq!(names, expected);
}
