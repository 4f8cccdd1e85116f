//! Loads the fleet: the settings of its store, and the key that seals records.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::FileStamps;
use crate::config::named_path::NamedPath;
use crate::config::{Env, FleetAddress, FleetConfig, FleetServers};
use crate::connect::Shared;
use crate::credentials::{self, CredentialsError, FleetFiles};
use crate::platform::file_watch::Stamp;
use crate::source::Source;
use crate::source::sealing::{FleetKeys, FleetKeysError};
use crate::store::redis::{
    Address, ClientIdentity, Login, Place, RedisStore, Settings, TlsSettings,
};
use domo_token_core::masking::ShownName;

/// A fleet whose files are as they must be. Equal ones are interchangeable.
pub struct LoadedFleet {
    /// How the store is reached.
    pub settings: Settings,
    /// The store itself.
    pub store: RedisStore,
    /// The content of the key file without the line breaks at its end.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// The store, as messages and the status show it.
    pub place: String,
}

impl LoadedFleet {
    fn new(config: &FleetConfig, files: FleetFiles, shared: &Shared) -> Result<Self, FleetError> {
        let place = place_of(config, files.sentinel_password);
        let ca_name = config.ca_file.as_ref().map(NamedPath::shown);
        let tls = config.is_tls.then(|| TlsSettings {
            ca: files.ca.map(Arc::from).zip(ca_name),
            identity: files
                .identity
                .map(|(certificate_pem, key_pem)| ClientIdentity {
                    certificate_pem,
                    key_pem,
                }),
        });
        let login = files.password.map(|password| Login {
            username: config.username.clone(),
            password,
        });
        let shown = place.to_string();
        let settings = Settings {
            place,
            database: config.database,
            tls,
            login,
            login_keys: config.login_keys(),
            prefix: config.prefix.clone(),
        };
        let store = RedisStore::new(settings.clone(), shared);
        Ok(Self {
            store: store.map_err(FleetError::Store)?,
            settings,
            key: files.key,
            place: shown,
        })
    }

    /// Returns the keys that seal the tokens of this client.
    ///
    /// # Errors
    ///
    /// [`FleetKeysError`] if its tokens cannot be shared.
    pub fn keys_of(&self, client: &Source) -> Result<FleetKeys, FleetKeysError> {
        let origin = client.origin();
        let key = self.key.as_deref().map(Vec::as_slice);
        FleetKeys::new(
            client.client_secret(),
            key,
            &origin.token_url,
            &origin.client_id,
        )
    }

    /// Returns the store, whether it is reached with TLS, the login and whether there is a key file, in one line.
    pub(crate) fn summary(&self) -> String {
        let tls = match &self.settings.tls {
            Some(TlsSettings {
                identity: Some(_), ..
            }) => "TLS with a client certificate",
            Some(_) => "TLS",
            None => "no TLS",
        };
        let login = match &self.settings.login {
            Some(Login {
                username: Some(name),
                ..
            }) => format!("login \"{}\"", ShownName(name)),
            Some(_) => "password".to_owned(),
            None => "no password".to_owned(),
        };
        let key = if self.key.is_some() {
            "key file"
        } else {
            "no key file"
        };
        format!("{}, {tls}, {login}, {key}", self.place)
    }
}

impl PartialEq for LoadedFleet {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings && self.key == other.key
    }
}

/// Returns where the store is.
pub(crate) fn place_of(config: &FleetConfig, sentinel_password: Option<SecretString>) -> Place {
    let address = |address: &FleetAddress| Address {
        host: address.host.clone(),
        port: address.port,
    };
    match &config.servers {
        FleetServers::Server(server) => Place::Server(address(server)),
        FleetServers::Sentinels {
            addresses, service, ..
        } => Place::Sentinels {
            addresses: addresses.iter().map(address).collect(),
            service: service.clone(),
            password: sentinel_password,
        },
    }
}

impl fmt::Debug for LoadedFleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedFleet")
            .field("settings", &self.settings)
            .field("has_key", &self.key.is_some())
            .finish_non_exhaustive()
    }
}

/// Why the fleet can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The certificates or the key cannot be used.
    #[error("fleet: {0}")]
    Store(String),
    /// The system has no thread to load it on.
    #[error("cannot run fleet.password_command: {0}; raise the limit on threads")]
    NoThread(io::Error),
}

impl FleetError {
    /// Returns whether loading may succeed later without a change of files or config: a command
    /// failed, or the system had no room.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Credentials(error) => error.is_command_failure() || error.is_exhausted(),
            Self::Store(_) => false,
            Self::NoThread(_) => true,
        }
    }
}

/// The result of loading the fleet.
pub(crate) type FleetResult = Result<Arc<LoadedFleet>, FleetError>;

/// How far loading the fleet has come.
#[derive(Debug)]
pub(crate) enum FleetProgress {
    Done(FleetResult),
    /// It takes a command, which runs again only if one of these has changed.
    NeedsCommand(Box<FleetInputs>),
}

/// What loading a fleet depends on, besides what its command prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FleetInputs {
    pub(crate) config: FleetConfig,
    pub(crate) files: FileStamps,
}

impl FleetProgress {
    /// Loads a fleet as far as that takes no command.
    pub(super) fn of(
        config: &FleetConfig,
        env: Env,
        stamps: &BTreeMap<PathBuf, Stamp>,
        shared: &Shared,
    ) -> Self {
        if config.password_command().is_none() {
            return Self::Done(load_fleet(config, env, shared));
        }
        let stamped = |path: PathBuf| {
            let stamp = stamps.get(&path).copied().unwrap_or_default();
            (path, stamp)
        };
        Self::NeedsCommand(Box::new(FleetInputs {
            config: config.clone(),
            files: config.files().into_iter().map(stamped).collect(),
        }))
    }
}

/// Loads a fleet. Blocks: on files, and on the command if there is one. No connection is made.
///
/// # Errors
///
/// [`FleetError`].
pub(crate) fn load_fleet(config: &FleetConfig, env: Env, shared: &Shared) -> FleetResult {
    let files = credentials::fleet_files(config, env)?;
    Ok(Arc::new(LoadedFleet::new(config, files, shared)?))
}
