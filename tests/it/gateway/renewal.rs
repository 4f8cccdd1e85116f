//! Tokens that Domo rejects before, during and after uploads, and soon after their renewal.

use std::time::Duration;

use domo_sandbox::{RejectTiming, Sandbox};

use crate::common::gateway::{APP, Gateway, Sdk, builder};
use crate::common::{HOUR, timed};

/// The most time that a call may take whose token was rejected: the renewal floor and some seconds.
const LIMIT: Duration = Duration::from_secs(35);

const MIB: u64 = 1 << 20;

/// A sandbox, a gateway and pydomo, which never repeats a call.
fn pydomo(no_continue: bool) -> Option<(Sandbox, Gateway, Sdk)> {
    let sandbox = builder(HOUR).no_continue(no_continue).start().unwrap();
    let gateway = Gateway::start(&sandbox);
    let mut sdk = Sdk::pydomo(&gateway.ports.http(), APP, &gateway.secret, "data")?;
    assert_eq!(sdk.run("prepare"), Ok(()));
    Some((sandbox, gateway, sdk))
}

/// Runs a command within the limit. In a debug build, 64 MiB take seconds of it.
#[track_caller]
fn run(sdk: &mut Sdk, command: &str) -> Result<(), String> {
    let (took, result) = timed(|| sdk.run(command));
    assert!(took < LIMIT, "{command} took {took:?}: {result:?}");
    result
}

#[test]
fn upload_with_a_token_revoked_before_succeeds_if_the_origin_sends_100() {
    let Some((sandbox, _gateway, mut sdk)) = pydomo(false) else {
        return;
    };
    sandbox.revoke_all();
    assert_eq!(run(&mut sdk, "upload 64"), Ok(()));
    assert_eq!(run(&mut sdk, "download 64"), Ok(()));
    let calls = sandbox.resource_calls();
    let uploads = calls.iter().filter(|call| call.method == "PUT");
    let seen: Vec<_> = uploads.map(|call| (call.status, call.body_bytes)).collect();
    assert_eq!(seen, [(401, 0), (204, 64 * MIB)]);
}

/// The body has begun when the origin rejects the call, so it cannot be repeated; the next call has a new token.
#[test]
fn upload_with_a_token_revoked_before_is_rejected_once_if_the_origin_never_sends_100() {
    let Some((sandbox, _gateway, mut sdk)) = pydomo(true) else {
        return;
    };
    assert_eq!(run(&mut sdk, "upload 64"), Ok(()));
    sandbox.revoke_all();
    let error = run(&mut sdk, "upload 64").unwrap_err();
    assert!(error.contains("invalid_token"), "{error}");
    assert_eq!(run(&mut sdk, "upload 64"), Ok(()));
    assert_eq!(run(&mut sdk, "download 64"), Ok(()));
}

#[test]
fn upload_whose_token_is_revoked_meanwhile_is_rejected_once() {
    for (no_continue, rejects) in [
        (false, RejectTiming::DuringBody),
        (false, RejectTiming::AfterBody),
        (true, RejectTiming::DuringBody),
        (true, RejectTiming::AfterBody),
    ] {
        let Some((sandbox, _gateway, mut sdk)) = pydomo(no_continue) else {
            return;
        };
        sandbox.revoke_in_upload(MIB, rejects);
        let error = run(&mut sdk, "upload 64").unwrap_err();
        assert!(error.contains("invalid_token"), "{rejects:?}: {error}");
        assert_eq!(run(&mut sdk, "upload 64"), Ok(()), "{rejects:?}");
    }
}

#[test]
fn call_with_a_token_revoked_after_an_upload_succeeds() {
    let Some((sandbox, _gateway, mut sdk)) = pydomo(false) else {
        return;
    };
    assert_eq!(run(&mut sdk, "upload 64"), Ok(()));
    sandbox.revoke_all();
    assert_eq!(run(&mut sdk, "download 64"), Ok(()));
}

/// domo-sdk repeats a call after a 401, so it succeeds also if the gateway cannot repeat it.
#[test]
fn domo_sdk_succeeds_whenever_its_token_is_revoked() {
    for no_continue in [false, true] {
        let sandbox = builder(HOUR).no_continue(no_continue).start().unwrap();
        let gateway = Gateway::start(&sandbox);
        let ca_file = gateway.ca_file();
        let sdk = Sdk::domo_sdk(&gateway.ports.tls(), APP, &gateway.secret, &ca_file);
        let Some(mut sdk) = sdk else {
            return;
        };
        assert_eq!(sdk.run("prepare"), Ok(()));
        sandbox.revoke_all();
        assert_eq!(sdk.run("upload 64"), Ok(()), "before");
        sandbox.revoke_in_upload(MIB, RejectTiming::DuringBody);
        assert_eq!(sdk.run("upload 64"), Ok(()), "during");
        sandbox.revoke_all();
        assert_eq!(sdk.run("download 64"), Ok(()), "after");
    }
}

/// The floor between two renewals of a token that is valid for an hour is 30 s.
#[test]
fn second_rejection_within_the_renewal_floor_is_answered_within_35_s() {
    for no_continue in [false, true] {
        let Some((sandbox, _gateway, mut sdk)) = pydomo(no_continue) else {
            return;
        };
        for round in 0..2 {
            sandbox.revoke_all();
            assert_eq!(run(&mut sdk, "list"), Ok(()), "round {round}");
        }
        sandbox.revoke_all();
        // More than the gateway holds for a repetition.
        let result = run(&mut sdk, "upload 1");
        assert_eq!(result.is_ok(), !no_continue, "{result:?}");
    }
}
