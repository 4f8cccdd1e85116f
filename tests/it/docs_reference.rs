//! The reference pages against the programs: each metric, config key, command and exit code is on its page, and the
//! pages name no other. The tables of options are generated, see `man`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use clap::{ArgAction, CommandFactory};
use domo_token::broker::app_usage::AppUsage;
use domo_token::broker::{Broker, BrokerConfig, Engine};
use domo_token::config::{self, Limits};
use domo_token::flags::Flags;
use domo_token::platform::clock::SystemClock;
use domo_token::source::Source;
use domo_token::source::fleet_monitor::{FAILURES, FleetMonitor, Lookup};
use domo_token_cli::options::FORMATS;
use domo_token_cli::usage::VERBS;
use domo_token_core::access_policy::Caller;
use domo_token_core::fetch_result::Cause;
use domo_token_core::schedule::Loading;
use domo_token_core::scheduler::ClientSpec;
use domo_token_protocol::ScopeSet;
use domo_token_protocol::messages::RefusalKind;
use serde_json::Value as Json;

use crate::common::{HOUR, config_text, helper, metrics, sandbox};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    fs::read_to_string(path).unwrap()
}

/// Returns the text below a heading, up to the next one of the same or a higher level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading:?}"));
    let level = heading.chars().take_while(|c| *c == '#').count();
    let is_end = |line: &str| {
        let depth = line.chars().take_while(|c| *c == '#').count();
        (1..=level).contains(&depth)
    };
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if is_end(line) {
            break;
        }
        at += line.len();
    }
    &rest[..at]
}

/// Returns the rows of the tables in a text, without their heads. A cell may contain `\|`.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_rule = |line: &str| line.starts_with("|--");
    let body = lines.iter().enumerate().filter(|(at, line)| {
        let is_head = lines.get(at + 1).is_some_and(|next| is_rule(next));
        line.starts_with('|') && !is_rule(line) && !is_head
    });
    let cells = |line: &str| -> Vec<String> {
        let line = line.replace("\\|", "\u{0}");
        let cells = line.trim_matches('|').split('|');
        cells
            .map(|cell| cell.trim().replace('\u{0}', "|"))
            .collect()
    };
    body.map(|(_, line)| cells(line)).collect()
}

/// Returns what is in backticks.
fn codes(cell: &str) -> Vec<String> {
    let parts = cell.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

/// Returns the text below a heading, up to the next heading.
fn own_text<'a>(page: &'a str, heading: &str) -> &'a str {
    let text = section(page, heading);
    text.split("\n#").next().unwrap_or(text)
}

/// Returns the first code in the first cell of each row below a heading.
fn first_codes(page: &str, heading: &str) -> BTreeSet<String> {
    let rows = rows(own_text(page, heading));
    let first = rows
        .iter()
        .filter_map(|row| codes(&row[0]).first().cloned());
    first.collect()
}

/// The name, type and labels of a metric.
type Metric = (String, String, BTreeSet<String>);

fn documented_metrics(heading: &str) -> BTreeSet<Metric> {
    let page = page("metrics.md");
    let rows = rows(own_text(&page, heading)).into_iter();
    rows.map(|row| {
        let name = codes(&row[0]).remove(0);
        (name, row[1].clone(), codes(&row[2]).into_iter().collect())
    })
    .collect()
}

/// Reads metrics in the text format: each has its type, and the labels of its first sample.
fn served_metrics(text: &str) -> BTreeSet<Metric> {
    let types = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| {
            let name = match kind {
                "counter" => format!("{name}_total"),
                _ => name.to_owned(),
            };
            let samples = text.lines().filter_map(|line| line.strip_prefix(&*name));
            let sample = samples
                .filter(|rest| rest.starts_with(['{', ' ']))
                .max()
                .unwrap_or_else(|| panic!("no sample of {name}"));
            let labels = sample
                .strip_prefix('{')
                .and_then(|rest| rest.split_once('}'));
            let labels = labels.map_or("", |(labels, _)| labels);
            let labels = labels
                .split("\",")
                .filter_map(|label| label.split_once('='));
            let labels = labels.map(|(label, _)| label.to_owned()).collect();
            (name, kind.to_owned(), labels)
        })
        .collect()
}

