//! How a store is reached and logged in to.

use std::fmt;
use std::sync::Arc;

use domo_token_core::masking::masked;
use secrecy::{ExposeSecret, SecretString};
use url::Host;
use zeroize::Zeroizing;

/// What a store needs. Two stores with equal settings are interchangeable.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub place: Place,
    /// The number of the database; 0 needs no command.
    pub database: u32,
    /// For the servers and the sentinels; without it, they are reached without TLS.
    pub tls: Option<TlsSettings>,
    pub login: Option<Login>,
    /// Where the login is configured, for messages.
    pub login_keys: &'static str,
    /// The start of all keys.
    pub prefix: String,
}

/// Where the servers are.
#[derive(Clone)]
pub enum Place {
    /// A server, or any node of a cluster.
    Server(Address),
    /// Sentinels, which name the master of a service.
    Sentinels {
        addresses: Vec<Address>,
        service: String,
        password: Option<SecretString>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: Host<String>,
    pub port: u16,
}

/// How TLS verifies both sides.
#[derive(Clone, PartialEq)]
pub struct TlsSettings {
    /// The content of a CA file in PEM, with the file's name for messages.
    pub ca: Option<(Arc<[u8]>, String)>,
    pub identity: Option<ClientIdentity>,
}

/// A client certificate with its key, in PEM.
#[derive(Clone, PartialEq)]
pub struct ClientIdentity {
    pub certificate_pem: Vec<u8>,
    pub key_pem: Zeroizing<Vec<u8>>,
}

/// The login for the servers.
#[derive(Clone)]
pub struct Login {
    /// Without it, that of the default user.
    pub username: Option<String>,
    pub password: SecretString,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.to_string();
        write!(f, "{}:{}", masked(&host), self.port)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(address) => address.fmt(f),
            Self::Sentinels {
                addresses, service, ..
            } => {
                write!(f, "{} of sentinels", masked(service))?;
                for (index, address) in addresses.iter().enumerate() {
                    let separator = if index == 0 { " " } else { ", " };
                    write!(f, "{separator}{address}")?;
                }
                Ok(())
            }
        }
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Server(one), Self::Server(other)) => one == other,
            (
                Self::Sentinels {
                    addresses,
                    service,
                    password,
                },
                Self::Sentinels {
                    addresses: others,
                    service: other_service,
                    password: other_password,
                },
            ) => {
                let text = |secret: &Option<SecretString>| {
                    let text = secret.as_ref().map(ExposeSecret::expose_secret);
                    text.map(|text| Zeroizing::new(text.to_owned()))
                };
                addresses == others
                    && service == other_service
                    && text(password) == text(other_password)
            }
            (Self::Server(_), Self::Sentinels { .. })
            | (Self::Sentinels { .. }, Self::Server(_)) => false,
        }
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username
            && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings")
            .field("ca", &self.ca.as_ref().map(|(_, file)| file))
            .field("identity", &self.identity)
            .finish()
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity")
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentinels(password: Option<&str>) -> Settings {
        let address = |host: &str| Address {
            host: Host::parse(host).unwrap(),
            port: 26379,
        };
        Settings {
            place: Place::Sentinels {
                addresses: vec![address("s1.example"), address("[fd00::1]")],
                service: "mymaster".to_owned(),
                password: password.map(Into::into),
            },
            database: 0,
            tls: Some(TlsSettings {
                ca: Some((b"secret CA".as_slice().into(), "ca.pem".to_owned())),
                identity: Some(ClientIdentity {
                    certificate_pem: b"c".to_vec(),
                    key_pem: Zeroizing::new(b"secret key".to_vec()),
                }),
            }),
            login: Some(Login {
                username: Some("secret user".to_owned()),
                password: "secret login".into(),
            }),
            login_keys: "username and password_file",
            prefix: "domo-token".to_owned(),
        }
    }

    #[test]
    fn settings_with_another_secret_differ() {
        let one = sentinels(Some("secret one"));
        assert_eq!(one, one.clone());
        assert_ne!(one, sentinels(Some("secret two")));
        assert_ne!(one, sentinels(None));
        let mut other = one.clone();
        other.login.as_mut().unwrap().password = "another".into();
        assert_ne!(one, other);
        let mut other = one.clone();
        other.tls.as_mut().unwrap().identity = None;
        assert_ne!(one, other);
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let settings = sentinels(Some("secret sentinel"));
        let shown = format!("{settings:?}");
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(
            settings.place.to_string(),
            "mymaster of sentinels s1.example:26379, [fd00::1]:26379"
        );
    }
}
