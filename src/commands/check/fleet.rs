//! Checks the fleet: its files, and which clients cannot share their tokens in it.

use secrecy::ExposeSecret;

use super::{Checked, Report, credential_out_of_reach, file_error, skip_credential};
use crate::config::{Config, Env, FleetConfig};
use crate::connect::Shared;
use crate::credentials::{PasteMistake, command_mistake};
use crate::load::{FleetError, load_fleet};
use crate::platform::threads;
use crate::store::redis::Login;

/// Checks the files of the fleet, if the config has one. No connection is made, because a store that is out of reach is
/// no error.
pub(super) async fn check_fleet(
    config: &Config,
    env: Env<'static>,
    clients: &[Checked<'_>],
    sudo: Option<&str>,
    report: &mut Report,
) {
    let Some(fleet) = &config.fleet else {
        return;
    };
    if let Some(credential) = credential_out_of_reach(fleet.password.as_ref(), env) {
        skip_credential("fleet", "password_credential", credential, report);
        return;
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
                    report.fail(format!("client \"{}\": {fault}", client.name));
                }
            }
        }
        Err(error) => {
            let message = match &error {
                FleetError::Credentials(error) => file_error(error, sudo),
                FleetError::Store(_) | FleetError::NoThread(_) => error.to_string(),
            };
            report.wrong.push(format!("fleet: {message}"));
            report.denied |= !error.is_temporary();
        }
    }
}

/// Returns what is unusual about a password. It may be a UUID, as client ids are.
fn mistake_of(login: &Login) -> Option<PasteMistake> {
    let mistake = PasteMistake::of(login.password.expose_secret());
    mistake.filter(|mistake| !matches!(mistake, PasteMistake::Id | PasteMistake::AfterId))
}
