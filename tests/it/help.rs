//! The help of both programs in the width of what shows it.

use std::process::{Command, Stdio};

use crate::common::parts;

const HELPER: &str = env!("CARGO_BIN_EXE_domo-token");
const DAEMON: &str = env!("CARGO_BIN_EXE_domo-tokend");

fn help(program: &str, arguments: &[&str], columns: Option<&str>) -> String {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(columns.map(|columns| ("COLUMNS", columns)))
        .stdin(Stdio::null())
        .args(arguments);
    let (code, stdout, stderr) = parts(&command.output().unwrap());
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    stdout
}

#[test]
fn help_is_wrapped_at_the_width_and_at_80_columns_where_none_is_known() {
    for (columns, width) in [(None, 80), (Some("70"), 70), (Some("100"), 100)] {
        for (program, arguments) in [
            (DAEMON, &["--help"][..]),
            (DAEMON, &["-h"]),
            (DAEMON, &["check", "--help"]),
            (DAEMON, &["init", "--help"]),
            (DAEMON, &["app", "add", "--help"]),
            (HELPER, &["--help"]),
            (HELPER, &["exec", "--help"]),
            (HELPER, &["watch", "--help"]),
            (HELPER, &["status", "--help"]),
        ] {
            let text = help(program, arguments, columns);
            // Lines to be copied stay whole.
            let wrapped = text.lines().filter(|line| {
                let start = line.trim_start();
                !start.starts_with("domo-token ") && !start.starts_with("curl ")
            });
            let wrapped = wrapped.filter(|line| !line.starts_with("Usage: "));
            if width >= 80 {
                let longest = text.lines().map(|line| line.chars().count()).max();
                assert!(longest <= Some(width), "{arguments:?}: {longest:?}: {text}");
            }
            for line in wrapped.clone() {
                let length = line.chars().count();
                assert!(length <= width, "{arguments:?}: {length}: {line}");
            }
            let longest = wrapped.map(|line| line.chars().count()).max().unwrap();
            assert!(longest + 10 > width, "{arguments:?} at {width}: {longest}");
        }
    }
    let wide = help(DAEMON, &["--help"], Some("200"));
    assert_eq!(wide, help(DAEMON, &["--help"], Some("100")));
}

#[test]
fn help_begins_with_an_imperative() {
    for (program, commands) in [
        (DAEMON, &["", "check", "init", "app"][..]),
        (
            HELPER,
            &[
                "",
                "exec",
                "watch",
                "status",
                "completions",
                "help",
                "version",
            ],
        ),
    ] {
        for command in commands {
            let mut arguments = vec![*command, "--help"];
            arguments.retain(|argument| !argument.is_empty());
            let text = help(program, &arguments, None);
            let verb = text.split_whitespace().next().unwrap();
            assert!(!verb.ends_with('s'), "{arguments:?}: {verb}");
        }
    }
}
