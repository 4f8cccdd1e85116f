//! What works, and is most likely a slip all the same.

use super::LoadedClient;
use crate::config::ClientConfig;
use crate::credentials::command_slip;

/// Returns warnings about a client whose files are as they must be.
pub(super) fn slips(name: &str, client: &ClientConfig, loaded: &LoadedClient) -> Vec<String> {
    let command = client.secret_command();
    let command = command.and_then(|(_, command)| command_slip(&command.argv));
    let command = command.map(|slip| format!("client_secret_command: {slip}"));
    let words = command
        .into_iter()
        .chain(loaded.source.credential_warnings());
    words
        .map(|words| format!("client \"{name}\": {words}"))
        .collect()
}