#[test]
fn metrics_page_lists_each_metric_with_its_type_and_labels_and_no_other() {
    let sandbox = sandbox(HOUR);
    sandbox.script([domo_sandbox::Fault::status(503)]);
    let config = config_text(&sandbox, "[\"data\"]") + "[audit]\nfile = \"audit.jsonl\"\n";
    let (daemon, port) = metrics::start(&config);
    crate::common::token(&daemon.ask(&["--wait", "--timeout", "60", "data"]));
    let (_, text) = metrics::get(metrics::connect(port), "/metrics");
    assert_eq!(
        served_metrics(&text),
        documented_metrics("## Metrics"),
        "{text}"
    );
}

#[test]
fn metrics_page_lists_each_metric_of_a_fleet_and_no_other() {
    let broker = Broker::new(SystemClock::new(), 0, BrokerConfig::default());
    let spec = ClientSpec {
        name: "acme".to_owned(),
        shown_id: String::new(),
        scopes: [ScopeSet::parse("data").unwrap()].into(),
        renewed: true,
        proxy_login: None,
        loading: Some(Loading::Pending),
        shares: true,
    };
    let (_engine, _handle) = Engine::<Source, _>::new(&broker, vec![(spec, None)]);
    let caller = Caller::default();
    let monitor = FleetMonitor::new("cache.example:6379".to_owned());
    broker.set_fleet(Some(Arc::new(monitor)));
    let text = broker.metrics(&caller);
    let of_fleet = text
        .lines()
        .filter(|line| line.contains("domo_token_fleet_"));
    let of_fleet: String = of_fleet.flat_map(|line| [line, "\n"]).collect();
    let documented = documented_metrics("### Fleet");
    assert_eq!(served_metrics(&of_fleet), documented, "{of_fleet}");
    let page = page("metrics.md");
    let outcomes = Lookup::ALL.map(|outcome| outcome.name().to_owned());
    assert_eq!(
        first_codes(&page, "#### Outcomes of looks"),
        outcomes.into()
    );
    let causes = FAILURES.map(|cause| cause.to_string());
    let heading = "#### Causes of failures of the store";
    assert_eq!(first_codes(&page, heading), causes.into());
}

#[test]
fn metrics_page_lists_each_metric_of_the_gateway_and_no_other() {
    let broker = Broker::new(SystemClock::new(), 0, BrokerConfig::default());
    let app = AppUsage::new("etl");
    app.count_request("GET", 200, broker.now());
    broker.set_apps(vec![Arc::new(app)]);
    let caller = Caller {
        privileged: true,
        ..Caller::default()
    };
    let text = broker.metrics(&caller);
    let lines = text.lines().filter(|line| line.contains("_gateway_"));
    let of_gateway: String = lines.flat_map(|line| [line, "\n"]).collect();
    let documented = documented_metrics("### Gateway");
    assert_eq!(served_metrics(&of_gateway), documented, "{of_gateway}");
}

