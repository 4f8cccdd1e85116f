//! What failed with a server, and what to do.

use domo_token_core::masking::masked;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::resp::{End, MAX_EXCHANGE, ServerError, Value};
use super::settings::{Address, Login};

use crate::connect::{ConnectError, ConnectFailure, Diagnosis, Secrets, innermost, one_line};
use crate::credentials::ProxyLogin;
use crate::store::{StoreError, StoreFailure};

/// The least characters of a secret for which addresses are searched: a shorter one can be a part of any.
const MIN_SECRET: usize = 8;

/// What messages about a server need, and what they must not contain.
pub(super) struct Subject<'a> {
    /// Host and port.
    pub(super) server: &'a str,
    pub(super) login: Option<&'a Login>,
    pub(super) role: Role<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Role<'a> {
    Sentinel,
    Store {
        prefix: &'a str,
        /// Where the login is configured.
        login_keys: &'static str,
        /// The name of the records, which servers repeat in errors.
        name: &'a str,
    },
}

pub(super) fn error(cause: StoreFailure, message: impl Into<String>) -> StoreError {
    let message = message.into();
    StoreError { cause, message }
}

/// Returns the error of a connection that was not established.
pub(super) fn of_connect(failed: &ConnectError, is_tls: bool) -> StoreError {
    let cause = match failed.failure {
        ConnectFailure::TimedOut => StoreFailure::Timeout,
        ConnectFailure::Tls => StoreFailure::Tls,
        ConnectFailure::Unreachable | ConnectFailure::ProxyLogin | ConnectFailure::Proxy(_) => {
            StoreFailure::Connect
        }
    };
    let message = one_line(&failed.message);
    // The errors of connecting say what to do only where that does not depend on the protocol.
    if message.contains("; ") {
        return error(cause, message);
    }
    let advice = match (cause, is_tls) {
        (StoreFailure::Tls, _) => return error(cause, message),
        // A server without TLS waits for the rest of what it takes for a command.
        (StoreFailure::Timeout, true) => {
            "check that the server runs; if it expects no TLS, write redis instead of rediss"
        }
        _ => "check host and port, and that the server runs and admits this host",
    };
    error(cause, format!("{message}; {advice}"))
}

/// Returns the error of an established connection that ended so.
pub(super) fn of_end(end: End, server: &str, is_tls: bool, diagnosis: &Diagnosis) -> StoreError {
    let hint = if is_tls {
        diagnosis.hint()
    } else {
        "; if it expects TLS, write rediss instead of redis"
    };
    match end {
        End::TooLong => error(
            StoreFailure::Protocol,
            format!(
                "{server} sent more than {} KiB for one operation; check host and port",
                MAX_EXCHANGE / 1024
            ),
        ),
        End::Unsolicited => error(
            StoreFailure::Protocol,
            format!(
                "{server} sent more answers than it received commands; check host and port, and a proxy in between"
            ),
        ),
        End::Closed => error(
            StoreFailure::Connect,
            format!("{server} closed the connection before it answered{hint}"),
        ),
        End::Failed(failed) => match diagnosis.explain(&failed) {
            Some(explained) => of_connect(&explained, is_tls),
            None => error(
                StoreFailure::Connect,
                format!(
                    "the connection to {server} ended: {}{hint}",
                    innermost(&failed)
                ),
            ),
        },
        End::Invalid => error(
            StoreFailure::Protocol,
            format!(
                "{server} does not answer in the Redis protocol; check host and port, and redis or rediss"
            ),
        ),
    }
}

/// Returns the error for an answer to `command` that does not fit it.
pub(super) fn unexpected(server: &str, command: &str) -> StoreError {
    let message = format!(
        "the answer of {server} to {command} is invalid; check host and port, and that nothing else uses its keys"
    );
    error(StoreFailure::Protocol, message)
}

/// Returns the error that an answer is, if it is one.
pub(super) fn server_error(value: &Value) -> Option<&ServerError> {
    match value {
        Value::Error(error) => Some(error),
        Value::Nil | Value::Integer(_) | Value::Text(_) | Value::Bytes(_) | Value::Array(_) => None,
    }
}

/// Returns whether an answer is that the login may not execute the command.
pub(super) fn is_denied(value: &Value) -> bool {
    server_error(value).is_some_and(|error| error.code() == "NOPERM")
}

/// Returns whether an answer is that a key has a value of another type than the command needs.
pub(super) fn is_wrong_type(value: &Value) -> bool {
    server_error(value).is_some_and(|error| error.code() == "WRONGTYPE")
}

