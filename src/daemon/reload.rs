//! The config as it was loaded, and loading it again while the daemon runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use domo_token_client::wire::{BrokerStatus, VERSION};
use tracing::{info, warn};

use super::{DaemonError, Options, load_config};
use crate::broker::{About, Broker, Clients, Helm};
use crate::clock::{BootTime, Clock};
use crate::config::{Config, Env};
use crate::credentials;
use crate::roster::Wanted;
use crate::source::domo::{DomoSource, Registration};

/// What a config comes to: each client with the source that asks Domo for it, by name.
#[derive(Default)]
pub(super) struct Loaded(BTreeMap<String, Client>);

struct Client {
    wanted: Wanted,
    source: Arc<DomoSource>,
}

impl Loaded {
    /// Reads the credentials that `config` names. A client that is as it was in `before` keeps its
    /// source.
    pub(super) fn new(config: &Config, env: Env, before: &Self) -> Result<Self, DaemonError> {
        let mut clients = BTreeMap::new();
        for (name, client) in &config.clients {
            let of_source = |source| {
                let client = name.clone();
                DaemonError::Source { client, source }
            };
            let credentials = credentials::load(client, env).map_err(|source| {
                let client = name.clone();
                DaemonError::Credentials { client, source }
            })?;
            let shown_id = credentials.masked_id();
            let registration = Registration::new(client.endpoint.clone(), credentials);
            let registration = registration.map_err(of_source)?;
            let same = before
                .0
                .get(name)
                .map(|old| &old.source)
                .filter(|source| *source.registration() == registration);
            let source = match same {
                Some(source) => Arc::clone(source),
                None => Arc::new(DomoSource::new(registration).map_err(of_source)?),
            };
            let wanted = Wanted {
                name: name.clone(),
                shown_id,
                scopes: client.tokens.iter().cloned().collect(),
                renewed: same.is_none(),
            };
            clients.insert(name.clone(), Client { wanted, source });
        }
        Ok(Self(clients))
    }

    /// The clients as the broker takes them.
    pub(super) fn clients(&self) -> Clients<DomoSource> {
        let clients = self.0.values();
        clients
            .map(|client| (client.wanted.clone(), Arc::clone(&client.source)))
            .collect()
    }
}

/// Takes changed files up.
pub(super) struct Steering<'a, C> {
    pub(super) options: &'a Options,
    pub(super) env: Env<'a>,
    pub(super) clock: C,
    pub(super) started: BootTime,
    pub(super) broker: Broker<C>,
    pub(super) helm: Helm<DomoSource>,
    pub(super) config: Config,
    pub(super) loaded: Loaded,
}

impl<C: Clock> Steering<'_, C> {
    /// Reads the config and the credentials again. If any of it is wrong, all stays as it was; what
    /// Domo refused is tried again either way.
    pub(super) async fn reload(&mut self) {
        match self.load() {
            Ok((config, loaded)) => {
                self.say_what_needs_a_restart(&config);
                info!(clients = config.clients.len(), "config loaded");
                let about = about(&config, self.started, self.clock.now());
                self.helm.configure(loaded.clients(), about).await;
                self.config = config;
                self.loaded = loaded;
            }
            Err(error) => {
                warn!("the config is not taken up, the last good one stays: {error}");
                self.broker.set_config_error(Some(error.to_string()));
                self.helm.retry().await;
            }
        }
    }

    fn load(&self) -> Result<(Config, Loaded), DaemonError> {
        let config = load_config(self.options, self.env)?;
        let loaded = Loaded::new(&config, self.env, &self.loaded)?;
        Ok((config, loaded))
    }

    fn say_what_needs_a_restart(&self, config: &Config) {
        let (old, new) = (&self.config, config);
        for (key, changed) in [
            ("broker.socket", old.socket != new.socket),
            ("broker.socket_mode", old.socket_mode != new.socket_mode),
            ("log.level", old.log_level != new.log_level),
        ] {
            if changed {
                warn!("{key} has changed; restart the daemon for that");
            }
        }
    }
}

/// What status says of a daemon whose config was loaded `now`.
pub(super) fn about(config: &Config, started: BootTime, now: BootTime) -> About {
    About {
        status: BrokerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: VERSION,
            pid: std::process::id(),
            started,
            config_path: config.path.as_ref().map(|path| path.display().to_string()),
            config_loaded: now,
            config_error: None,
        },
        default_client: config.default_client.clone(),
    }
}
