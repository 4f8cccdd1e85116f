//! What a client's part of the config says about loading it.

use std::path::PathBuf;

use super::{ClientConfig, CredentialsSource, IdSource, SecretCommand, SecretSource};

impl ClientConfig {
    /// Whether the config file itself holds its secret.
    #[must_use]
    pub fn holds_a_secret(&self) -> bool {
        match &self.credentials {
            CredentialsSource::Pair { secret, .. } => matches!(secret, SecretSource::Inline(_)),
            CredentialsSource::ConnectionFile(_) => false,
        }
    }

    /// Where its id comes from, and the command that prints its secret, if one does.
    #[must_use]
    pub fn secret_command(&self) -> Option<(&IdSource, &SecretCommand)> {
        match &self.credentials {
            CredentialsSource::Pair {
                id,
                secret: SecretSource::Command(command),
            } => Some((id, command)),
            CredentialsSource::Pair { .. } | CredentialsSource::ConnectionFile(_) => None,
        }
    }

    /// The files that it stands on: id, secret, certificates, the login for its proxy.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let endpoint = &self.endpoint;
        let of_endpoint = endpoint.ca_file.iter().chain(&endpoint.proxy_auth_file);
        let (id, secret) = match &self.credentials {
            CredentialsSource::ConnectionFile(file) => (None, Some(file)),
            CredentialsSource::Pair { id, secret } => {
                let id = match id {
                    IdSource::File(file) => Some(file),
                    IdSource::Inline(_) => None,
                };
                let secret = match secret {
                    SecretSource::File(file) => Some(file),
                    SecretSource::Inline(_)
                    | SecretSource::Env(_)
                    | SecretSource::Credential(_)
                    | SecretSource::Command(_) => None,
                };
                (id, secret)
            }
        };
        let files = of_endpoint.chain(id).chain(secret);
        files.map(|file| file.path().to_owned()).collect()
    }
}
