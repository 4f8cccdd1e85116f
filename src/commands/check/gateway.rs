//! Checks the gateway: its files, and rules of its applications that can never match.

use super::{Report, file_error};
use crate::config::{AppConfig, Config, GatewayConfig};
use crate::credentials::{CredentialsError, SecretHash, read_hash_file, read_host_key};
use crate::load::{GatewayTlsError, load_gateway_tls};

/// Returns warnings about rules that can never match.
pub(super) fn covered_rules(config: &Config) -> Vec<String> {
    let apps = config.gateway.iter().flat_map(|gateway| &gateway.apps);
    apps.flat_map(|(name, app)| covered_rules_of(name, app))
        .collect()
}

fn covered_rules_of(name: &str, app: &AppConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, rule) in app.allow.iter().enumerate() {
        let mut earlier = app.allow.iter().take(index);
        if let Some(cover) = earlier.position(|earlier| earlier.covers(rule)) {
            warnings.push(format!(
                "application \"{name}\": allow[{index}] ({} {}) can never match, because allow[{cover}] \
                 covers it; remove it, or move it up",
                rule.methods, rule.path
            ));
        }
    }
    warnings
}

/// Checks the files of the gateway, if the config has one.
pub(super) fn check_gateway(config: &Config, sudo: Option<&str>, report: &mut Report) {
    let Some(gateway) = &config.gateway else {
        return;
    };
    let faults = report.wrong.len();
    // Without an application there may be no key yet.
    if !gateway.apps.is_empty()
        && let Err(error) = read_host_key(&gateway.key_file)
    {
        fail(report, &error, "", sudo);
    }
    match gateway.tls.as_ref().map(load_gateway_tls).transpose() {
        Ok(_) => {}
        Err(GatewayTlsError::Credentials(error)) => fail(report, &error, "", sudo),
        Err(error @ (GatewayTlsError::Certificate(_) | GatewayTlsError::Library(_))) => {
            report.fail(error.to_string());
        }
    }
    if report.wrong.len() == faults {
        report
            .good
            .push(format!("gateway ({}): ok", listeners(gateway)));
    }
    for (name, app) in &gateway.apps {
        let subject = format!("application \"{name}\"");
        match read_hash_file(&app.secret_hash_file, name) {
            Ok(hashes) => {
                let state = state(&hashes);
                let client = &app.client;
                report
                    .good
                    .push(format!("{subject} (client \"{client}\"): {state}"));
            }
            Err(error) => fail(report, &error, &format!("{subject}: "), sudo),
        }
    }
}

fn fail(report: &mut Report, error: &CredentialsError, start: &str, sudo: Option<&str>) {
    let message = file_error(error, sudo);
    report.fail(format!("{start}{message}"));
}

fn listeners(gateway: &GatewayConfig) -> String {
    let plain = gateway.listen.map(|listen| listen.to_string());
    let tls = gateway
        .tls_listen()
        .map(|listen| format!("{listen} with TLS"));
    let listeners: Vec<String> = plain.into_iter().chain(tls).collect();
    listeners.join(", ")
}

fn state(hashes: &[SecretHash]) -> &'static str {
    match hashes {
        [] => "removed",
        [_] => "ok, 1 secret",
        [_, _, ..] => "ok, 2 secrets",
    }
}
