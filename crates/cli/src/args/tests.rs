use std::time::Duration;

use domo_token_protocol::messages::Renew;
use domo_token_protocol::scope::DOMO_SCOPE_NAMES;

use super::*;
use crate::options::{COLORS, FORMATS, OPTIONS, SHELLS};

fn read(words: &str) -> Result<Command, String> {
    let words = words.split_whitespace().map(OsString::from);
    parse(words, None)
}

fn get(words: &str) -> Get {
    match read(words) {
        Ok(Command::Get(get)) => get,
        other => panic!("{words}: {other:?}"),
    }
}

fn exec(words: &str) -> Exec {
    match read(words) {
        Ok(Command::Exec(exec)) => exec,
        other => panic!("{words}: {other:?}"),
    }
}

fn watch(words: &str) -> Watch {
    match read(words) {
        Ok(Command::Watch(watch)) => watch,
        other => panic!("{words}: {other:?}"),
    }
}

#[test]
fn verb_is_optional_and_options_are_accepted_anywhere() {
    assert_eq!(get("data"), get("get data"));
    assert_eq!(get("--format curl data"), get("get data --format=curl"));
    assert_eq!(get("data user").scopes, "data user");
    assert_eq!(get("-- data").scopes, "data");
    assert_eq!(get("-c acme data").client.as_deref(), Some("acme"));
    assert_eq!(get("-cacme data").client.as_deref(), Some("acme"));
    assert_eq!(
        get("--min-ttl 5m data").min_ttl,
        Some(Duration::from_secs(300))
    );
    assert_eq!(get("--timeout 10m data").timeout, Duration::from_secs(600));
    assert_eq!(get("data").timeout, Duration::from_secs(10));
    assert_eq!(get("--renew data").renew, Some(Renew::Current));
    assert_eq!(get("--renew=7 data").renew, Some(Renew::Rejected(7)));
    assert_eq!(get("data status").scopes, "data status");
    assert_eq!(get("get status").scopes, "status");
    assert_eq!(get("--format env --format json data").format, Format::Json);
    for words in ["-o fish data", "data -ofish", "-o=fish data"] {
        assert_eq!(get(words), get("--format fish data"), "{words}");
    }
    assert!(get("data").newline);
    assert_eq!(get("-n data"), get("data --no-newline"));
    assert!(!get("-n data").newline);
    assert_eq!(get("-no header data"), get("-n -o header data"));
    assert_eq!(get("-noheader data"), get("-n -o header data"));
}

#[test]
fn client_of_the_environment_is_used_without_a_client_option() {
    let client = |words: &[&str], variable: &str| match parse(
        words.iter().map(Into::into),
        Some(variable.into()),
    ) {
        Ok(Command::Get(get)) => get.client,
        other => panic!("{other:?}"),
    };
    assert_eq!(client(&["data"], "acme").as_deref(), Some("acme"));
    assert_eq!(client(&["-c", "b", "data"], "acme").as_deref(), Some("b"));
    assert_eq!(client(&["data"], ""), None);
}

#[test]
fn offered_values_are_accepted() {
    for name in FORMATS {
        assert!(read(&format!("--format {name} data")).is_ok(), "{name}");
    }
    for when in COLORS {
        assert!(read(&format!("data --color {when}")).is_ok(), "{when}");
    }
    for name in SHELLS {
        assert!(read(&format!("completions {name}")).is_ok(), "{name}");
    }
}

#[test]
fn help_describes_each_format() {
    let described = usage::FORMATS.iter().map(|(name, _)| *name);
    assert!(described.eq(FORMATS.iter().copied()));
}

/// Returns a valid command line with that option.
fn with(option: &OptionUsage, verb: Verb) -> String {
    let values = [
        (Key::Format, " curl"),
        (Key::MinTtl, " 5s"),
        (Key::Timeout, " 5s"),
        (Key::Fd, " 3"),
        (Key::Mode, " 0640"),
        (Key::Color, " never"),
    ];
    let value = values.iter().find(|(key, _)| *key == option.key);
    let any = if matches!(option.value, Value::Nothing | Value::Maybe(_)) {
        ""
    } else {
        " X"
    };
    let value = value.map_or(any, |(_, value)| value);
    let rest = match verb {
        Verb::Status if option.key == Key::Metrics => "",
        Verb::Exec if matches!(option.key, Key::Format | Key::NoNewline) => "--fd 3 data -- true",
        Verb::Exec => "data -- true",
        Verb::Watch if matches!(option.key, Key::Mode | Key::NoNewline) => "--to f data",
        Verb::Get if option.key == Key::Json => "--explain data",
        Verb::Get | Verb::Status | Verb::Watch => "data",
        Verb::Completions => "bash",
        Verb::Help | Verb::Version => "",
    };
    format!("{} {}{value} {rest}", verb.usage().name, option.name())
}

