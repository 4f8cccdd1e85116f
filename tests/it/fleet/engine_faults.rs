//! An engine that fails: a cold caller waits at most 5 s longer, and callers of a valid token do not wait.

use std::net::TcpListener;
use std::time::Duration;

use super::hosts::{
    COLD_EXTRA, Fleet, SHORT, SLACK, client, domo, engine, fleet_status, host_folder, metric,
    rejected, renew, section, shared_token, start, start_all_in, start_with_metrics, token_of,
    tokens_of, wait_for_metric, write_private,
};
use crate::common::redis::{acl_line, free_port};
use crate::common::wait::until;
use crate::common::{Daemon, HOUR, PATIENCE, timed, token};

/// Starts a cold host with that engine, and asserts that it gets its token from Domo in time, and that the engine's
/// failure is counted as `cause`.
#[track_caller]
fn assert_alone(config: &str, cause: &str) {
    let (host, port) = start_with_metrics(config);
    let (took, _) = timed(|| token_of(&host));
    assert!(took <= COLD_EXTRA + SLACK, "{cause}: {took:?}");
    let failures = format!("domo_token_fleet_failures_total{{cause=\"{cause}\"}}");
    wait_for_metric(port, &failures, 1.0);
    assert!(metric(port, "domo_token_fleet_up").abs() < 0.5, "{cause}");
    let status = fleet_status(&host);
    assert_eq!(status["up"], false, "{status}");
    assert!(status["last_error"].is_string(), "{status}");
}

#[test]
fn refused_connection_delays_a_cold_caller_little() {
    let Some(mut fleet) = Fleet::start(HOUR) else {
        return;
    };
    fleet.engine.kill();
    assert_alone(&fleet.config(), "connect");
    assert_eq!(fleet.requests(), 1);
}

#[test]
fn hanging_engine_delays_a_cold_caller_little() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    fleet.engine.pause();
    assert_alone(&fleet.config(), "timeout");
    assert_eq!(fleet.requests(), 1);
}

#[test]
fn wrong_password_is_a_failure_of_the_login() {
    let Some(engine) = engine("requirepass right") else {
        return;
    };
    let domo = domo(HOUR);
    let (host, port) = start_with_metrics(&(client(&domo) + &section(&engine.url(), "")));
    token_of(&host);
    wait_for_metric(
        port,
        "domo_token_fleet_failures_total{cause=\"login\"}",
        1.0,
    );
    let section = section(&engine.url(), "password_file = \"redis.password\"");
    let folder = host_folder(&(client(&domo) + &section));
    write_private(&folder, "redis.password", "c4nary-wrong\n");
    let mut wrong = Daemon::start_in(folder);
    token_of(&wrong);
    until(|| {
        let status = fleet_status(&wrong);
        if status["up"] == false {
            Ok(())
        } else {
            Err(status)
        }
    });
    // A corrected password is used after the reload.
    wrong.write("redis.password", "right\n");
    assert!(wrong.reload().contains("config loaded"));
    assert_eq!(domo.requests().len(), 2);
}

#[test]
fn value_of_another_type_is_replaced_and_does_not_stop_the_use_of_the_engine() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    fleet.publish_token();
    let key = fleet.keys(":token").remove(0);
    for kind in ["token", "note", "lease"] {
        let key = key.replace(":token", &format!(":{kind}"));
        fleet.engine.cli(&["DEL", &key]);
        if kind != "lease" {
            fleet.engine.cli(&["RPUSH", &key, "poison"]);
        }
    }
    let (host, port) = start_with_metrics(&fleet.config());
    token_of(&host);
    let stored = "domo_token_fleet_published_total{outcome=\"stored\"}";
    wait_for_metric(port, stored, 1.0);
    assert_eq!(fleet.engine.cli(&["TYPE", &key]), "string");
    let failures = "domo_token_fleet_failures_total{cause=\"protocol\"}";
    assert!(metric(port, failures).abs() < 0.5);
    assert_eq!(fleet_status(&host)["up"], true);
    assert_eq!(fleet.requests(), 2);
}

#[test]
fn acl_of_the_documentation_suffices() {
    let Some(engine) = engine(&acl_line("c4nary-password")) else {
        return;
    };
    let domo = domo(SHORT);
    let login = "username = \"domo-token\"\npassword_file = \"redis.password\"";
    let config = client(&domo) + &section(&engine.url(), login);
    let folders = [(); 2].map(|()| {
        let folder = host_folder(&config);
        write_private(&folder, "redis.password", "c4nary-password\n");
        folder
    });
    let hosts = start_all_in(folders.into());
    let first = shared_token(&hosts);
    assert_eq!(domo.requests().len(), 1);
    // The note's key, the lease and its extension are needed, too.
    assert_ne!(renew(&hosts[0]), first);
    for host in &hosts {
        assert_eq!(fleet_status(host)["up"], true);
    }
    let denied = engine.cli(&["ACL", "LOG"]);
    assert!(denied.is_empty(), "{denied}");
}

