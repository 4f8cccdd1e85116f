//! A client whose secret, CA file or proxy login cannot be loaded does not affect other clients.

use std::fs::{self};
use std::process::Output;

use crate::common::callers::{USER_A, ask_as, is_root};
use crate::common::process::make_fifo;
use crate::common::wait::until;
use crate::common::{
    Daemon, HOUR, check, chmod, client_text, config_text, failure, folder, parts, run_to_end,
    sandbox, token,
};
use domo_sandbox::Sandbox;
use domo_token_client::{Error, Token};

/// A client whose secret is the output of a shell script.
fn with_command(name: &str, sandbox: &Sandbox, script: &str) -> String {
    let line = format!("client_secret_command = [\"/bin/sh\", \"-c\", \"{script}\"]");
    client_text(name, sandbox, "[\"data\"]").replace("client_secret_file = \"acme.secret\"", &line)
}

fn with_missing_file(name: &str, sandbox: &Sandbox) -> String {
    client_text(name, sandbox, "[\"data\"]").replace("acme.secret", "missing.secret")
}

/// Starts the daemon with `config`, in the directory where its commands run.
fn start(config: &str) -> Daemon {
    let folder = folder(config);
    let mut command = Daemon::command(folder.path());
    command
        .current_dir(folder.path())
        .env("PATH", "/usr/bin:/bin");
    Daemon::start_as(command, folder)
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, cause: &str) -> String {
    let stderr = failure(output, code);
    assert!(stderr.contains(cause), "{cause} in {stderr}");
    stderr
}

#[test]
fn valid_client_is_served_over_start_reload_and_restart_while_others_fail_to_load() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]")
        + &with_missing_file("beta", &sandbox)
        + &with_command("gamma", &sandbox, "exit 3");
    let mut daemon = start(&config);
    let served = |daemon: &mut Daemon| {
        token(&daemon.ask(&["-c", "acme", "data"]));
        let missing = daemon.ask(&["-c", "beta", "data"]);
        assert_refused(&missing, 78, "client \"beta\" could not be loaded");
        daemon.wait_for_log("client=\"gamma\"");
        let failing = daemon.ask(&["-c", "gamma", "data"]);
        assert_refused(&failing, 75, "client \"gamma\" could not be loaded");
    };
    served(&mut daemon);
    let two = config.replacen("[\"data\"]", "[\"data\", \"user\"]", 1);
    daemon.write("config.toml", &two);
    assert!(daemon.reload().contains("config loaded"));
    token(&daemon.ask(&["-c", "acme", "user"]));
    served(&mut daemon);
    for signal in ["-TERM", "-KILL"] {
        daemon.restart(signal);
        served(&mut daemon);
    }
}

#[test]
fn reason_is_shown_to_root_and_the_daemons_user_alone() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let open = "[broker]\nsocket_mode = \"0666\"\ndefault_client = \"acme\"\n".to_owned();
    let config = open
        + &config_text(&sandbox, "[\"data\"]")
        + &with_missing_file("beta", &sandbox)
        + &with_command("gamma", &sandbox, "exit 3")
        + &with_missing_file("closed", &sandbox)
        + "[clients.closed.access]\ndata = { users = [4243] }\n";
    let mut daemon = start(&config);
    chmod(daemon.folder(), 0o755);
    daemon.wait_for_log("client=\"gamma\"");
    let as_user_a = |arguments: &[&str]| ask_as(&daemon, USER_A, USER_A, arguments);
    for (client, code, reason) in [
        ("beta", 78, "missing.secret: No such file"),
        ("gamma", 75, "exit status: 3"),
    ] {
        let explain = ["-c", client, "--explain", "data"];
        let (explained, why, _) = parts(&daemon.ask(&explain));
        assert_eq!(explained, Some(code), "{why}");
        assert!(why.contains("decision: may not have this token"), "{why}");
        assert!(why.contains(reason), "{why}");
        let (explained, why, _) = parts(&as_user_a(&explain));
        assert_eq!(explained, Some(code), "{why}");
        assert!(why.contains("could not be loaded; ask the"), "{why}");
        assert!(!why.contains(reason), "{why}");
        let shown = assert_refused(&daemon.ask(&["-c", client, "data"]), code, reason);
        assert!(shown.contains("could not be loaded: "), "{shown}");
        let hidden = assert_refused(&as_user_a(&["-c", client, "data"]), code, "could not be");
        assert!(!hidden.contains(reason), "{hidden}");
        let advice = format!(
            "client \"{client}\" could not be loaded; ask the operator to run: sudo domo-tokend check"
        );
        assert!(hidden.contains(&advice), "{hidden}");
        assert_eq!(
            hidden.contains("; next attempt in "),
            code == 75,
            "{hidden}"
        );
        let (_, shown, _) = parts(&daemon.ask(&["status", "--json"]));
        assert!(shown.contains(reason), "{reason} in {shown}");
        let (code, hidden, _) = parts(&as_user_a(&["status", "--json"]));
        assert!(hidden.contains("could not be loaded"), "{hidden}");
        assert!(!hidden.contains(reason), "{hidden}");
        assert_eq!(code, Some(78), "{hidden}");
        let (_, table, _) = parts(&as_user_a(&["status"]));
        let row = format!("{client:7} data    not loaded");
        assert!(table.contains(&row), "{row} in {table}");
    }
    // Whether the client exists is hidden as well.
    let denied = |client: &str| {
        let shown = assert_refused(&as_user_a(&["-c", client, "data"]), 77, "may not have");
        let (_, text) = shown.split_once("may not have").unwrap();
        text.replace(client, "")
    };
    assert_eq!(denied("closed"), denied("absent"));
    let (_, metrics, _) = parts(&daemon.ask(&["status", "--metrics"]));
    let failed = "domo_token_config_last_reload_successful 0\n";
    assert!(metrics.contains(failed), "{metrics}");
}

