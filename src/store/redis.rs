//! A store on a server that speaks the Redis protocol: Redis or Valkey, alone, with Sentinel, or as a cluster.
//!
//! - `settings`: how it is reached.
//! - `resp`: the protocol; bounds what is read.
//! - `command`: commands, and what is answered to them.
//! - `error`: what failed, and what to do.
//! - `connection`: one connection, and its login.
//! - `sentinel`: finds the master.
//! - `link`: executes commands over a connection, and follows to other nodes of a cluster.
//! - `session`: the operations on the records of a scope set.
//! - `probe`: what `check --online` tests.

mod command;
mod connection;
mod error;
#[cfg(all(unix, any(test, fuzzing)))]
pub(crate) mod fuzzing;
mod link;
mod probe;
mod resp;
mod sentinel;
mod session;
mod settings;
#[cfg(all(test, unix))]
mod tests;

use std::sync::Arc;

use crate::connect::{DirectConnector, DirectTls, Identity, Shared};
use crate::credentials::shell_quoted;
use crate::store::Store;

pub use probe::{Permission, Probe};
pub use session::RedisSession;
pub use settings::{Address, ClientIdentity, Login, Place, Settings, TlsSettings};

/// The store. It connects for each session. Clones are the same store.
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Reach>,
}

/// What sessions share.
struct Reach {
    settings: Settings,
    connector: DirectConnector,
}

impl RedisStore {
    /// Returns a store with these settings. Does not connect; blocks while it parses certificates.
    ///
    /// # Errors
    ///
    /// What is wrong with the certificates or the key, and what to do.
    pub fn new(settings: Settings, shared: &Shared) -> Result<Self, String> {
        let tls = match &settings.tls {
            Some(tls) => Some(tls_of(tls)?),
            None => None,
        };
        let file = settings.tls.as_ref().and_then(|tls| tls.ca.as_ref());
        let ca = file.map(|(content, file)| (&**content, shell_quoted(file)));
        let tls = tls.map(|identity| DirectTls {
            ca: ca.as_ref().map(|(content, file)| (*content, file.as_str())),
            identity,
        });
        let connector = DirectConnector::new(shared, tls).map_err(|problem| {
            let file = file.map(|(_, file)| file.as_str()).unwrap_or_default();
            format!("cannot use ca_file {file}: {problem}")
        })?;
        Ok(Self {
            shared: Arc::new(Reach {
                settings,
                connector,
            }),
        })
    }

    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }
}

impl Store for RedisStore {
    type Session = RedisSession;

    fn session(&self, name: &str) -> RedisSession {
        RedisSession::new(Arc::clone(&self.shared), name)
    }
}

fn tls_of(tls: &TlsSettings) -> Result<Option<Identity>, String> {
    let identity = tls.identity.as_ref();
    let parsed =
        identity.map(|identity| Identity::from_pem(&identity.certificate_pem, &identity.key_pem));
    parsed.transpose()
}
