//! The format of log lines: logfmt text and JSON, with the same fields.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::common::{
    Daemon, HOUR, config_text, folder, parts, print_skip, run_to_end, sandbox, token,
};
use domo_sandbox::{Fault, Sandbox};
use serde_json::Value;

/// A log line without its time, by the names that JSON has.
type Line = BTreeMap<String, String>;

/// Parses the rest of a quoted value. Returns it and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text.chars();
    loop {
        match rest.next()? {
            '"' => return Some((value, rest.as_str())),
            '\\' => match rest.next()? {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                'u' => {
                    let code: String = rest.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&code, 16).ok()?;
                    value.push(char::from_u32(code)?);
                }
                c @ ('"' | '\\') => value.push(c),
                _ => return None,
            },
            c => value.push(c),
        }
    }
}

/// Parses one value. Returns it and what follows.
fn value(text: &str) -> Option<(String, &str)> {
    let is_plain = |c: char| c > ' ' && !matches!(c, '=' | '"');
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, rest) = unquote(quoted)?;
        let is_escaped = text[..text.len() - rest.len()].contains('\\');
        let needs_quotes = matches!(value.as_str(), "" | "null") || !value.chars().all(is_plain);
        return (needs_quotes || is_escaped).then_some((value, rest));
    }
    let end = text.find(' ').unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    let is_bare = !value.is_empty() && value.chars().all(is_plain);
    is_bare.then(|| (value.to_owned(), rest))
}

/// Parses a line of logfmt strictly: names without quotes, each once, and quotes only where they are needed.
fn parse_logfmt(line: &str) -> Option<Vec<(String, String)>> {
    let mut parsed: Vec<(String, String)> = Vec::new();
    let mut rest = line;
    loop {
        let (name, after) = rest.split_once('=')?;
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let is_new = parsed.iter().all(|(other, _)| other != name);
        if name.is_empty() || !name.chars().all(is_name) || !is_new {
            return None;
        }
        let (value, after) = value(after)?;
        parsed.push((name.to_owned(), value));
        match after.strip_prefix(' ') {
            Some(after) => rest = after,
            None => return after.is_empty().then_some(parsed),
        }
    }
}

/// Parses a line and gives its parts the names and the form that they have in JSON.
fn parse_text(line: &str) -> Option<Line> {
    let mut fields = parse_logfmt(line)?.into_iter();
    let mut part = |expected| fields.next().filter(|(name, _)| name == expected);
    let (time, level, message) = (part("time")?.1, part("level")?.1, part("msg")?.1);
    let is_time = time.ends_with('Z') && time.contains('T');
    let is_level = ["error", "warn", "info", "debug", "trace"].contains(&level.as_str());
    let mut parsed: Line = fields.collect();
    parsed.insert("level".to_owned(), level.to_uppercase());
    parsed.insert("message".to_owned(), message);
    (is_time && is_level).then_some(parsed)
}

/// Parses lines with an independent logfmt parser, and checks that it quotes their values in the same way;
/// `None`, with a notice, where it is not installed.
fn parsed_by_python(lines: &str) -> Option<Vec<Vec<(String, String)>>> {
    const SCRIPT: &str = "\
import json, sys
from logfmtkv import parse_pairs, serialize_pairs
lines = sys.stdin.buffer.read().decode().split('\\n')[:-1]
parsed = [parse_pairs(line, strict=True) for line in lines]
for line, pairs in zip(lines, parsed):
    assert '\\\\u' in line or serialize_pairs(pairs) == line, line
json.dump(parsed, sys.stdout)
";
    // Where `.ci/log-parser` installs it. Python searches its own directories after that.
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/python");
    let python = |script: &str| {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &tools).args(["-c", script]);
        command
    };
    let has_parser = python("import logfmtkv").stderr(Stdio::null()).status();
    if !has_parser.is_ok_and(|status| status.success()) {
        print_skip("no independent parser reads the log; to install one, run: .ci/log-parser");
        return None;
    }
    let mut child = python(SCRIPT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = lines.to_owned();
    let writer = thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(
        output.status.success(),
        "logfmtkv rejects the log:\n{lines}"
    );
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn parse_json(line: &str) -> Option<Line> {
    let line: BTreeMap<String, Value> = serde_json::from_str(line).ok()?;
    let fields = line.into_iter().filter(|(name, _)| name != "timestamp");
    let text = |value: Value| {
        let string = value.as_str().map(str::to_owned);
        string.unwrap_or_else(|| value.to_string())
    };
    Some(fields.map(|(name, value)| (name, text(value))).collect())
}

/// Runs a daemon with the config in `home` through events that are logged, and returns its log.
fn run(sandbox: &Sandbox, home: &Path, format: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Daemon::command_at(home, &folder.path().join("broker.sock"));
    command.args(["--log-format", format]);
    // The warning about it has a `=` and no quotes.
    command.env("RUST_LOG", "my_app=trace");
    let config = home.join("config.toml");
    let good = fs::read_to_string(&config).unwrap();
    let write = |text: &str| {
        let next = home.join("next");
        fs::write(&next, text).unwrap();
        fs::rename(&next, &config).unwrap();
    };
    let mut daemon = Daemon::start_as(command, folder);
    token(&daemon.ask(&["--wait", "data user"]));
    for arguments in [&["data\" y=1"][..], &["-c", "x\" y=1", "data"]] {
        let (code, ..) = parts(&daemon.ask(arguments));
        assert_ne!(code, Some(0));
    }
    write("no = \"config\"\n");
    daemon.signal("-HUP");
    daemon.wait_for_log("unknown key");
    let words = "a=b \" y=1 \u{1b}[31m\nz";
    sandbox.always(Fault::oauth_error(401, "invalid_client", words));
    write(&good.replace("[\"data user\"]", "[\"data user\", \"user\"]"));
    daemon.signal("-HUP");
    daemon.wait_for_log("denied");
    sandbox.always(Fault::default());
    daemon.signal("-HUP");
    daemon.wait_for_log("token obtained after failures");
    write(&good);
    daemon.signal("-HUP");
    daemon.wait_for_log("client scope sets changed");
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0));
    log
}

