//! Where Domo's token and the client's secret must not be.

use std::fs;
use std::net::TcpListener;

use domo_sandbox::Sandbox;

use crate::common::gateway::{APP, Gateway, Sdk, builder, found_in_memory, python, real_token};
use crate::common::{CANARY_SECRET, HOUR, metrics, print_skip};

/// The end of each token that the sandbox has issued: its signature, which no other token has.
fn signatures(sandbox: &Sandbox) -> Vec<String> {
    let requests = sandbox.requests();
    let tokens = requests.iter().filter_map(|seen| seen.token.as_deref());
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let found: Vec<String> = tokens.map(signature).collect();
    assert!(!found.is_empty());
    found
}

#[test]
fn tokens_and_secrets_are_in_no_response_log_metric_or_audit_line() {
    let sandbox = builder(HOUR).start().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let lines = format!(
        "[metrics]\nlisten = \"127.0.0.1:{port}\"\n[log]\nlevel = \"trace\"\n[audit]\nfile = \"audit.log\"\n"
    );
    let gateway = Gateway::with_lines(&sandbox, &sandbox.url(""), &lines);
    let local = gateway.local_token("data");
    let real = real_token(&sandbox, "data");
    let wrong_secret = gateway.token_request("wrong", "data");
    assert_eq!(wrong_secret.status(), 400);
    let wrong_scope = gateway.token_request(&gateway.secret, "audit");
    assert_eq!(wrong_scope.status(), 400);
    let mut texts = vec![local.clone(), wrong_secret.text, wrong_scope.text];
    for (path, token, status) in [
        ("/v1/datasets", local.as_str(), 200),
        ("/v1/datasets?access_token=none", &local, 200),
        ("/v1/users", &local, 403),
        ("/v1/accounts", &local, 403),
        ("/v2/datasets", &local, 404),
        ("/v1/datasets", "wrong", 401),
        // Domo's token is no local one.
        ("/v1/datasets", &real, 401),
    ] {
        let answer = gateway.get(path, token);
        assert_eq!(answer.status(), status, "{path}: {}", answer.text);
        texts.push(answer.text);
    }
    sandbox.revoke_all();
    texts.push(gateway.get("/v1/datasets", &local).text);
    let (status, text) = metrics::get(metrics::connect(port), "/metrics");
    assert_eq!(status, 200);
    assert!(
        text.contains("domo_token_gateway_requests_total{"),
        "{text}"
    );
    texts.push(text);
    texts.push(gateway.daemon.status().to_string());
    let audit = fs::read_to_string(gateway.daemon.folder().join("audit.log")).unwrap();
    assert!(
        audit.contains(APP) && !audit.contains("access_token"),
        "{audit}"
    );
    texts.push(audit);
    let secret = gateway.secret.clone();
    let (_, log) = gateway.daemon.stop();
    texts.push(log);
    let signatures = signatures(&sandbox);
    assert!(signatures.len() >= 2, "renewed after the rejection");
    for text in &texts {
        for signature in &signatures {
            assert!(!text.contains(signature), "a token is in {text}");
        }
        for hidden in [CANARY_SECRET, secret.as_str()] {
            assert!(!text.contains(hidden), "a secret is in {text}");
        }
    }
    // The local token is in the first answer alone.
    let signature = local.rsplit('.').next().unwrap();
    let holders = texts.iter().filter(|text| text.contains(signature));
    assert_eq!(holders.count(), 1);
}

#[test]
fn memory_of_an_application_has_neither_domos_token_nor_the_clients_secret() {
    let sandbox = builder(HOUR).start().unwrap();
    let gateway = Gateway::start(&sandbox);
    let sdk = Sdk::pydomo(&gateway.ports.http(), APP, &gateway.secret, "data user");
    let Some(mut sdk) = sdk else {
        return;
    };
    for command in ["list", "users", "prepare", "upload 1", "download 1"] {
        assert_eq!(sdk.run(command), Ok(()), "{command}");
    }
    sandbox.revoke_all();
    assert_eq!(sdk.run("list"), Ok(()));
    let signatures = signatures(&sandbox);
    let mut texts = vec![gateway.secret.as_str(), CANARY_SECRET];
    texts.extend(signatures.iter().map(String::as_str));
    let found = python().and_then(|python| found_in_memory(python, sdk.pid(), &texts));
    let Some(found) = found else {
        print_skip("this user may not read another process's memory");
        return;
    };
    assert!(found[0] > 0, "it has its own secret");
    assert_eq!(found[1..], vec![0; texts.len() - 1]);
}
