#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]

use std::path::Path;

use super::*;
use crate::credentials::CredentialsError;

const NOW: BootTime = BootTime::from_millis(1_000_000);

/// Returns a fleet's config with these lines, whose variable `P` has the password.
fn config(lines: &str) -> FleetConfig {
    let text = format!(
        "[fleet]\nurl = \"rediss://cache.example\"\n{lines}\n[clients.acme]\nclient_id = \"a\"\n\
         client_secret_env = \"S\"\ntokens = [\"data\"]\n"
    );
    let config = Config::parse(&text, Path::new("/nowhere/config.toml"));
    config.unwrap().fleet.unwrap()
}

fn env(name: &str) -> Option<std::ffi::OsString> {
    (name == "P").then(|| "c4nary".into())
}

/// Returns the progress of loading it.
fn progress(config: &FleetConfig) -> FleetProgress {
    if config.password_command().is_none() {
        return FleetProgress::Done(load_fleet(config, &env, &Shared::default()));
    }
    FleetProgress::NeedsCommand(Box::new(FleetInputs {
        config: config.clone(),
        files: Vec::new(),
    }))
}

fn apply(fleet: &mut Fleet, config: &FleetConfig, rerun: Rerun) -> FleetChange {
    fleet.apply(Some(config), Some(progress(config)), rerun, NOW)
}

fn command_failed() -> FleetError {
    FleetError::Credentials(CredentialsError::Command {
        what: "fleet password",
        program: "pass".to_owned(),
        problem: "exit status: 1".to_owned(),
    })
}

#[test]
fn unchanged_fleet_stays_the_same_one_after_a_reload() {
    let mut fleet = Fleet::new(&env, Shared::default());
    let one = config("password_env = \"P\"");
    let place = "cache.example:6379".to_owned();
    let change = apply(&mut fleet, &one, Rerun::All);
    assert_eq!(change, FleetChange::Loaded { place });
    let first = Arc::clone(fleet.loaded.as_ref().unwrap());
    assert_eq!(apply(&mut fleet, &one, Rerun::All), FleetChange::Unchanged);
    assert!(Arc::ptr_eq(&first, fleet.loaded.as_ref().unwrap()));
    let other = config("password_env = \"P\"\nprefix = \"other\"");
    assert!(matches!(
        apply(&mut fleet, &other, Rerun::Changed),
        FleetChange::Loaded { .. }
    ));
    assert_eq!(
        fleet.apply(None, None, Rerun::Changed, NOW),
        FleetChange::Removed
    );
    assert!(fleet.loaded.is_none());
    assert_eq!(
        fleet.apply(None, None, Rerun::Changed, NOW),
        FleetChange::Unchanged
    );
}

#[test]
fn file_that_cannot_be_read_turns_the_fleet_off_until_it_can() {
    let mut fleet = Fleet::new(&env, Shared::default());
    apply(&mut fleet, &config(""), Rerun::All);
    let missing = config("password_file = \"missing\"");
    let change = apply(&mut fleet, &missing, Rerun::Changed);
    let FleetChange::Failed { reason, retry_in } = change else {
        panic!("{change:?}")
    };
    assert!(
        reason.starts_with("fleet password /nowhere/missing: "),
        "{reason}"
    );
    assert_eq!((retry_in, fleet.next_retry()), (None, None));
    assert!(fleet.loaded.is_none());
    assert_eq!(fleet.error(), Some(&*reason));
    assert_eq!(
        apply(&mut fleet, &missing, Rerun::All),
        FleetChange::FailedAgain
    );
    assert!(matches!(
        apply(&mut fleet, &config(""), Rerun::Changed),
        FleetChange::Loaded { .. }
    ));
    assert_eq!(fleet.error(), None);
}

#[tokio::test]
async fn failed_command_is_retried_after_30_s_and_then_twice_as_long() {
    let mut fleet = Fleet::new(&env, Shared::default());
    let config = config("password_command = [\"/nowhere/pass\"]");
    assert_eq!(
        apply(&mut fleet, &config, Rerun::All),
        FleetChange::Unchanged
    );
    assert!(fleet.is_running() && fleet.loaded.is_none());
    let mut now = NOW;
    for (index, wait) in [30, 60, 120, 240, 300, 300].into_iter().enumerate() {
        let result = fleet.next_result().await;
        assert!(result.as_ref().is_err_and(FleetError::is_temporary));
        let change = fleet.finish(result, now);
        assert_eq!(change == FleetChange::FailedAgain, index > 0, "{change:?}");
        let due = now + Duration::from_secs(wait);
        assert_eq!(fleet.next_retry(), Some(due));
        fleet.retry(now);
        assert!(!fleet.is_running());
        fleet.retry(due);
        assert!(fleet.is_running());
        assert_eq!(fleet.next_retry(), None, "it is running");
        now = due;
    }
}

#[tokio::test]
async fn command_runs_again_at_a_reload_and_if_its_inputs_have_changed() {
    let mut fleet = Fleet::new(&env, Shared::default());
    let one = config("password_command = [\"/nowhere/pass\"]");
    apply(&mut fleet, &one, Rerun::All);
    let _ = fleet.next_result().await;
    fleet.finish(load_fleet(&config(""), &env, &Shared::default()), NOW);
    for (rerun, runs) in [
        (Rerun::Changed, false),
        (Rerun::Failed, false),
        (Rerun::All, true),
    ] {
        apply(&mut fleet, &one, rerun);
        assert_eq!(fleet.is_running(), runs, "{rerun:?}");
        assert!(fleet.loaded.is_some(), "the previous one stays in use");
    }
    // A reload while it runs starts it once more.
    apply(&mut fleet, &one, Rerun::All);
    let _ = fleet.next_result().await;
    fleet.finish(Err(command_failed()), NOW);
    assert!(fleet.is_running() && fleet.loaded.is_none());
    let _ = fleet.next_result().await;
    fleet.finish(Err(command_failed()), NOW);
    assert!(!fleet.is_running());
    apply(&mut fleet, &one, Rerun::Failed);
    assert!(fleet.is_running());
    let other = config("password_command = [\"/nowhere/pass\", \"redis\"]");
    let _ = fleet.next_result().await;
    fleet.finish(load_fleet(&config(""), &env, &Shared::default()), NOW);
    apply(&mut fleet, &other, Rerun::Changed);
    assert!(fleet.is_running());
}

#[test]
fn loaded_fleet_shows_no_secret_when_debugged() {
    let loaded = load_fleet(&config("password_env = \"P\""), &env, &Shared::default()).unwrap();
    assert!(!format!("{loaded:?}").contains("c4nary"));
    assert_eq!(
        loaded.summary(),
        "cache.example:6379, TLS, password, no key file"
    );
}