#[test]
fn every_line_of_text_parses_to_the_fields_of_its_json_form() {
    let sandbox = sandbox(HOUR);
    let level = "[log]\nlevel = \"trace\"\n";
    let folder = folder(&format!(
        "{level}{}",
        config_text(&sandbox, "[\"data user\"]")
    ));
    let [text, json] = ["text", "json"].map(|format| run(&sandbox, folder.path(), format));
    if let Some(parsed) = parsed_by_python(&text) {
        let ours: Option<Vec<_>> = text.lines().map(parse_logfmt).collect();
        assert_eq!(Some(parsed), ours);
    }
    let parsed = |log: &str, parse: fn(&str) -> Option<Line>| -> Vec<Line> {
        let parse = |line| parse(line).unwrap_or_else(|| panic!("{line}"));
        log.lines().map(parse).collect()
    };
    let (mut text, mut json) = (parsed(&text, parse_text), parsed(&json, parse_json));
    // Whether files are read again while the config is invalid depends on timing.
    for lines in [&mut text, &mut json] {
        lines.retain(|line| !line["message"].starts_with("config rejected again: "));
    }
    let messages = |lines: &[Line]| -> BTreeSet<_> {
        lines.iter().map(|line| line["message"].clone()).collect()
    };
    let both = messages(&json);
    assert_eq!(messages(&text), both);
    for c in ['=', '"'] {
        assert!(both.iter().any(|message| message.contains(c)), "{both:#?}");
    }
    let names = |lines: &[Line]| -> BTreeSet<_> {
        let of = |line: &Line| {
            let names: Vec<_> = line.keys().cloned().collect();
            (line["message"].clone(), names)
        };
        lines.iter().map(of).collect()
    };
    assert_eq!(names(&text), names(&json));
    // What is the same in each run.
    let stable = |lines: &[Line]| -> BTreeSet<Line> {
        let names = [
            "level", "message", "client", "clients", "scope", "what", "error",
        ];
        let of = |line: &Line| {
            let fields = line
                .iter()
                .filter(|(name, _)| names.contains(&name.as_str()));
            fields
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        lines.iter().map(of).collect()
    };
    assert_eq!(stable(&text), stable(&json));
    let scopes: BTreeSet<_> = text.iter().filter_map(|line| line.get("scope")).collect();
    assert!(scopes.contains(&"data user".to_owned()), "{scopes:?}");
    let rejected: BTreeSet<_> = json.iter().filter_map(|line| line.get("what")).collect();
    assert!(!rejected.is_empty(), "{json:#?}");
}

#[test]
fn final_error_of_the_daemon_is_json_when_the_log_is() {
    let sandbox = sandbox(HOUR);
    for (config, level, code) in [
        ("no = \"config\"\n".to_owned(), "info", 78),
        (config_text(&sandbox, "[\"data\"]"), "nosuch", 2),
        (config_text(&sandbox, "[\"data\"]"), "off", 78),
    ] {
        let folder = folder(&config);
        if code == 78 {
            fs::remove_file(folder.path().join("acme.secret")).unwrap();
        }
        let mut command = Daemon::command_of_config(folder.path());
        command.args(["--log-format", "json", "--log", level]);
        let (found, stderr) = run_to_end(command);
        assert_eq!(found, Some(code), "{stderr}");
        let last = stderr.lines().last().unwrap();
        let line: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{stderr}"));
        assert_eq!(line["level"], "ERROR", "{line}");
        assert!(
            line["timestamp"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn strict_parser_rejects_what_is_not_logfmt() {
    for line in [
        "started socket=x",
        "2026-11-24T10:00:00Z level=info msg=started",
        "msg=a b",
        "msg=\"a b",
        "msg=\"a\\x\"",
        "msg=\"a b\"c=1",
        "msg=a  c=1",
        "msg=a=b",
        "msg=",
        "msg=a msg=b",
        "msg=\"started\"",
        "msg=null\"",
        " msg=a",
        "msg=a ",
    ] {
        assert_eq!(parse_logfmt(line), None, "{line}");
    }
    let parsed = parse_logfmt("msg=\"a \\\"b\\\" \\u001b\" c=1").unwrap();
    let expected = [("msg", "a \"b\" \u{1b}"), ("c", "1")];
    assert_eq!(
        parsed,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}
