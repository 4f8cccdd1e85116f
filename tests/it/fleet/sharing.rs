//! Which hosts share a token: those with the same secret, client and endpoint.

use super::hosts::{
    Fleet, SHORT, client, fleet_status, origin, renew, section, shared_token, start, token_of,
};
use crate::common::{CLIENT_ID, Daemon, HOUR, PATIENCE};
use domo_sandbox::Fault;

#[test]
fn three_cold_hosts_send_one_request_and_serve_the_same_token() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    fleet.sandbox.script([Fault::hold()]);
    let hosts = fleet.hosts(3);
    fleet.sandbox.wait_for_requests(1, PATIENCE).unwrap();
    // All of them have started, and two wait for the lease.
    fleet.sandbox.recover();
    shared_token(&hosts);
    assert_eq!(fleet.requests(), 1);
    let mut origins: Vec<String> = hosts.iter().map(origin).collect();
    origins.sort();
    assert_eq!(origins, ["domo", "fleet", "fleet"]);
}

#[test]
fn host_that_starts_later_takes_the_token_with_its_expiry() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    let first = fleet.host();
    let token = token_of(&first);
    let second = fleet.host();
    assert_eq!(token_of(&second), token);
    let [first, second] = [&first, &second].map(|host| host.status_of("data"));
    let [first, second] = [&first, &second].map(|set| set["expires_at"].as_u64().unwrap());
    // A taken token is used a little shorter: a clock may be wrong by 10 s without notice.
    assert!((first - 12..=first).contains(&second), "{first}, {second}");
    assert_eq!(fleet.requests(), 1);
}

#[test]
fn restarted_host_takes_the_token_back() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    let mut host = fleet.host();
    let token = token_of(&host);
    host.restart("-KILL");
    assert_eq!(token_of(&host), token);
    assert_eq!(origin(&host), "fleet");
    assert_eq!(fleet.requests(), 1);
}

#[test]
fn each_scope_set_is_requested_once() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    let sets = ["data", "user", "audit", "data user"];
    let config = fleet.config().replace("[\"data\"]", &format!("{sets:?}"));
    let hosts = [start(&config), start(&config)];
    for set in sets {
        let [one, two] = [&hosts[0], &hosts[1]]
            .map(|host| crate::common::token(&host.ask(&["--timeout", "60", set])));
        assert_eq!(one, two, "{set}");
    }
    assert_eq!(fleet.requests(), sets.len());
    assert_eq!(fleet.keys(":token").len(), sets.len());
}

#[test]
fn secret_rotated_host_by_host_makes_two_fleets_meanwhile() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    let mut hosts = fleet.hosts(3);
    let old = shared_token(&hosts);
    let secret = "c4nary-second-secret-of-a-fleet-never-to-be-seen";
    fleet.sandbox.add_client(CLIENT_ID, secret, &["data"]);
    let rotate = |host: &mut Daemon| {
        host.write("acme.secret", &format!("{secret}\n"));
        assert!(host.reload().contains("config loaded"));
        crate::common::wait::until(|| {
            let now = token_of(host);
            if now == old {
                Err("the token of the old secret")
            } else {
                Ok(now)
            }
        })
    };
    let new = rotate(&mut hosts[0]);
    assert_eq!(fleet.requests(), 2);
    assert_eq!(token_of(&hosts[2]), old, "not rotated yet");
    assert_eq!(rotate(&mut hosts[1]), new);
    assert_eq!(
        fleet.requests(),
        2,
        "the second one takes the token of the first"
    );
    assert_eq!(fleet.keys(":token").len(), 2);
}

#[test]
fn client_with_fleet_false_does_not_share() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    let alone = client(&fleet.sandbox) + "fleet = false\n" + &section(&fleet.engine.url(), "");
    let token = token_of(&start(&alone));
    assert!(fleet.keys("").is_empty());
    let host = fleet.host();
    assert_ne!(token_of(&host), token);
    assert_ne!(token_of(&start(&alone)), token_of(&host));
    assert_eq!(fleet.requests(), 3);
}

#[test]
fn another_prefix_or_key_file_is_another_fleet() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    let first = token_of(&fleet.host());
    let other = token_of(&start(&fleet.config_with("prefix = \"other-1\"")));
    assert_ne!(first, other);
    let folder = super::hosts::host_folder(&fleet.config_with("key_file = \"fleet.key\""));
    super::hosts::write_private(&folder, "fleet.key", "0123456789abcdef0123456789abcdef\n");
    assert_ne!(token_of(&Daemon::start_in(folder)), first);
    assert_eq!(fleet.requests(), 3);
    assert_eq!(fleet.keys(":token").len(), 3);
    let names = fleet.engine.cli(&["KEYS", "other-1:{*}:token"]);
    assert_eq!(names.lines().count(), 1, "{names}");
}

#[test]
fn reload_applies_a_fleet_that_is_added_changed_and_removed() {
    let Some(fleet) = Fleet::start(SHORT) else {
        return;
    };
    let alone = client(&fleet.sandbox);
    let mut host = start(&alone);
    token_of(&host);
    assert!(fleet_status(&host).is_null());
    let mut renew_with = |config: &str| {
        fleet.engine.cli(&["FLUSHALL"]);
        host.write("config.toml", config);
        assert!(host.reload().contains("config loaded"));
        renew(&host);
        fleet.keys(":token")
    };
    let keys = renew_with(&fleet.config());
    assert!(
        keys.len() == 1 && keys[0].starts_with("domo-token:{"),
        "{keys:?}"
    );
    let keys = renew_with(&fleet.config_with("prefix = \"other\""));
    assert!(
        keys.len() == 1 && keys[0].starts_with("other:{"),
        "{keys:?}"
    );
    assert!(renew_with(&alone).is_empty());
    assert!(fleet_status(&host).is_null());
    assert_eq!(fleet.requests(), 4, "a reload alone causes no request");
}

/// A caller's report that Domo rejected the token.
#[test]
fn rejected_token_is_replaced_by_a_newer_one_of_the_fleet_or_renewed() {
    let Some(fleet) = Fleet::start(SHORT) else {
        return;
    };
    let hosts = fleet.hosts(2);
    let first = shared_token(&hosts);
    let obtained = domo_token_client::clock::boot_now();
    // A token is taken if it outlives the one held by more than a second, and clocks add to that.
    crate::common::wait::until(|| {
        let age = domo_token_client::clock::boot_now().saturating_since(obtained);
        if age.as_millis() > 2500 {
            Ok(())
        } else {
            Err(age)
        }
    });
    let second = renew(&hosts[0]);
    assert_ne!(second, first);
    assert_eq!(fleet.requests(), 2);
    assert_eq!(renew(&hosts[1]), second, "there is a newer one");
    assert_eq!(fleet.requests(), 2);
    let third = renew(&hosts[1]);
    assert!(third != first && third != second, "there was none");
    assert_eq!(fleet.requests(), 3);
    assert_eq!(token_of(&fleet.host()), third);
    assert_eq!(fleet.requests(), 3);
}
