//! Domo's SDKs, unmodified, through the gateway.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::gateway::{APP, Gateway, Sdk, builder, node, python};
use crate::common::process::{KillOnDrop, wait_for_exit};
use crate::common::{HOUR, timed};

/// The scripts that call a sandbox in its own tests, without a gateway.
const CALLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/sandbox/tests/sdk");

fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pydomo_makes_all_its_calls_through_the_gateway() {
    let Some(mut command) = python() else {
        return;
    };
    let sandbox = builder(HOUR).start().unwrap();
    let gateway = Gateway::start(&sandbox);
    command.arg(format!("{CALLS}/pydomo_calls.py"));
    command.args([&gateway.ports.http(), APP, &gateway.secret]);
    let output = output(command);
    for part in [
        "datasets",
        "streams",
        "utilities",
        "users_and_groups",
        "pages",
        "scopes",
    ] {
        assert!(output.contains(&format!("{part}: ok\n")), "{output}");
    }
    assert!(sandbox.resource_calls().iter().all(|call| call.token_known));
    assert!(sandbox.requests().len() <= 3, "one per scope set");
}

#[test]
fn domo_sdk_makes_all_its_calls_through_the_gateway() {
    let sandbox = builder(HOUR).start().unwrap();
    let gateway = Gateway::start(&sandbox);
    let Some(mut command) = node(&gateway.ca_file()) else {
        return;
    };
    command.arg(format!("{CALLS}/domo_sdk_calls.js"));
    command.args([&gateway.ports.tls(), APP, &gateway.secret]);
    let output = output(command);
    for part in ["datasets", "streams", "usersAndGroups", "scopes"] {
        assert!(output.contains(&format!("{part}: ok\n")), "{output}");
    }
    assert!(sandbox.resource_calls().iter().all(|call| call.token_known));
    assert!(sandbox.requests().len() <= 3, "one per scope set");
}

/// Runs the commands, and fails with the first that fails.
#[track_caller]
fn run_all(sdk: Option<Sdk>, commands: &[&str]) {
    let Some(mut sdk) = sdk else {
        return;
    };
    for command in commands {
        assert_eq!(sdk.run(command), Ok(()), "{command}");
    }
}

const UPLOADS: [&str; 6] = [
    "list",
    "users",
    "prepare",
    "upload 64",
    "download 64",
    "discard",
];

#[test]
fn pydomo_uploads_64_mib_and_parallel_parts_through_the_gateway() {
    let sandbox = builder(HOUR).start().unwrap();
    let gateway = Gateway::start(&sandbox);
    let sdk = Sdk::pydomo(&gateway.ports.http(), APP, &gateway.secret, "data user");
    run_all(sdk, &[UPLOADS.as_slice(), &["query", "parts 16"]].concat());
}

#[test]
fn domo_sdk_uploads_64_mib_and_parallel_parts_through_the_gateway() {
    let sandbox = builder(HOUR).start().unwrap();
    let gateway = Gateway::start(&sandbox);
    let sdk = Sdk::domo_sdk(
        &gateway.ports.tls(),
        APP,
        &gateway.secret,
        &gateway.ca_file(),
    );
    run_all(sdk, &[UPLOADS.as_slice(), &["parts 16"]].concat());
}

#[test]
fn calls_of_the_java_sdk_work_through_the_gateway() {
    let sandbox = builder(HOUR).start().unwrap();
    let gateway = Gateway::start(&sandbox);
    let sdk = Sdk::java(&gateway.ports.http(), APP, &gateway.secret, "data user");
    run_all(sdk, &UPLOADS);
}

#[test]
fn local_token_is_valid_after_a_restart_of_the_daemon() {
    let sandbox = builder(HOUR).start().unwrap();
    let mut gateway = Gateway::start(&sandbox);
    let pydomo = Sdk::pydomo(&gateway.ports.http(), APP, &gateway.secret, "data");
    let Some(mut pydomo) = pydomo else {
        return;
    };
    for signal in ["-TERM", "-KILL"] {
        assert_eq!(pydomo.run("list"), Ok(()), "{signal}");
        gateway.restart(signal);
        // pydomo neither repeats a call after a 401 nor renews its token before it expires.
        assert_eq!(pydomo.run("list"), Ok(()), "{signal}");
    }
}

/// After a 401 from the token endpoint, domo-sdk would request a token for ever.
#[test]
fn domo_sdk_with_a_wrong_secret_settles_after_at_most_5_token_requests() {
    let sandbox = builder(HOUR).start().unwrap();
    let gateway = Gateway::start(&sandbox);
    let Some(mut command) = node(&gateway.ca_file()) else {
        return;
    };
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/gateway/domo_sdk_commands.js"
    ));
    command.args([&gateway.ports.tls(), APP, "wrong-secret"]);
    // The SDK prints each token request.
    command.env("DEBUG", "domo-sdk").stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = KillOnDrop(command.spawn().unwrap());
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(answers.next().unwrap().unwrap(), "ok");
    let (took, answer) = timed(|| {
        // Without another command, the program ends after this one.
        let mut commands = child.stdin.take().unwrap();
        commands.write_all(b"list\n").unwrap();
        answers.next().unwrap().unwrap()
    });
    assert!(took < Duration::from_secs(3), "{took:?}");
    wait_for_exit(&mut child);
    let mut stderr = String::new();
    let mut log = child.stderr.take().unwrap();
    log.read_to_string(&mut stderr).unwrap();
    let requests = stderr.matches("Renewing access token").count();
    assert!((1..=5).contains(&requests), "{requests}: {stderr}");
    assert!(answer.contains("failed 400"), "{answer}");
    assert_eq!(sandbox.resource_calls().len(), 0);
}