/// Returns the error of a rejected login.
pub(super) fn of_login(rejected: &ServerError, subject: &Subject<'_>) -> StoreError {
    let server = subject.server;
    if let Some(error) = no_connection(rejected, server) {
        return error;
    }
    let message = match rejected.code() {
        "WRONGPASS" => format!(
            "{server} rejects the user name or the password (WRONGPASS); check {}",
            subject.login_keys()
        ),
        code => format!(
            "{server} rejects the login ({}); check {}",
            subject.text(code, rejected.details()),
            subject.login_keys()
        ),
    };
    error(StoreFailure::Login, message)
}

/// Returns the error if a server rejects not the command but the connection.
fn no_connection(rejected: &ServerError, server: &str) -> Option<StoreError> {
    if rejected.code() == "DENIED" {
        let message = format!(
            "{server} is in protected mode and accepts only connections of its own machine (DENIED); \
             set a password in its config, and password_file"
        );
        return Some(error(StoreFailure::Login, message));
    }
    let is_full = rejected.details().starts_with("max number of clients");
    is_full.then(|| {
        let message = format!("{server} accepts no more connections; raise its maxclients");
        error(StoreFailure::Connect, message)
    })
}

/// Returns the error of a rejected command.
pub(super) fn of_command(
    rejected: &ServerError,
    command: &str,
    subject: &Subject<'_>,
) -> StoreError {
    let server = subject.server;
    if let Some(error) = no_connection(rejected, server) {
        return error;
    }
    match rejected.code() {
        "NOAUTH" => error(
            StoreFailure::Login,
            format!(
                "{server} requires a login (NOAUTH); set {}",
                subject.login_keys()
            ),
        ),
        "NOPERM" => error(
            StoreFailure::Login,
            format!(
                "{server} does not permit {command} (NOPERM); grant it{}",
                subject.grant(command)
            ),
        ),
        "OOM" => error(
            StoreFailure::Full,
            format!(
                "{server} is full (OOM); raise its maxmemory, or give the fleet a server of its own"
            ),
        ),
        "READONLY" => error(
            StoreFailure::ReadOnly,
            format!(
                "{server} is a replica and read-only (READONLY); configure the master, or sentinels"
            ),
        ),
        "MISCONF" => error(
            StoreFailure::ReadOnly,
            format!(
                "{server} accepts no writes because it cannot save its data (MISCONF); see its log"
            ),
        ),
        code => error(
            StoreFailure::Protocol,
            format!(
                "{server} rejects {command}: {}; see its log",
                subject.text(code, rejected.details())
            ),
        ),
    }
}

impl Subject<'_> {
    /// Returns the config keys of the login.
    fn login_keys(&self) -> &'static str {
        match self.role {
            Role::Sentinel => "sentinel_password_file",
            Role::Store { login_keys, .. } => login_keys,
        }
    }

    /// Returns the command that grants what is needed.
    fn grant(&self, command: &str) -> String {
        let Role::Store { prefix, .. } = self.role else {
            return String::new();
        };
        let user = self.login.and_then(|login| login.username.as_deref());
        let user = masked(user.unwrap_or("default"));
        let select = if command == "SELECT" { " +select" } else { "" };
        format!(": ACL SETUSER {user} ~{prefix}:* +get +set +time +pexpire +del{select}")
    }

    /// Returns whether messages may contain an address that a server sent: it may consist of what the server received.
    pub(super) fn may_show(&self, address: &Address) -> bool {
        // Host names are in lower case.
        let host = address.host.to_string().to_lowercase();
        let contains = |secret: &str| {
            let is_long = secret.chars().count() >= MIN_SECRET;
            is_long && host.contains(&*Zeroizing::new(secret.to_lowercase()))
        };
        let name = match self.role {
            Role::Sentinel => "",
            Role::Store { name, .. } => name,
        };
        let mut login = self.login.into_iter();
        !contains(name) && !login.any(|login| contains(login.password.expose_secret()))
    }

    /// Returns what a server sent, fit for a message.
    fn text(&self, code: &str, details: &str) -> String {
        // Then it repeats the arguments of the command.
        let details = details.split(", with args").next().unwrap_or_default();
        let mut text = format!("{code} {details}");
        if let Role::Store { name, .. } = self.role {
            text = text.replace(name, "[redacted]");
        }
        let login = self.login.map(|login| ProxyLogin {
            user: login.username.clone().unwrap_or_default(),
            password: login.password.clone(),
        });
        let secrets = Secrets {
            login: login.as_ref(),
            ..Secrets::default()
        };
        one_line(&secrets.removed_from(&text))
    }
}