#[test]
fn failing_reload_keeps_credentials_and_scope_sets_and_applies_the_access_table() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let open = "[broker]\nsocket_mode = \"0666\"\ndefault_client = \"acme\"\n";
    let config = |beta: &str, tokens: &str, access: &str| {
        let beta = client_text("beta", &sandbox, tokens).replace("acme.secret", beta);
        format!(
            "{open}{}{beta}{access}",
            config_text(&sandbox, "[\"data\"]")
        )
    };
    let mut daemon = start(&config("acme.secret", "[\"data\", \"user\"]", ""));
    chmod(daemon.folder(), 0o755);
    let as_user_a =
        |daemon: &Daemon, scope: &str| ask_as(daemon, USER_A, USER_A, &["-c", "beta", scope]);
    let cached = token(&as_user_a(&daemon, "user"));
    let access = "[clients.beta.access]\ndata = { users = [4243] }\n";
    daemon.write(
        "config.toml",
        &config("missing.secret", "[\"data\"]", access),
    );
    daemon.reload();
    assert!(daemon.log.contains("its previous credentials stay in use"));
    assert_refused(&as_user_a(&daemon, "user"), 77, "may not have");
    daemon.write("config.toml", &config("missing.secret", "[\"data\"]", ""));
    daemon.reload();
    assert_eq!(token(&as_user_a(&daemon, "user")), cached);
    let error = daemon.status_of("user")["credentials_error"].to_string();
    assert!(error.contains("missing.secret"), "{error}");
    assert_eq!(sandbox.requests().len(), 3);
}

#[test]
fn client_is_loaded_when_its_file_appears() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]") + &with_missing_file("beta", &sandbox);
    let daemon = start(&config);
    let acme = token(&daemon.ask(&["-c", "acme", "data"]));
    assert_refused(&daemon.ask(&["-c", "beta", "data"]), 78, "beta");
    let secret = daemon.folder().join("missing.secret");
    fs::rename(daemon.folder().join("acme.secret"), &secret).unwrap();
    token(&until(|| {
        let output = daemon.ask(&["-c", "beta", "data"]);
        match output.status.code() {
            Some(0) => Ok(output),
            code => Err(code),
        }
    }));
    // The other client's file is missing now, which does not affect it.
    assert_eq!(token(&daemon.ask(&["-c", "acme", "data"])), acme);
    assert_eq!(sandbox.requests().len(), 2);
}

#[test]
fn callers_wait_for_a_slow_command_and_other_clients_do_not() {
    let sandbox = sandbox(HOUR);
    let slow = "cat gate > /dev/null; cat acme.secret";
    let folder =
        folder(&(config_text(&sandbox, "[\"data\"]") + &with_command("slow", &sandbox, slow)));
    let gate = folder.path().join("gate");
    make_fifo(&gate);
    let mut command = Daemon::command(folder.path());
    command
        .current_dir(folder.path())
        .env("PATH", "/usr/bin:/bin");
    let mut daemon = Daemon::start_as(command, folder);
    let waiting = daemon.helper(&["-c", "slow", "data"]).spawn().unwrap();
    daemon.wait_for_log("received request");
    token(&daemon.ask(&["-c", "acme", "data"]));
    let late = daemon.ask(&["-c", "slow", "--timeout", "1", "data"]);
    assert_refused(&late, 75, "still being loaded");
    // Opening and closing it ends the command.
    drop(fs::File::options().write(true).open(&gate).unwrap());
    token(&waiting.wait_with_output().unwrap());
    assert_eq!(sandbox.requests().len(), 2);
}

#[test]
fn commands_of_several_clients_run_at_the_same_time() {
    let sandbox = sandbox(HOUR);
    // Each ends only after all of them have started.
    let script = "touch begun.$$; until set -- begun.* && [ $# -eq 4 ]; do sleep 0.05; done; cat acme.secret";
    let names = ["a", "b", "c", "d"];
    let config: String = names
        .iter()
        .map(|name| with_command(name, &sandbox, script))
        .collect();
    let daemon = start(&config);
    for name in names {
        token(&daemon.ask(&["-c", name, "data"]));
    }
    let begun = fs::read_dir(daemon.folder()).unwrap().flatten();
    let begun = begun.map(|entry| entry.path());
    for path in begun.filter(|path| path.to_string_lossy().contains("begun.")) {
        fs::remove_file(path).unwrap();
    }
    // Also in `check`.
    let (code, stdout, stderr) = {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
        command.current_dir(daemon.folder()).env_clear();
        command.env("PATH", "/usr/bin:/bin");
        parts(
            &command
                .args(["check", "--config", "config.toml"])
                .output()
                .unwrap(),
        )
    };
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}