#[test]
fn option_of_another_verb_is_an_error_that_names_its_verbs() {
    for option in OPTIONS {
        for usage in usage::VERBS {
            let words = with(option, usage.verb);
            match read(&words) {
                Ok(_) => assert!(option.verbs.contains(&usage.verb), "{words}"),
                Err(error) => {
                    assert!(!option.verbs.contains(&usage.verb), "{words}: {error}");
                    assert!(error.contains(&option.name()), "{words}: {error}");
                    assert!(
                        error.contains("option of") || error.contains("did you mean"),
                        "{words}: {error}"
                    );
                }
            }
        }
    }
}

/// Checks that the words are an error of one line that contains `named`, and no secret.
#[track_caller]
fn assert_names(words: &str, named: &str) {
    let error = read(words).expect_err(words);
    assert!(error.contains(named), "{words}: {error}");
    assert_eq!(error.lines().count(), 1);
    assert!(!error.contains("hunter2"), "{words}: {error}");
}

#[test]
fn wrong_arguments_are_named_in_the_error() {
    for (words, named) in [
        ("", "domo-token data"),
        ("get", "domo-token data"),
        ("--frmat curl data", "--format"),
        ("--colour=always data", "--color"),
        ("--nonsense data", "domo-token --help"),
        ("-x data", "-x"),
        (
            "--format yaml data",
            "token, header, curl, json, env, export, powershell, fish",
        ),
        ("-o yaml data", "token, header, curl"),
        ("-o", "-o FORMAT"),
        ("--output json data", "--format"),
        ("--explain -n data", "--no-newline"),
        ("exec -n data -- env", "--no-newline requires --fd"),
        ("watch -n data", "--no-newline requires --to"),
        ("--min-ttl soon data", "90s"),
        ("--timeout 11m data", "600s"),
        ("--timeout 0 data", "1s"),
        ("--timeout", "--timeout DURATION"),
        ("--client= data", "--client NAME"),
        ("--renew=x data", "--format json"),
        ("--explain --format json data", "--format"),
        ("exec data", "exec data -- COMMAND"),
        ("exec -- env", "exec data -- COMMAND"),
        ("exec --fd 1 data -- env", "from 3"),
        ("exec --env 1X data -- env", "variable"),
        ("exec --env A --fd 3 data -- env", "--env and --fd"),
        ("exec --format header data -- env", "--fd"),
        ("watch --mode 0600 data", "--to"),
        ("watch --to f --mode 0777 data", "0666"),
        ("watch --to - data", "omit --to"),
        ("status -q --json", "omit --json"),
        ("status --metrics data", "omit the scopes"),
        ("completions", "bash"),
        ("completions csh", "bash"),
        ("completions bash zsh", "unexpected argument \"zsh\"; usage"),
        ("help nosuch", "status"),
        ("version data", "usage"),
        ("check", "domo-tokend check"),
        ("login", "credentials"),
        ("doctor", "status"),
        ("renew data", "--renew"),
        ("--json data", "--format json"),
        ("exec --json data -- env", "--format json"),
        ("--wait=yes data", "--wait takes no value"),
        ("--renew 5 data", "--renew=5"),
        ("-f curl data", "domo-token --help"),
        ("--scope data", "plain word"),
        ("--data", "plain word"),
        ("watch --renew data", "get, exec"),
    ] {
        assert_names(words, named);
    }
}

#[test]
fn word_of_another_command_is_an_error_that_names_that_command() {
    for (words, named) in [
        (
            "exec data curl -fsS URL",
            "did you mean: domo-token exec data -- curl …",
        ),
        (
            "exec data curl",
            "did you mean: domo-token exec data -- curl",
        ),
        (
            "exec -c b data user env A=1",
            "exec --client b data user -- env …",
        ),
        ("exec data user", "exec data -- COMMAND"),
        ("list", "domo-token status"),
        ("ls data", "domo-token status"),
        ("list --all", "domo-token status"),
        ("config get x", "domo-tokend check"),
        ("token data", "domo-token data"),
        ("token -c acme user data", "domo-token user data"),
        ("token", "domo-token SCOPE..."),
        ("revoke data", "get --renew data"),
        ("run data -- env", "domo-token exec data -- COMMAND..."),
        ("run curl hunter2", "domo-token exec SCOPE... -- COMMAND..."),
        ("data -- TOKEN=hunter2 curl", "exec data -- COMMAND..."),
        ("reload", " reload domo-tokend"),
        ("-- list", "domo-token status"),
        ("stauts", "did you mean: domo-token status"),
        ("wacth data", "did you mean: domo-token watch"),
        ("exce data -- env", "did you mean: domo-token exec"),
        ("GET data", "did you mean: domo-token get"),
        ("Status", "did you mean: domo-token status"),
    ] {
        assert_names(words, named);
    }
}

