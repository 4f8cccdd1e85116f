//! Completes an error's message for its reader: the likely cause, and variables in place of keys.

use super::Registration;
use crate::config::in_variables;
use crate::credentials::ProxyLogin;
use domo_token_core::fetch_result::FetchError;

/// Returns the error as its reader needs it: with the mistake that explains it, and with variables in place of
/// keys where there are no keys.
pub(super) fn for_reader(error: FetchError, registration: &Registration) -> FetchError {
    let mut error = with_mistake(error, registration);
    if registration.by_environment {
        let (FetchError::Denied { message, .. }
        | FetchError::ProxyLogin { message }
        | FetchError::Transient { message, .. }) = &mut error;
        *message = in_variables(message);
    }
    error
}

/// Returns the error with the mistake that the rejected secret or login shows, if it shows one.
fn with_mistake(mut error: FetchError, registration: &Registration) -> FetchError {
    let (message, what, mistake) = match &mut error {
        FetchError::Denied {
            scope_only: false,
            message,
            ..
        } => (
            message,
            "client secret",
            registration.credentials.paste_mistake(),
        ),
        FetchError::ProxyLogin { message, .. } => {
            let login = registration.proxy_login.as_ref();
            (
                message,
                "proxy login",
                login.and_then(ProxyLogin::paste_mistake),
            )
        }
        FetchError::Denied { .. } | FetchError::Transient { .. } => return error,
    };
    if let Some(mistake) = mistake {
        *message = format!("{message}; the {what} {}", mistake.advice());
    }
    error
}
