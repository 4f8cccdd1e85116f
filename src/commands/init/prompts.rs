//! Prompts for client id and client secret.

use domo_token_protocol::scope::DOMO_SCOPE_NAMES;
use secrecy::SecretString;

use super::error::wrong;
use super::{InitError, InitOptions, pasted_input, terminal_input};
use crate::config;

/// Returns the id of the options, or prompts for it.
pub(super) fn client_id(options: &InitOptions) -> Result<String, InitError> {
    if let Some(id) = &options.client_id {
        return pasted_input::client_id(id).map_err(|mistake| wrong("--client-id", &mistake));
    }
    let (sets, all) = (config::listed(&options.tokens), DOMO_SCOPE_NAMES.join(", "));
    terminal_input::show(&format!(
        "Domo's scopes are {all}. A token is requested for {sets}; choose others with --tokens."
    ));
    terminal_input::until_usable(
        "client id",
        || terminal_input::line("Client id (Admin > Authentication > API clients): "),
        pasted_input::client_id,
    )
}

/// Prompts for the secret, which is never an argument: every user of the host can read arguments.
pub(super) fn client_secret() -> Result<SecretString, InitError> {
    terminal_input::until_usable(
        "client secret",
        || terminal_input::hidden("Client secret (not shown): "),
        pasted_input::client_secret,
    )
}
