//! Connects to the broker, and adds context to errors of requests.

use std::path::Path;

use domo_token_client::clock::boot_now;
use domo_token_client::{Broker, DEFAULT_TIMEOUT, Error, ErrorKind};
use domo_token_protocol::BootTime;
use domo_token_protocol::messages::NO_CLIENT_GIVEN;

use crate::args::{ExecInstead, Get};
use crate::error::CliError;

/// Connects for requests without a `--timeout`.
pub(crate) fn connect(socket: Option<&Path>) -> Result<Broker, Error> {
    Broker::connect_by(boot_now() + DEFAULT_TIMEOUT, socket)
}

/// Returns the error of a request. Adds that `$DOMO_TOKEN_CLIENT` names the client, or that `exec` may have
/// been meant.
pub(crate) fn request_error(error: &Error, get: &Get) -> CliError {
    let failed = CliError::of(error, &get.scopes);
    if !matches!(
        error.kind(),
        ErrorKind::UnknownClient | ErrorKind::UnknownScope | ErrorKind::NotPermitted
    ) {
        return failed;
    }
    let cause = error.facts().to_string();
    let failed = if cause.starts_with(NO_CLIENT_GIVEN) {
        failed.with_suffix("; to name it, use --client NAME or DOMO_TOKEN_CLIENT")
    } else {
        failed
    };
    let exec = get.exec_instead.as_ref();
    let failed = match exec.and_then(ExecInstead::advice) {
        Some(advice) => failed.with_suffix(&advice),
        None => failed,
    };
    match get.client.as_ref().filter(|_| get.is_client_variable) {
        Some(client) if cause.contains(&format!("client {client:?}")) => {
            failed.with_prefix(&format!("$DOMO_TOKEN_CLIENT is {client:?}: "))
        }
        Some(_) | None => failed,
    }
}

/// Connects to the socket, and for the client, that the arguments name.
pub(crate) fn connect_for(get: &Get, deadline: BootTime) -> Result<Broker, Error> {
    let broker = Broker::connect_by(deadline, get.socket.as_deref())?;
    Ok(match &get.client {
        Some(name) => broker.with_client(name),
        None => broker,
    })
}
