//! The cost of ten thousand scope sets of a thousand clients.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use crate::common;
use crate::common::{CANARY_SECRET, CLIENT_ID, Daemon, PATIENCE, client_text, token};
use domo_sandbox::Sandbox;
use serde_json::Value;

const CLIENTS: usize = 1000;
const SETS: usize = 10;

/// The memory that a token may use besides its text, in bytes.
const COST: usize = 4096;

fn memory(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

fn config(sandbox: &Sandbox, clients: usize, tokens: &str) -> String {
    let mut text = String::new();
    for number in 0..clients {
        let client = client_text(&format!("client{number}"), sandbox, tokens);
        writeln!(text, "{client}").unwrap();
    }
    text
}

#[test]
fn ten_thousand_scope_sets_use_bounded_memory_and_reload_without_requests() {
    let scopes: Vec<String> = (0..SETS).map(|number| format!("scope{number}")).collect();
    let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let sandbox = Sandbox::builder()
        .client(CLIENT_ID, CANARY_SECRET, &names)
        .start()
        .unwrap();
    let tokens = format!("{scopes:?}");
    let few = config(&sandbox, 1, &tokens);
    let many = config(&sandbox, CLIENTS, &tokens);
    let folder = common::folder(&few);
    let mut command = Daemon::command_of_config(folder.path());
    command.args(["--log", "info"]);
    let mut daemon = Daemon::start_as(command, folder);
    sandbox.wait_for_requests(SETS, PATIENCE).unwrap();
    token(&daemon.ask(&["-c", "client0", "scope9"]));
    let before = memory(&daemon);
    daemon.write("config.toml", &many);
    daemon.wait_for_log("config loaded");
    let all = sandbox
        .wait_for_requests(CLIENTS * SETS, PATIENCE * 4)
        .unwrap();
    assert_eq!(
        all.len(),
        CLIENTS * SETS,
        "one for each, and none for what was there"
    );
    let last = format!("client{}", CLIENTS - 1);
    let text = token(&daemon.ask(&["--timeout", "60", "-c", &last, "scope9"]));
    let status = daemon.status();
    let sets = status["tokens"].as_array().unwrap().iter();
    let name = |set: &Value| format!("{} {}", set["client"], set["scope"]);
    let names: BTreeSet<String> = sets.map(name).collect();
    assert_eq!(
        names.len(),
        CLIENTS * SETS,
        "status shows each, page by page"
    );
    let each = (memory(&daemon) - before) / (CLIENTS * SETS);
    assert!(
        each <= text.len() + COST,
        "{each} bytes a token of {}",
        text.len()
    );
    daemon.write("config.toml", &(many + "\n# the same\n"));
    daemon.wait_for_log("config loaded");
    token(&daemon.ask(&["-c", &last, "scope9"]));
    assert_eq!(sandbox.requests().len(), CLIENTS * SETS);
}
