//! What a rejection is most likely due to, as the end of its message.

use super::Registration;
use crate::config::in_variables;
use crate::credentials::ProxyLogin;
use domo_token_core::fetch::FetchError;

/// Returns the error as its reader needs it: with the slip that explains it, and with variables in place of
/// keys where there are no keys.
pub(super) fn for_reader(error: FetchError, registration: &Registration) -> FetchError {
    let mut error = with_slip(error, registration);
    if registration.by_environment {
        let (FetchError::Denied { message: words, .. }
        | FetchError::ProxyLogin { message: words }
        | FetchError::Transient { message: words, .. }) = &mut error;
        *words = in_variables(words);
    }
    error
}

/// Returns the error with the slip that the rejected secret or login shows, if it shows one.
fn with_slip(mut error: FetchError, registration: &Registration) -> FetchError {
    let (words, what, slip) = match &mut error {
        FetchError::Denied {
            scope_only: false,
            message: words,
            ..
        } => (words, "client secret", registration.credentials.slip()),
        FetchError::ProxyLogin { message: words, .. } => {
            let login = registration.proxy_login.as_ref();
            (words, "proxy login", login.and_then(ProxyLogin::slip))
        }
        FetchError::Denied { .. } | FetchError::Transient { .. } => return error,
    };
    if let Some(slip) = slip {
        *words = format!("{words}; the {what} {}", slip.advice());
    }
    error
}