#[test]
fn color_is_always_validated() {
    let error = read("--color yes data").unwrap_err();
    assert!(error.contains("auto, always, never"), "{error}");
    let error = read("version --color=").unwrap_err();
    assert!(error.contains("--color WHEN"), "{error}");
}

#[test]
fn explanation_is_text_or_json() {
    for (words, expected) in [
        ("--explain data", false),
        ("get data --json --explain", true),
    ] {
        match read(words) {
            Ok(Command::Explain { get, json }) => {
                assert_eq!((get.scopes.as_str(), json), ("data", expected), "{words}");
            }
            other => panic!("{words}: {other:?}"),
        }
    }
}

#[test]
fn status_and_help_are_read() {
    let status = Status {
        socket: None,
        quiet: true,
        json: false,
        watch: false,
        color: Color::Auto,
        scopes: vec!["data".to_owned(), "user".to_owned()],
    };
    assert_eq!(read("status -q data user"), Ok(Command::Status(status)));
    assert_eq!(
        read("--socket s status --metrics"),
        Ok(Command::Metrics(Some("s".into())))
    );
    assert_eq!(read("--help"), Ok(Command::Help(Verb::Get)));
    assert_eq!(read("status --help"), Ok(Command::Help(Verb::Status)));
    assert_eq!(read("help exec"), Ok(Command::Help(Verb::Exec)));
    assert_eq!(read("help"), Ok(Command::Help(Verb::Get)));
    for words in ["--version", "version", "status -V data"] {
        assert_eq!(read(words), Ok(Command::Version), "{words}");
    }
    assert_eq!(
        read("completions fish"),
        Ok(Command::Completions(Shell::Fish))
    );
}

#[test]
fn exec_and_watch_parse_the_destination_of_the_token() {
    let found = exec("exec --fd 3 --format header data -- curl -fsS --x");
    assert_eq!(found.destination, Destination::Descriptor(3));
    assert_eq!(found.get.format, Format::Header);
    assert_eq!(found.command, ["curl", "-fsS", "--x"]);
    let found = exec("-c acme exec data user -- env -- x");
    assert_eq!(
        found.destination,
        Destination::Env("DOMO_ACCESS_TOKEN".to_owned())
    );
    assert_eq!(found.get.scopes, "data user");
    assert_eq!(found.get.client.as_deref(), Some("acme"));
    assert_eq!(found.command, ["env", "--", "x"]);
    let found = watch("watch --to f data");
    assert_eq!((found.mode, found.get.format), (0o600, Format::Token));
    assert_eq!(watch("watch --to f --mode 640 data").mode, 0o640);
    assert_eq!(watch("watch data").get.format, Format::Json);
    assert!(!watch("watch -n --to f data").get.newline);
    assert!(!exec("exec -n --fd 3 data -- env").get.newline);
    let found = watch("watch -c acme --min-ttl 5m --timeout 1m --wait data").get;
    assert_eq!(found.timeout, Duration::from_secs(60));
    assert_eq!(found.min_ttl, Some(Duration::from_secs(300)));
    assert!(found.wait);
}

#[test]
fn command_without_exec_is_an_error_with_the_line_that_runs_it() {
    let exec = "did you mean: domo-token exec data -- curl …";
    for words in [
        "data -- curl hunter2",
        "get data -- curl hunter2",
        "watch data -- curl hunter2",
        "watch --to f data -- curl hunter2",
        "status data -- curl hunter2",
        "-- data -- curl hunter2",
        "--format header data -- curl hunter2",
        "data --explain -- curl hunter2",
    ] {
        let error = read(words).expect_err(words);
        assert!(error.ends_with(exec), "{words}: {error}");
    }
    let with_options = read("-c b --renew=7 --wait data user -- env").unwrap_err();
    let line = "domo-token exec --client b --renew=7 --wait data user -- env";
    assert!(with_options.ends_with(line), "{with_options}");
    let odd = ["it's", "--", "./a b", &"x".repeat(200)];
    let odd = parse(odd.map(OsString::from), None).unwrap_err();
    assert!(odd.ends_with(r"exec 'it'\''s' -- './a b' …"), "{odd}");
    let long = ["data", "--", &"x".repeat(200)];
    let long = parse(long.map(OsString::from), None).unwrap_err();
    assert!(long.ends_with(&format!("-- {}…", "x".repeat(60))), "{long}");
}

