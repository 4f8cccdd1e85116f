//! The config of callers: limits, the socket's group, access tables.

use std::time::Duration;

use super::*;
use domo_token_core::access_policy::Rule;

fn limits(line: &str) -> Result<Limits, String> {
    let text = format!("[limits]\n{line}\n[clients.acme]\n{CLIENT}");
    parse(&text).map(|config| config.limits)
}

#[test]
fn limits_are_from_1_to_a_million() {
    assert_eq!(limits(""), Ok(Limits::default()));
    let usual = Limits::default();
    let connections = |connections| {
        Ok(Limits {
            connections,
            ..usual
        })
    };
    assert_eq!(limits("connections = 1"), connections(1));
    assert_eq!(limits("connections = 1000000"), connections(1_000_000));
    let connections_per_user = 7;
    assert_eq!(
        limits("connections_per_user = 7"),
        Ok(Limits {
            connections_per_user,
            ..usual
        })
    );
    let watchers_per_user = 8;
    assert_eq!(
        limits("watchers_per_user = 8"),
        Ok(Limits {
            watchers_per_user,
            ..usual
        })
    );
    for wrong in ["0", "-1", "1000001"] {
        let error = limits(&format!("connections = {wrong}")).unwrap_err();
        assert!(error.contains("from 1 to 1000000"), "{error}");
    }
}

#[test]
fn deadlines_are_from_a_second_to_ten_minutes() {
    let deadlines = |line: &str| limits(line).map(|limits| limits.deadlines);
    let usual = Deadlines::default();
    let (second, most) = (Duration::from_secs(1), Duration::from_secs(600));
    assert_eq!(
        deadlines("first_request_deadline = \"1s\""),
        Ok(Deadlines {
            first_request: second,
            ..usual
        })
    );
    assert_eq!(
        deadlines("request_deadline = \"10m\""),
        Ok(Deadlines {
            request: most,
            ..usual
        })
    );
    assert_eq!(
        deadlines("answer_deadline = \"600s\""),
        Ok(Deadlines {
            answer: most,
            ..usual
        })
    );
    for wrong in ["0s", "601s", "11m", "soon", ""] {
        let error = deadlines(&format!("answer_deadline = \"{wrong}\"")).unwrap_err();
        assert!(error.contains("from \"1s\" to \"10m\""), "{error}");
    }
}

#[test]
fn group_is_a_name_or_a_number_below_the_maximum() {
    let group = |value: &str| {
        let config = with_broker(&format!("socket_group = {value}"));
        config.map(|config| config.broker.socket_group)
    };
    assert_eq!(
        group("\"staff\""),
        Ok(Some(Principal::Name("staff".to_owned())))
    );
    assert_eq!(group("0"), Ok(Some(Principal::Id(0))));
    assert_eq!(group("4294967294"), Ok(Some(Principal::Id(u32::MAX - 1))));
    assert_eq!(with_broker("").unwrap().broker.socket_group, None);
    for wrong in ["\"\"", "4294967295"] {
        let error = group(wrong).unwrap_err();
        assert!(error.contains("must be a group"), "{error}");
    }
}

/// Returns the rule for the set `data`.
fn rule(rule: &str) -> Result<Rule, String> {
    let text = format!("[clients.acme]\n{CLIENT}[clients.acme.access]\n\"data\" = {{ {rule} }}\n");
    let access = parse(&text)?.clients.remove("acme").unwrap().access;
    Ok(access.unwrap().0.pop_first().unwrap().1)
}

#[test]
fn rule_requires_valid_users_groups_or_units() {
    let found =
        rule("users = [\"ann\", 7], groups = [\"staff\"], units = [\"a.service\"]").unwrap();
    let name = |name: &str| Principal::Name(name.to_owned());
    assert_eq!(found.users, [name("ann"), Principal::Id(7)]);
    assert_eq!(found.groups, [name("staff")]);
    assert_eq!(found.units, ["a.service"]);
    for one in ["users = [0]", "groups = [0]", "units = [\"a.scope\"]"] {
        assert!(rule(one).is_ok(), "{one}");
    }
    for (wrong, message) in [
        ("", "grants it to nobody"),
        ("users = [\"\"]", "a user or group must be a name"),
        ("groups = [4294967295]", "a user or group must be a name"),
        (
            "users = [1], groups = [\"\"]",
            "a user or group must be a name",
        ),
        ("units = [\"a.slice\"]", "processes do not run in a slice"),
        (
            "users = [1], units = [\"a.timer\"]",
            "must be the full name of a service",
        ),
    ] {
        let error = rule(wrong).unwrap_err();
        assert!(error.contains(message), "{wrong}: {error}");
    }
}

#[test]
fn unit_is_a_valid_service_or_scope_name_of_systemd() {
    let is_one = |unit: &str| rule(&format!("units = ['{unit}']")).is_ok();
    for unit in [
        "report.service",
        "run-1.scope",
        "a@b.service",
        "a:b_c-d.e\\x2d.service",
    ] {
        assert!(is_one(unit), "{unit}");
    }
    for unit in [
        ".service",
        "a@.service",
        "a b.service",
        "a/b.service",
        "report",
        "*.service",
    ] {
        assert!(!is_one(unit), "{unit}");
    }
}

#[test]
fn access_entry_is_for_a_listed_scope_set_and_unique() {
    let with = |entry: &str| {
        let rule = "{ users = [0] }";
        parse(&format!(
            "[clients.acme]\n{CLIENT}[clients.acme.access]\n\"data\" = {rule}\n{entry} = {rule}\n"
        ))
    };
    let error = with("\"user\"").unwrap_err();
    assert!(
        error.contains("no such scope set in tokens; configured scope sets: \"data\""),
        "{error}"
    );
    let error = with("\"data data\"").unwrap_err();
    assert!(error.contains("twice"), "{error}");
    let error = with("\"b\u{e9}\"").unwrap_err();
    assert!(!error.contains("twice"), "{error}");
}
