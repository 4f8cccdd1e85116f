//! Checks the fleet: its files, and which clients cannot share their tokens in it.

use secrecy::ExposeSecret;

use super::{Checked, Report, credential_out_of_reach, file_error, skip_credential};
use crate::config::{Config, Env, FleetConfig};
use crate::connect::Shared;
use crate::credentials::{PasteMistake, command_mistake};
use crate::load::{FleetError, load_fleet};
use crate::platform::threads;
use crate::store::redis::{Login, Probe, RedisStore};
use domo_token_core::masking::ShownName;

/// How far the store's clock may be from this machine's before hosts use less of each token's lifetime.
const MAX_CLOCK_DIFFERENCE_MS: u64 = 10_000;

/// Checks the files of the fleet, if the config has one, and returns its store. No connection is made, because a store
/// that is out of reach is no error.
pub(super) async fn check_fleet(
    config: &Config,
    env: Env<'static>,
    clients: &[Checked<'_>],
    sudo: Option<&str>,
    report: &mut Report,
) -> Option<RedisStore> {
    let Some(fleet) = &config.fleet else {
        return None;
    };
    if let Some(credential) = credential_out_of_reach(fleet.password.as_ref(), env) {
        skip_credential("fleet", "password_credential", credential, report);
        return None;
    }
    let command = fleet.password_command();
    if let Some(mistake) = command.and_then(|command| command_mistake(&command.argv)) {
        let warning = format!("fleet: password_command: {mistake}");
        report.warnings.push(warning);
    }
    let loaded = {
        let fleet: FleetConfig = fleet.clone();
        let loaded = threads::run(move || load_fleet(&fleet, env, &Shared::default())).await;
        loaded.unwrap_or_else(|error| Err(FleetError::NoThread(error)))
    };
    match loaded {
        Ok(loaded) => {
            report
                .good
                .push(format!("fleet ({}): ok", loaded.summary()));
            let mistake = loaded.settings.login.as_ref().and_then(mistake_of);
            let warning = mistake.map(|mistake| format!("fleet: password {}", mistake.advice()));
            report.warnings.extend(warning);
            for client in clients.iter().filter(|client| client.client.shares) {
                if let Err(fault) = loaded.keys_of(&client.loaded.source) {
                    let name = client.name;
                    report.fail(format!(
                        "client \"{name}\": its tokens are not shared: {fault}"
                    ));
                }
            }
            Some(loaded.store.clone())
        }
        Err(error) => {
            let message = match &error {
                FleetError::Credentials(error) => file_error(error, sudo),
                FleetError::Store(_) | FleetError::NoThread(_) => error.to_string(),
            };
            report.wrong.push(message);
            report.denied |= !error.is_temporary();
            None
        }
    }
}

/// Tests the store as the daemon uses it.
pub(super) async fn probe(store: &RedisStore, report: &mut Report) {
    let probe = match Box::pin(store.probe()).await {
        Ok(probe) => probe,
        Err(error) => {
            report.wrong.push(format!("fleet: {error}"));
            return;
        }
    };
    let denied: Vec<&str> = names(&probe, false);
    if !denied.is_empty() {
        let user = store.settings().login.as_ref();
        let user = user.and_then(|login| login.username.as_deref());
        report.wrong.push(format!(
            "fleet: {} does not permit {}; grant it: ACL SETUSER {} ~{}:* +get +set +time +pexpire +del",
            probe.server,
            denied.join(", "),
            ShownName(user.unwrap_or("default")),
            store.settings().prefix
        ));
        return;
    }
    let milliseconds = probe.clock_difference_ms.unwrap_or_default();
    let side = if milliseconds < 0 { "behind" } else { "ahead" };
    let clock = format!("its clock is {} ms {side}", milliseconds.unsigned_abs());
    let tls = if probe.is_tls { "TLS" } else { "no TLS" };
    let login = if probe.has_login {
        "login accepted"
    } else {
        "no login"
    };
    report.good.push(format!(
        "fleet: {} reached ({tls}, {login}); {} permitted; {clock}",
        probe.server,
        names(&probe, true).join(", ")
    ));
    if milliseconds.unsigned_abs() > MAX_CLOCK_DIFFERENCE_MS {
        report.warnings.push(format!(
            "fleet: {clock} of this machine's; less of each token's lifetime is used; synchronize both clocks"
        ));
    }
}

/// Returns the commands that are permitted, or those that are not.
fn names(probe: &Probe, is_granted: bool) -> Vec<&str> {
    let permissions = probe.permissions.iter();
    let matching = permissions.filter(|permission| permission.is_granted == is_granted);
    matching.map(|permission| permission.command).collect()
}

/// Returns what is unusual about a password. It may be a UUID, as client ids are.
fn mistake_of(login: &Login) -> Option<PasteMistake> {
    let mistake = PasteMistake::of(login.password.expose_secret());
    mistake.filter(|mistake| !matches!(mistake, PasteMistake::Id | PasteMistake::AfterId))
}