#[test]
fn daemon_exits_78_only_if_every_client_failed_for_another_reason_than_its_command() {
    let sandbox = sandbox(HOUR);
    let run = |config: &str| {
        let folder = folder(config);
        let mut command = Daemon::command(folder.path());
        command
            .env("PATH", "/usr/bin:/bin")
            .current_dir(folder.path());
        run_to_end(command)
    };
    let missing = with_missing_file("beta", &sandbox);
    let (code, stderr) = run(&missing);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("client \"beta\": client secret"),
        "{stderr}"
    );
    // Its command succeeds, but its CA file is missing.
    let no_ca = with_command("gamma", &sandbox, "cat acme.secret") + "ca_file = \"none.pem\"\n";
    let (code, stderr) = run(&(missing.clone() + &no_ca));
    assert_eq!(code, Some(78), "{stderr}");
    for name in ["beta", "gamma"] {
        let named = format!("client \"{name}\": ");
        assert!(stderr.contains(&named), "{named} in {stderr}");
    }
    let mut daemon = start(&(missing + &with_command("gamma", &sandbox, "exit 1")));
    daemon.wait_for_log("client=\"gamma\"");
    assert_refused(&daemon.ask(&["-c", "gamma", "data"]), 75, "gamma");
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(sandbox.requests().len(), 0);
}

#[test]
fn check_exits_75_if_only_commands_failed() {
    let sandbox = sandbox(HOUR);
    let good = config_text(&sandbox, "[\"data\"]");
    let failing = good.clone() + &with_command("gamma", &sandbox, "exit 3");
    for (config, code) in [
        (failing.clone(), 75),
        (failing + &with_missing_file("beta", &sandbox), 78),
    ] {
        let folder = folder(&config);
        let (found, stdout, stderr) = check(&folder.path().join("config.toml"), &[]);
        assert_eq!(found, Some(code), "{stderr}");
        assert!(
            stdout.contains("client \"acme\" (441e307a…): ok"),
            "{stdout}"
        );
        assert!(stderr.contains("client \"gamma\": "), "{stderr}");
    }
}

#[test]
fn watcher_of_a_client_whose_command_fails_gets_its_token_once_it_is_loaded() {
    let sandbox = sandbox(HOUR);
    let script = "test -e ready && cat acme.secret";
    let config = config_text(&sandbox, "[\"data\"]") + &with_command("gamma", &sandbox, script);
    let mut daemon = start(&config);
    daemon.wait_for_log("client=\"gamma\"");
    let mut watch = daemon.broker().with_client("gamma").watch("data").unwrap();
    let first = watch.next().unwrap();
    assert!(matches!(&first, Err(Error::TryLater { .. })), "{first:?}");
    daemon.write("ready", "");
    daemon.signal("-HUP");
    let token: Token = watch.find_map(Result::ok).unwrap();
    assert_eq!(token.scope(), "data");
}

#[test]
fn second_client_without_a_default_is_warned_of_in_check_in_status_and_at_a_reload() {
    let sandbox = sandbox(HOUR);
    let one = config_text(&sandbox, "[\"data\"]");
    let two = one.clone() + &client_text("beta", &sandbox, "[\"data\"]");
    let warning = "broker.default_client is not set: callers that name no client are denied";
    let mut daemon = start(&one);
    daemon.write("config.toml", &two);
    daemon.reload();
    assert!(daemon.log.contains(warning), "{}", daemon.log);
    let config = daemon.folder().join("config.toml");
    let (code, stdout, stderr) = check(&config, &[]);
    assert_eq!(code, Some(0));
    assert!(stderr.contains(&format!("warning: {warning}")), "{stderr}");
    assert!(!stdout.contains("default_client"), "{stdout}");
    let status = |daemon: &Daemon| parts(&daemon.ask(&["status"])).1;
    let shown = status(&daemon);
    assert!(
        shown.contains("default_client is not set; callers that name no client are denied"),
        "{shown}"
    );
    assert!(daemon.status()["broker"]["default_client"].is_null());
    let named = format!("[broker]\ndefault_client = \"acme\"\n{two}");
    daemon.write("config.toml", &named);
    daemon.log.clear();
    daemon.reload();
    let (_, _, stderr) = check(&config, &[]);
    assert_eq!(daemon.status()["broker"]["default_client"], "acme");
    for text in [daemon.log.clone(), stderr, status(&daemon)] {
        assert!(!text.contains("default_client"), "{text}");
    }
}
