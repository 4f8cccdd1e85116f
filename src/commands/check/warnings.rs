//! Warnings about settings that work and are most likely mistakes.

use super::LoadedClient;
use crate::config::ClientConfig;
use crate::credentials::command_mistake;

/// Returns warnings about a client whose files are as they must be.
pub(super) fn of_client(name: &str, client: &ClientConfig, loaded: &LoadedClient) -> Vec<String> {
    let command = client.secret_command();
    let command = command.and_then(|(_, command)| command_mistake(&command.argv));
    let command = command.map(|mistake| format!("client_secret_command: {mistake}"));
    let mistake = command
        .into_iter()
        .chain(loaded.source.credential_warnings());
    mistake
        .map(|mistake| format!("client \"{name}\": {mistake}"))
        .collect()
}
