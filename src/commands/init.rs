//! `domo-tokend init`: a first config and secret file, tried against Domo before they are written.

mod config_text;
mod error;
mod pasted_input;
mod prompts;
mod terminal_input;
mod proxy_variable;
mod start_commands;
mod test_credentials;
mod write_files;

use std::path::{Path, PathBuf};

use domo_token_protocol::duration::show;
use url::Url;

use crate::config::{self, ClientConfig, Config, Env};
use crate::connect::Shared;
use crate::credentials::{self, Credentials, CredentialsError, ProxyLogin};
use crate::source::Source;
use domo_token_core::fetch_result::Cause;
use error::wrong;
use test_credentials::Failure;

pub use error::InitError;

#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The path of the config; by default where the daemon looks for it.
    pub config: Option<PathBuf>,
    /// The client's name in it.
    pub name: String,
    /// The client id; prompted for if it isn't given.
    pub client_id: Option<String>,
    pub tokens: Vec<String>,
    /// Another endpoint than Domo's own.
    pub token_url: Option<String>,
    pub proxy: Option<String>,
    /// The file with the login for it.
    pub proxy_auth_file: Option<PathBuf>,
    /// Certificates trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether no token is requested.
    pub offline: bool,
}

#[derive(Debug)]
pub struct Written {
    pub config: PathBuf,
    /// What was done and what to do next, for standard output.
    pub next: String,
}

/// Prompts for what is missing, tests the credentials, writes both files, and returns the next steps.
///
/// # Errors
///
/// [`InitError`]; then nothing was written that wasn't there before.
pub async fn run(options: &InitOptions, env: Env<'_>) -> Result<Written, InitError> {
    let path = config_path(options, env).ok_or(InitError::NoConfigPath)?;
    // Before the user types an id or a secret.
    let placeholder = "id";
    let config = config_text::parse(&config_text::config_text(options, placeholder)?, &path)?;
    let secret_path = free_secret_path(&path, &options.name)?;
    let logins = proxy_logins(&config)?;
    let client_id = prompts::client_id(options)?;
    let text = config_text::config_text(options, &client_id)?;
    let config = config_text::parse(&text, &path)?;
    let secret = prompts::client_secret()?;
    let (mut tried, shared) = (Vec::new(), Shared::default());
    for (client, login) in config.clients.values().zip(logins) {
        let credentials = Credentials {
            client_id: client_id.clone(),
            client_secret: secret.clone(),
        };
        let source = Source::new(client, credentials, login, None, &shared)?;
        if options.offline {
            tried.push("credentials not tested against Domo".to_owned());
        } else {
            let result = test_credentials::run(&*source, &client.tokens, tokio::time::sleep).await;
            let url = &client.endpoint.url;
            tried.push(result.map_err(|failure| explained(failure, options, url, env))?);
        }
    }
    write_files::write(&path, &text, &secret_path, &secret)?;
    let next = next_steps(options, &path, &secret_path, &tried.join("\n"), env);
    Ok(Written { config: path, next })
}

/// Reads the files that the options name, as the daemon does.
fn proxy_logins(config: &Config) -> Result<Vec<Option<ProxyLogin>>, InitError> {
    let load = |client: &ClientConfig| {
        if let Some(path) = &client.endpoint.ca_file {
            credentials::read_certificates(path)?;
        }
        credentials::proxy_login(client)
    };
    let logins: Result<_, CredentialsError> = config.clients.values().map(load).collect();
    Ok(logins?)
}

/// Returns a failure with advice.
fn explained(failure: Failure, options: &InitOptions, url: &Url, env: Env) -> InitError {
    match failure {
        Failure::Rejected(message) => InitError::Rejected(message),
        Failure::Scopes(message) => InitError::Scopes(message),
        Failure::ProxyLogin(message) => InitError::ProxyLogin(message),
        Failure::Transient {
            cause,
            message,
            retry_after,
        } => {
            let is_busy = matches!(cause, Cause::RateLimited | Cause::Server);
            let hint = match (retry_after, cause) {
                (Some(wait), _) => again(&format!("in {}", show(wait))),
                (None, _) if is_busy => again("later"),
                (None, Cause::Connect | Cause::Timeout) if options.proxy.is_none() => {
                    offline(proxy_variable::hint(url, env))
                }
                (None, Cause::Tls)
                    if options.ca_file.is_none() && message.contains("--ca-file") =>
                {
                    let hint =
                        "if a proxy or gateway intercepts TLS, trust its CA with --ca-file FILE";
                    offline(Some(hint.to_owned()))
                }
                (None, _) => offline(None),
            };
            InitError::Unreachable { message, hint }
        }
    }
}