#[test]
fn monitoring_page_names_metrics_that_exist() {
    let documented: BTreeSet<String> = ["## Metrics", "### Fleet", "### Gateway"]
        .into_iter()
        .flat_map(documented_metrics)
        .map(|(name, _, _)| name)
        .collect();
    let page = page("monitoring.md");
    let words = page.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    let named: BTreeSet<&str> = words
        .filter(|word| word.starts_with("domo_token_"))
        .collect();
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !documented.contains(**name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(named.len() > 5, "{named:?}");
}

#[test]
fn metrics_page_lists_each_cause_and_outcome() {
    let page = page("metrics.md");
    let causes = [
        Cause::Connect,
        Cause::Timeout,
        Cause::Tls,
        Cause::Proxy,
        Cause::RateLimited,
        Cause::Server,
        Cause::RedirectRefused,
        Cause::NotFound,
        Cause::Unusable,
    ];
    let causes = causes.iter().map(ToString::to_string);
    let causes = causes.chain(["denied".to_owned()]).collect();
    assert_eq!(first_codes(&page, "### Causes"), causes);
    let kinds = [
        RefusalKind::NotPermitted,
        RefusalKind::UnknownClient,
        RefusalKind::UnknownScope,
        RefusalKind::MinTtlTooLong,
        RefusalKind::Denied,
        RefusalKind::Gone,
        RefusalKind::Unavailable,
        RefusalKind::Busy,
    ];
    let outcomes = kinds.iter().map(|kind| kind.name().to_owned());
    let outcomes = outcomes.chain(["served".to_owned()]).collect();
    assert_eq!(first_codes(&page, "### Outcomes"), outcomes);
}

/// Returns the keys of a table of the config's JSON Schema, by definition.
fn schema_keys() -> BTreeMap<String, BTreeSet<String>> {
    let schema: Json = serde_json::from_str(config::schema::SCHEMA).unwrap();
    let keys = |table: &Json| {
        let keys = table["properties"].as_object().unwrap().keys();
        keys.cloned().collect()
    };
    let tables = schema["$defs"].as_object().unwrap().iter();
    let tables = tables.filter(|(_, table)| table["properties"].is_object());
    tables
        .map(|(name, table)| (name.clone(), keys(table)))
        .collect()
}

#[test]
fn config_page_lists_each_key_in_its_table_and_no_other() {
    let page = page("config.md");
    let headings = [
        ("Broker", "## `[broker]`"),
        ("Log", "## `[log]`"),
        ("Metrics", "## `[metrics]`"),
        ("Audit", "## `[audit]`"),
        ("Limits", "## `[limits]`"),
        ("Fleet", "## `[fleet]`"),
        ("Gateway", "## `[gateway]`"),
        ("App", "### `[gateway.apps.NAME]`"),
        ("ApiRule", "### Rules of an application"),
        ("Client", "## `[clients.NAME]`"),
        ("Rule", "## `[clients.NAME.access]`"),
    ];
    let documented = headings.map(|(name, heading)| {
        // Tables about other things are below subheadings.
        (name.to_owned(), first_codes(&page, heading))
    });
    assert_eq!(BTreeMap::from(documented), schema_keys());
}

#[test]
fn config_page_has_the_defaults_of_the_limits() {
    let page = page("config.md");
    let rows = rows(section(&page, "## `[limits]`"));
    let documented: BTreeMap<String, String> = rows
        .iter()
        .map(|row| (codes(&row[0]).remove(0), codes(&row[2]).remove(0)))
        .collect();
    let limits = Limits::default();
    let deadlines = limits.deadlines;
    let number = |limit: usize| limit.to_string();
    let seconds = |span: std::time::Duration| format!("\"{}s\"", span.as_secs());
    let expected = [
        ("connections", number(limits.connections)),
        ("connections_per_user", number(limits.connections_per_user)),
        ("watchers_per_user", number(limits.watchers_per_user)),
        ("first_request_deadline", seconds(deadlines.first_request)),
        ("request_deadline", seconds(deadlines.request)),
        ("answer_deadline", seconds(deadlines.answer)),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value));
    assert_eq!(documented, BTreeMap::from(expected));
}

