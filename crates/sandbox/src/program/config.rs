//! Configs for the broker.

use std::fmt::Write;

use super::flags::ClientFlag;

/// Returns the tables `[clients.NAME]`. `trust` is the line that makes the broker accept the token endpoint.
pub(super) fn client_tables(
    clients: &[ClientFlag],
    token_url: &str,
    trust: &str,
    tokens: impl Fn(&ClientFlag) -> Vec<String>,
) -> String {
    let mut text = String::new();
    for (number, client) in clients.iter().enumerate() {
        let name = if number == 0 {
            DEFAULT_CLIENT.to_owned()
        } else {
            format!("{DEFAULT_CLIENT}{number}")
        };
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "[clients.{name}]\nclient_id = {:?}\nclient_secret = {:?}\ntokens = {:?}\n\
             token_url = {token_url:?}\n{trust}",
            client.id,
            client.secret,
            tokens(client),
        );
    }
    text
}

/// The name of the first client.
pub(super) const DEFAULT_CLIENT: &str = "sandbox";

/// The line of a config that accepts HTTP on this host.
pub(super) const HTTP: &str = "allow_http_loopback = true";

/// Returns one scope of a client, for an example.
pub(super) fn one_scope(client: &ClientFlag) -> Vec<String> {
    let scopes = &client.scopes;
    let data = scopes.iter().find(|scope| *scope == "data");
    data.or(scopes.first()).into_iter().cloned().collect()
}
