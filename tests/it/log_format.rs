//! The format of log lines: logfmt text and JSON, with the same fields.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::common::{Daemon, HOUR, config_text, folder, parts, run_to_end, sandbox, token};
use domo_sandbox::{Fault, Sandbox};
use serde_json::Value;

/// A log line; the parts outside of fields are under `message` and `level`.
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
    if let Some(quoted) = text.strip_prefix('"') {
        return unquote(quoted);
    }
    let end = text.find(' ').unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    let is_plain = !value.is_empty() && !value.contains(['"', '=']);
    is_plain.then(|| (value.to_owned(), rest))
}

fn parse_text(line: &str) -> Option<Line> {
    let (time, rest) = line.split_once(' ')?;
    let is_time = time.ends_with('Z') && time.contains('T');
    let (level, rest) = rest.trim_start().split_once(' ').filter(|_| is_time)?;
    let mut parsed = Line::from([("level".to_owned(), level.to_owned())]);
    let is_name = |word: &str| {
        let name = word.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let (message, mut rest) = if let Some(quoted) = rest.strip_prefix('"') {
        unquote(quoted)?
    } else {
        let mut words = rest.match_indices(' ').map(|(at, _)| at);
        let end = words.find(|at| is_name(&rest[at + 1..]));
        let (message, rest) = rest.split_at(end.unwrap_or(rest.len()));
        if message.contains('"') {
            return None;
        }
        (message.to_owned(), rest)
    };
    parsed.insert("message".to_owned(), message);
    while !rest.is_empty() {
        let (name, after) = rest.strip_prefix(' ')?.split_once('=')?;
        let (value, after) = value(after)?;
        parsed.insert(name.to_owned(), value);
        rest = after;
    }
    Some(parsed)
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