#[test]
fn config_page_example_is_valid() {
    let page = page("config.md");
    let lines = section(&page, "## Example").lines();
    let example = lines.filter_map(|line| line.strip_prefix("    "));
    let example = example.collect::<Vec<_>>().join("\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let example = example.replace("441e307a-…", "441e307a-0000-4000-8000-000000000001");
    fs::write(&path, &example).unwrap();
    let (code, _, errors) = crate::common::check(&path, &["--syntax"]);
    assert_eq!((code, &*errors), (Some(0), ""), "{example}");
}

#[test]
fn cli_page_describes_each_command_and_format() {
    let page = page("cli.md");
    let helper = VERBS
        .iter()
        .map(|verb| ("domo-token", verb.name.to_owned()));
    let mut command = Flags::command();
    command.build();
    let daemon = command.get_subcommands();
    let daemon = daemon.map(|verb| ("domo-tokend", verb.get_name().to_owned()));
    let daemon = daemon.filter(|(_, name)| name != "help");
    for (program, name) in helper.chain(daemon) {
        section(&page, &format!("### `{program} {name}`"));
    }
    let formats = first_codes(&page, "### Output formats");
    let expected: BTreeSet<String> = FORMATS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(formats, expected);
}

/// Returns the commands of a program with their words, like `app add`, without `help`.
pub(crate) fn clap_commands(program: &clap::Command) -> Vec<(String, &clap::Command)> {
    let is_help = |command: &&clap::Command| command.get_name() == "help";
    let mut found = Vec::new();
    for verb in program.get_subcommands().filter(|verb| !is_help(verb)) {
        found.push((verb.get_name().to_owned(), verb));
        for nested in verb.get_subcommands().filter(|verb| !is_help(verb)) {
            found.push((format!("{} {}", verb.get_name(), nested.get_name()), nested));
        }
    }
    found
}

/// Returns the long options of a clap command, without help and version.
pub(crate) fn clap_options(command: &clap::Command, is_global: bool) -> BTreeSet<String> {
    let arguments = command.get_arguments().filter(|argument| {
        !matches!(argument.get_action(), ArgAction::Help | ArgAction::Version)
            && argument.is_global_set() == is_global
    });
    arguments
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .collect()
}

#[test]
fn cli_page_lists_the_fields_of_json_output() {
    let page = page("cli.md");
    let sandbox = sandbox(HOUR);
    let daemon = crate::common::Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let fields = |arguments: &[&str]| -> Json {
        let output = daemon.ask(arguments);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let names = |object: &Json| -> BTreeSet<String> {
        object.as_object().unwrap().keys().cloned().collect()
    };
    let token = fields(&["-o", "json", "--wait", "data"]);
    assert_eq!(first_codes(&page, "#### Fields of a token"), names(&token));
    let explained = names(&fields(&["--explain", "--json", "data"]));
    let denied = names(&fields(&["--explain", "--json", "nosuch"]));
    let both = explained.union(&denied).cloned().collect::<BTreeSet<_>>();
    assert_eq!(first_codes(&page, "#### Fields of an explanation"), both);
    let status = fields(&["status", "--json"]);
    let broker = first_codes(&page, "#### Fields of the daemon's status");
    assert_eq!(broker, names(&status["broker"]));
    let set = first_codes(&page, "#### Fields of a scope set's status");
    assert_eq!(set, names(&status["tokens"][0]));
    let fleet = first_codes(&page, "#### Fields of the fleet's status");
    let openapi: Json =
        serde_json::from_str(include_str!("../../src/server/http/openapi.json")).unwrap();
    let schema = &openapi["components"]["schemas"]["FleetStatus"]["properties"];
    assert_eq!(fleet, names(schema));
    let app = first_codes(&page, "#### Fields of an application's status");
    let schema = &openapi["components"]["schemas"]["AppStatus"]["properties"];
    assert_eq!(app, names(schema));
}

#[test]
fn exit_codes_page_lists_each_code_of_the_helper_and_the_daemon() {
    let page = page("exit-codes.md");
    let codes = |heading: &str| -> BTreeSet<String> { first_codes(&page, heading) };
    let stated: BTreeSet<String> = VERBS
        .iter()
        .flat_map(|verb| verb.exit)
        .filter(|(code, _)| !code.is_empty())
        .map(|(code, _)| (*code).to_owned())
        .collect();
    assert_eq!(codes("## `domo-token`"), stated);
    let all = ["0", "2", "70", "74", "75", "78"].map(str::to_owned);
    assert_eq!(codes("## `domo-tokend`"), BTreeSet::from(all));
}

#[test]
fn faq_explains_each_scope_that_completions_offer() {
    let page = page("faq.md");
    let heading = "### Which scopes exist, and what is each for?";
    let documented = first_codes(&page, heading);
    let all = "account audit buzz dashboard data user workflow".split(' ');
    let all: BTreeSet<String> = all.map(str::to_owned).collect();
    assert_eq!(documented, all);
    let output = helper(Path::new("/nonexistent"), &["completions", "bash"])
        .output()
        .unwrap();
    let script = String::from_utf8(output.stdout).unwrap();
    let is_word = |c: char| c.is_ascii_lowercase();
    let offered: BTreeSet<&str> = script.split(|c| !is_word(c)).collect();
    for scope in &all {
        assert!(offered.contains(&**scope), "{scope}: {script}");
    }
}

/// Returns whether a file or directory of tests, or a module, has this name.
fn is_test_or_module(name: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = name.replace("::", "/");
    let directories = [
        "",
        "tests",
        "tests/it",
        "src",
        "crates/core/src",
        "crates/core/tests",
    ];
    let mut found = directories
        .iter()
        .flat_map(|directory| ["", ".rs"].map(|end| root.join(directory).join(path.clone() + end)));
    found.any(|path| path.exists())
}

#[test]
fn threat_model_names_tests_and_modules_that_exist() {
    let page = page("threat-model.md");
    let page = page.replace('\n', " ");
    let references = page.split('[').skip(1).filter_map(|rest| {
        let (reference, after) = rest.split_once(']')?;
        (!after.starts_with('(')).then_some(reference)
    });
    let names: Vec<String> = references.flat_map(codes).collect();
    assert!(names.len() > 30, "{names:?}");
    // Settings are in brackets as well.
    let missing: Vec<_> = names
        .iter()
        .filter(|name| *name != "[broker]" && !is_test_or_module(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