#[test]
fn command_after_scopes_without_exec_is_an_error_with_the_line_that_runs_it() {
    for (words, line) in [
        ("data curl -fsS https://x/hunter2", "exec data -- curl …"),
        ("data curl --fail hunter2", "exec data -- curl …"),
        ("data ls -l", "exec data -- ls …"),
        ("data other -l", "exec data -- other …"),
        ("data ./report", "exec data -- ./report"),
        ("data curl https://x/hunter2", "exec data -- curl …"),
        ("data TOKEN=hunter2 env", "exec data -- COMMAND..."),
        (
            "data,user audit /bin/curl",
            "exec data,user audit -- /bin/curl",
        ),
        ("-- data ./curl", "exec data -- ./curl"),
        ("exec data curl -c 1", "exec data -- curl …"),
    ] {
        let error = read(words).expect_err(words);
        let end = format!("; did you mean: domo-token {line}");
        assert!(error.ends_with(&end), "{words}: {error}");
        assert!(!error.contains("hunter2"), "{words}: {error}");
    }
    for words in ["exec data ./report", "exec data curl"] {
        let error = read(words).unwrap_err();
        assert!(
            error.starts_with("missing \"--\" before the command; "),
            "{error}"
        );
    }
    let near = read("data sales --frmat curl").unwrap_err();
    assert!(near.ends_with("did you mean: --format"), "{near}");
    let unknown = read("data usr --verbose").unwrap_err();
    assert!(
        unknown.starts_with("unknown option --verbose; "),
        "{unknown}"
    );
}

#[test]
fn words_that_may_be_a_command_are_scopes_until_the_broker_has_no_such_set() {
    let advice = |words: &str| get(words).exec_instead.and_then(|exec| exec.advice());
    for (words, line) in [
        ("data sh", "exec data -- sh"),
        ("sales sh", "exec sales -- sh"),
        ("data sh -c 1", "exec data -- sh …"),
        ("data python3 report.py", "exec data -- python3 …"),
        ("-c acme data sh", "exec --client acme data -- sh"),
    ] {
        let expected = format!("; or did you mean: domo-token {line}");
        assert_eq!(advice(words), Some(expected), "{words}");
    }
    let custom = get("data user:read no-such-program -c acme");
    assert_eq!(custom.scopes, "data user:read no-such-program");
    for words in [
        "data",
        "data user",
        "data sales",
        "get data sh",
        "get data 7",
    ] {
        assert_eq!(advice(words), None, "{words}");
    }
}

#[test]
fn words_of_an_explicit_get_are_scopes_whatever_programs_there_are() {
    for words in ["data curl", "data report.py", "data read:all 7", "curl"] {
        assert_eq!(get(&format!("get {words}")).scopes, words);
        assert_eq!(watch(&format!("watch {words}")).get.scopes, words);
    }
    for words in [
        "data user",
        "data sales",
        "sales data",
        "curl",
        "data user,audit",
    ] {
        assert_eq!(get(words).scopes, words);
    }
}

#[test]
fn dashes_before_the_first_word_end_the_options_alone() {
    assert_eq!(get("-- data user").scopes, "data user");
    assert_eq!(get("data --"), get("data"));
    assert_eq!(get("get -- list").scopes, "list");
    assert_eq!(watch("watch -- data").get.scopes, "data");
    assert_eq!(read("-- status"), read("status"));
    assert_eq!(read("help -- exec"), Ok(Command::Help(Verb::Exec)));
    assert_eq!(exec("-- exec data -- env -- x").command, ["env", "--", "x"]);
    assert_eq!(read("data --help -- curl"), Ok(Command::Help(Verb::Get)));
}

#[test]
fn word_is_a_scope_after_get_and_domos_scopes_are_scopes_everywhere() {
    for word in ["list", "token", "config", "stauts", "run", "exce", "doctor"] {
        assert_eq!(get(&format!("get {word}")).scopes, word);
        assert_eq!(get(&format!("data {word}")).scopes, format!("data {word}"));
    }
    for scope in DOMO_SCOPE_NAMES {
        assert_eq!(get(scope).scopes, *scope);
    }
}

#[test]
fn misspelled_verb_is_recognized() {
    for (word, verb) in [
        ("statsu", "status"),
        ("stauts data", "status"),
        ("wach", "watch"),
        ("exce", "exec"),
        ("gte", "get"),
        ("versoin", "version"),
    ] {
        assert_eq!(nearest_verb(word), Some(verb), "{word}");
    }
    for scope in DOMO_SCOPE_NAMES.iter().chain(&["dat", "dta", "usr"]) {
        assert_eq!(nearest_verb(scope), None, "{scope}");
    }
}