fn again(when: &str) -> String {
    format!(
        "run this again {when}, or, to write the files without a request to Domo, add --offline"
    )
}

fn offline(hint: Option<String>) -> String {
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("to write the files without a request to Domo, add --offline{hint}")
}

/// Returns the path of the secret, if neither it nor the config exists.
fn free_secret_path(config: &Path, name: &str) -> Result<PathBuf, InitError> {
    let path = config.to_string_lossy();
    if path.contains(char::is_control) {
        return Err(wrong(
            "--config",
            "the path contains a control character; choose another path",
        ));
    }
    let secret = config.with_file_name(format!("{name}.secret"));
    if config.symlink_metadata().is_ok() {
        return Err(InitError::ConfigExists(config.to_owned()));
    }
    if secret.symlink_metadata().is_ok() {
        return Err(InitError::SecretExists(secret));
    }
    Ok(secret)
}

/// Returns where the daemon looks first for a config of this user.
fn config_path(options: &InitOptions, env: Env) -> Option<PathBuf> {
    #[cfg(unix)]
    let has_own = !rustix::process::geteuid().is_root();
    #[cfg(windows)]
    let has_own = false;
    let usual = if has_own {
        config::user_config_path
    } else {
        config::host_config_path
    };
    config::explicit_config_path(options.config.clone(), env).or_else(|| usual(env))
}

fn next_steps(
    options: &InitOptions,
    path: &Path,
    secret_path: &Path,
    tried: &str,
    env: Env,
) -> String {
    let set = options.tokens.first().map_or("data", String::as_str);
    let start = start_commands::commands(path, options.config.as_deref(), env).join("\n  ");
    format!(
        "{tried}\nwrote {} and {}\nnext:\n  {start}\n  domo-token {set}\n",
        path.display(),
        secret_path.display()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Returns the options of a command line without any, but for the name.
    pub(super) fn options() -> InitOptions {
        InitOptions {
            config: None,
            name: "acme".to_owned(),
            client_id: None,
            tokens: vec!["data".to_owned()],
            token_url: None,
            proxy: None,
            proxy_auth_file: None,
            ca_file: None,
            offline: true,
        }
    }

    fn message(failure: Failure, options: &InitOptions) -> String {
        let env = |name: &str| (name == "HTTPS_PROXY").then(|| "http://p.example:8080".into());
        let url = Url::parse(config::TOKEN_URL).unwrap();
        explained(failure, options, &url, &env).to_string()
    }

    fn transient(cause: Cause, message: &str) -> Failure {
        Failure::Transient {
            cause,
            message: message.to_owned(),
            retry_after: None,
        }
    }

    #[test]
    fn hint_of_an_unreachable_domo_fits_the_cause_and_the_options() {
        let untrusted = "--ca-file must contain the certificate";
        let with_all = InitOptions {
            proxy: Some("http://proxy.example".to_owned()),
            ca_file: Some("ca.pem".into()),
            ..options()
        };
        for (cause, text, end) in [
            (Cause::Connect, "", "add --proxy http://p.example:8080"),
            (Cause::Timeout, "", "add --proxy http://p.example:8080"),
            (Cause::Tls, untrusted, "with --ca-file FILE"),
            (Cause::Tls, "an http proxy", "add --offline"),
            (Cause::Server, "", "add --offline"),
        ] {
            let without = message(transient(cause, text), &options());
            assert!(without.ends_with(end), "{without}");
            let with = message(transient(cause, text), &with_all);
            assert!(with.ends_with("add --offline"), "{with}");
        }
    }

    #[test]
    fn transient_failure_is_reported_with_when_to_retry() {
        for (cause, retry_after, when) in [
            (Cause::Server, None, "run this again later, or"),
            (Cause::RateLimited, None, "run this again later, or"),
            (Cause::Proxy, Some(30), "run this again in 30 s, or"),
            (Cause::Unusable, Some(30), "run this again in 30 s, or"),
        ] {
            let message = message(
                Failure::Transient {
                    cause,
                    message: "no answer".to_owned(),
                    retry_after: retry_after.map(Duration::from_secs),
                },
                &options(),
            );
            assert!(message.contains(&format!("no answer; {when}")), "{message}");
        }
    }
}