#[test]
fn missing_permission_is_a_failure_of_the_login() {
    let Some(engine) = engine("") else {
        return;
    };
    let rules: Vec<&str> = "~domo-token:* -@all +get +time".split(' ').collect();
    engine.cli(
        &[
            &["ACL", "SETUSER", "default", "on", "nopass", "resetkeys"],
            &rules[..],
        ]
        .concat(),
    );
    let domo = domo(HOUR);
    assert_alone(&(client(&domo) + &section(&engine.url(), "")), "login");
    assert_eq!(domo.requests().len(), 1);
}

#[test]
fn full_engine_is_counted_and_delays_a_cold_caller_little() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    fleet
        .engine
        .cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    fleet.engine.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_alone(&fleet.config(), "full");
    assert_eq!(fleet.requests(), 1);
}

#[test]
fn read_only_engine_still_gives_its_token_and_delays_a_cold_caller_little() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    let nowhere = free_port().to_string();
    fleet.engine.cli(&["REPLICAOF", "127.0.0.1", &nowhere]);
    assert_alone(&fleet.config(), "read_only");
    fleet.engine.cli(&["REPLICAOF", "NO", "ONE"]);
    let shared = fleet.publish_token();
    fleet.engine.cli(&["REPLICAOF", "127.0.0.1", &nowhere]);
    assert_eq!(token_of(&fleet.host()), shared);
    assert_eq!(fleet.requests(), 2);
}

#[test]
fn engine_restarted_without_data_costs_one_request() {
    let Some(mut fleet) = Fleet::start(HOUR) else {
        return;
    };
    let old = fleet.publish_token();
    fleet.engine.kill();
    fleet.engine.restart();
    let hosts = fleet.hosts(2);
    assert_ne!(shared_token(&hosts), old);
    assert_eq!(fleet.requests(), 2);
}

#[test]
fn three_cold_hosts_without_an_engine_get_their_tokens_alone() {
    let Some(mut fleet) = Fleet::start(HOUR) else {
        return;
    };
    fleet.engine.kill();
    let hosts = fleet.hosts(3);
    let (_, took) = tokens_of(&hosts);
    assert!(took <= COLD_EXTRA + SLACK, "{took:?}");
    assert_eq!(fleet.requests(), 3);
}

#[test]
fn callers_of_a_valid_token_do_not_wait_for_a_hanging_engine() {
    let Some(fleet) = Fleet::start(SHORT) else {
        return;
    };
    let mut host = fleet.host();
    let held = token_of(&host);
    fleet.engine.pause();
    let renewing = host.helper(&[&rejected(&host, "data"), "--timeout", "60", "data"]);
    let renewing = { renewing }.spawn().unwrap();
    host.wait_for_log("received request");
    let broker = host.broker();
    let mut slowest = Duration::ZERO;
    while fleet.requests() == 1 {
        let (took, answer) = timed(|| broker.request("data").send());
        let answer = answer.unwrap();
        // The renewal may end in between.
        if answer.secret() == held {
            slowest = slowest.max(took);
        }
    }
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    let renewed = token(&renewing.wait_with_output().unwrap());
    assert_ne!(renewed, held);
    assert_eq!(fleet.requests(), 2);
}

#[test]
fn start_reload_and_readiness_do_not_need_the_engine() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    // It neither accepts nor rejects connections.
    let full = "127.0.0.1:0".parse().unwrap();
    let (listener, _pending): (TcpListener, _) = crate::common::listener_with_full_backlog(full);
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let config = client(&fleet.sandbox) + &section(&url, "");
    let (took, mut host) = timed(|| start(&config));
    assert!(took <= SLACK, "{took:?}");
    token_of(&host);
    let (took, line) = timed(|| host.reload());
    assert!(line.contains("config loaded"), "{line}");
    assert!(took <= SLACK, "{took:?}");
    fleet.sandbox.wait_for_requests(1, PATIENCE).unwrap();
}

#[test]
fn host_uses_the_engine_again_once_it_works() {
    let Some(mut fleet) = Fleet::start(SHORT) else {
        return;
    };
    fleet.engine.kill();
    let host = fleet.host();
    token_of(&host);
    fleet.engine.restart();
    // It is not used for 10 s after its failure.
    until(|| {
        renew(&host);
        let keys = fleet.keys(":token");
        if keys.is_empty() {
            Err("no token")
        } else {
            Ok(())
        }
    });
    assert_eq!(fleet_status(&host)["up"], true);
}
