//! The gateway of the config: binds its ports at the start, applies what the config and its files decide, and lets
//! requests in flight end when the daemon stops.

use std::collections::BTreeMap;
use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::DaemonError;
use super::clients::Clients;
use crate::broker::Broker;
use crate::config::{Config, GatewayConfig};
use crate::gateway::{AppSettings, Gateway, GatewaySettings, Listeners};
use crate::health;
use crate::load::LoadedGateway;
use crate::platform::clock::SystemClock;
use crate::platform::systemd::GatewayPorts;
use crate::source::Source;

/// Why an application whose files were not looked at is disabled.
const NOT_LOADED: &str = "its files were not read";

/// The name of TLS in the log.
const TLS: &str = "TLS";

/// A gateway that runs.
pub(super) struct RunningGateway {
    gateway: Gateway<SystemClock>,
    /// The files as they were last read; `None` if the config no longer has a gateway.
    loaded: Option<LoadedGateway>,
    /// TLS as it could last be used. Certificate and key are two files, so while they are replaced they do not match.
    tls: Option<Arc<ServerConfig>>,
    /// What cannot be used, and why, as it was last logged.
    errors: BTreeMap<String, String>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// Takes the inherited ports, or binds those of the config, if it has a gateway.
pub(super) fn bind(
    inherited: GatewayPorts,
    config: Option<&GatewayConfig>,
) -> Result<Option<Listeners>, DaemonError> {
    let Some(config) = config else {
        let inherited = [(inherited.http, "gateway"), (inherited.tls, "gateway-tls")];
        let unused = inherited.into_iter().find(|(ports, _)| !ports.is_empty());
        return match unused {
            Some((_, name)) => Err(DaemonError::UnusedPort(name)),
            None => Ok(None),
        };
    };
    let tls = config.tls.as_ref().map(|tls| tls.listen);
    if tls.is_none() && !inherited.tls.is_empty() {
        return Err(DaemonError::NoCertificate);
    }
    Ok(Some(Listeners {
        http: ports("gateway.listen", inherited.http, config.listen)?,
        tls: ports("gateway.tls_listen", inherited.tls, tls)?,
    }))
}

fn ports(
    key: &'static str,
    inherited: Vec<net::TcpListener>,
    configured: Option<SocketAddr>,
) -> Result<Vec<TcpListener>, DaemonError> {
    let failed = |address, source| DaemonError::Gateway {
        key,
        address,
        source,
    };
    if inherited.is_empty() {
        let bind = |address| health::bind(address).map_err(|error| failed(address, error));
        return configured.into_iter().map(bind).collect();
    }
    let take = |port: net::TcpListener| -> io::Result<(SocketAddr, TcpListener)> {
        port.set_nonblocking(true)?;
        Ok((port.local_addr()?, TcpListener::from_std(port)?))
    };
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let taken: Result<Vec<_>, _> = inherited.into_iter().map(take).collect();
    let taken = taken.map_err(|error| failed(configured.unwrap_or(unknown), error))?;
    if let Some(configured) = configured
        && !taken.iter().any(|(address, _)| *address == configured)
    {
        warn!(
            "systemd bound the port; ListenStream= of the socket unit applies, not {key} of the config"
        );
    }
    Ok(taken.into_iter().map(|(_, port)| port).collect())
}

impl RunningGateway {
    /// Serves the applications of the config, if there are ports for them.
    pub(super) fn start(
        ports: Option<Listeners>,
        broker: &Broker<SystemClock>,
        config: &Config,
        loaded: Option<LoadedGateway>,
        clients: &Clients<Source>,
    ) -> Option<Self> {
        let listeners = ports?;
        let addresses = |ports: &[TcpListener]| {
            let ports = ports.iter().filter_map(|port| port.local_addr().ok());
            let ports: Vec<_> = ports.map(|address| address.to_string()).collect();
            (!ports.is_empty()).then(|| ports.join(", "))
        };
        let (http, https) = (addresses(&listeners.http), addresses(&listeners.tls));
        info!(http, https, "gateway started");
        let gateway = Gateway::new(broker.clone());
        let stop = CancellationToken::new();
        let serving = {
            let (gateway, stop) = (gateway.clone(), stop.clone());
            tokio::spawn(async move { gateway.serve(listeners, stop).await })
        };
        let mut running = Self {
            gateway,
            loaded: None,
            tls: None,
            errors: BTreeMap::new(),
            stop,
            serving,
        };
        running.apply(config, loaded, &clients.sources());
        Some(running)
    }

    /// Applies a config whose files were read again.
    pub(super) fn apply(
        &mut self,
        config: &Config,
        loaded: Option<LoadedGateway>,
        sources: &BTreeMap<String, Arc<Source>>,
    ) {
        self.tls = match loaded.as_ref().and_then(|loaded| loaded.tls.as_ref()) {
            Some(Ok(tls)) => Some(Arc::clone(tls)),
            Some(Err(_)) => self.tls.take(),
            None => None,
        };
        self.loaded = loaded;
        self.log_errors();
        self.refresh(config, sources);
    }

    /// Applies the clients as they are loaded now.
    pub(super) fn refresh(&self, config: &Config, sources: &BTreeMap<String, Arc<Source>>) {
        let (Some(config), Some(loaded)) = (&config.gateway, &self.loaded) else {
            self.gateway.apply(GatewaySettings::default());
            return;
        };
        let not_loaded = || Err(NOT_LOADED.to_owned());
        let apps = config.apps.iter().map(|(name, app)| AppSettings {
            name: name.clone(),
            source: sources.get(&app.client).cloned(),
            hashes: loaded.apps.get(name).cloned().unwrap_or_else(not_loaded),
            key: loaded.key.clone(),
            config: app.clone(),
        });
        self.gateway.apply(GatewaySettings {
            apps: apps.collect(),
            tls: self.tls.clone(),
        });
    }

    /// Logs what cannot be used, and what can be used again, once each.
    fn log_errors(&mut self) {
        let errors = self.loaded.as_ref().map(errors_of).unwrap_or_default();
        for (what, problem) in &errors {
            if self.errors.get(what) == Some(problem) {
                continue;
            }
            if what == TLS && self.tls.is_some() {
                warn!(
                    error = problem,
                    "new TLS files of the gateway cannot be used; the previous certificate stays in use"
                );
            } else {
                error!(
                    what,
                    error = problem,
                    "a part of the gateway cannot be used; its requests fail"
                );
            }
        }
        for what in self
            .errors
            .keys()
            .filter(|what| !errors.contains_key(*what))
        {
            info!(what, "a part of the gateway can be used again");
        }
        self.errors = errors;
    }

    /// Accepts no more connections, and returns once requests in flight have ended, within the gateway's time limit.
    pub(super) async fn finish(self) {
        self.stop.cancel();
        // A panic was logged.
        self.serving.await.ok();
    }
}

/// Returns what cannot be used, and why.
fn errors_of(loaded: &LoadedGateway) -> BTreeMap<String, String> {
    let apps = loaded.apps.iter();
    let apps =
        apps.filter_map(|(name, app)| Some((format!("application {name}"), app.as_ref().err()?)));
    let key = loaded.key.as_ref().err();
    let key = key.filter(|_| !loaded.apps.is_empty());
    let key = key.map(|error| ("key_file".to_owned(), error));
    let tls = loaded.tls.as_ref().and_then(|tls| tls.as_ref().err());
    let tls = tls.map(|error| (TLS.to_owned(), error));
    let all = apps.chain(key).chain(tls);
    all.map(|(what, error)| (what, error.clone())).collect()
}
