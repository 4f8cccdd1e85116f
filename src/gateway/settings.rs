//! What the config decides about the gateway, and the applications as they run by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domo_token_core::access_policy::Caller;
use domo_token_core::api_rules::{self, ApiRule};
use domo_token_protocol::messages::{TokenRequest, TokenSubject};
use domo_token_protocol::scope::ScopeSet;
use rustls::ServerConfig;
use zeroize::Zeroizing;

use super::local_token::SigningKey;
use super::timing::Timing;
use super::token_endpoint::scopes_of;
use super::upstream::Upstream;
use crate::broker::app_usage::{AppState, AppUsage};
use crate::config::AppConfig;
use crate::credentials::SecretHash;
use crate::source::Source;

/// The longest time that the token of a long body has left at least.
const MAX_LEAST_TIME_LEFT: Duration = Duration::from_secs(300);

/// What the config decides.
#[derive(Default)]
pub struct GatewaySettings {
    /// The applications.
    pub apps: Vec<AppSettings>,
    /// For connections to the port with TLS.
    pub tls: Option<Arc<ServerConfig>>,
}

/// What the config decides about an application.
pub struct AppSettings {
    pub name: String,
    /// The source of its client's tokens; `None` if the client is not loaded.
    pub source: Option<Arc<Source>>,
    /// The hashes of its secrets, or why there are none.
    pub hashes: Result<Vec<SecretHash>, String>,
    /// This host's key, or why there is none.
    pub key: Result<Arc<Zeroizing<[u8; 32]>>, String>,
    pub config: AppConfig,
}

/// The applications.
#[derive(Default)]
pub(super) struct State {
    /// Increases with each change of the settings.
    pub(super) generation: u64,
    pub(super) apps: BTreeMap<String, Arc<App>>,
    pub(super) tls: Option<Arc<ServerConfig>>,
}

/// An application.
pub(super) struct App {
    pub(super) usage: Arc<AppUsage>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) client: String,
    /// The hashes of its secrets.
    pub(super) hashes: Vec<SecretHash>,
    /// The keys of its local tokens, in the order of `hashes`.
    pub(super) keys: Arc<[SigningKey]>,
    pub(super) caller: Caller,
    /// All scopes of its rules.
    pub(super) scopes: Option<ScopeSet>,
    /// Whether a file of the application cannot be used.
    pub(super) is_broken: bool,
    /// Whether long bodies wait for the server's permission.
    pub(super) expects: bool,
    rules: Vec<ApiRule>,
    /// The request for the token of each rule.
    requests: Vec<Arc<TokenRequest>>,
}

impl State {
    /// Returns the applications of `settings`. An application that was there before keeps its usage, and its connections
    /// if they lead to the same server.
    pub(super) fn new(settings: GatewaySettings, previous: &Self, timing: &Timing) -> Self {
        let apps = settings.apps.into_iter().map(|settings| {
            let name = settings.name.clone();
            let previous = previous.apps.get(&name).map(|app| &**app);
            (name, Arc::new(App::new(settings, previous, timing)))
        });
        Self {
            generation: previous.generation + 1,
            apps: apps.collect(),
            tls: settings.tls,
        }
    }
}

impl App {
    fn new(settings: AppSettings, previous: Option<&Self>, timing: &Timing) -> Self {
        let AppSettings {
            name,
            source,
            hashes,
            key,
            config,
        } = settings;
        let usage = previous.map(|app| Arc::clone(&app.usage));
        let usage = usage.unwrap_or_else(|| Arc::new(AppUsage::new(&name)));
        let connector = source.map(|source| Arc::clone(source.connector()));
        let upstream = previous
            .map(|app| &app.upstream)
            .filter(|upstream| upstream.is(&config.upstream, connector.as_ref()))
            .map_or_else(|| Upstream::new(config.upstream, connector), Arc::clone);
        let (hashes, keys, error) = match (hashes, key) {
            (Ok(hashes), Ok(key)) => {
                let derive = |hash| SigningKey::derive(&key, &name, hash);
                let keys = hashes.iter().map(derive).collect();
                (hashes, keys, None)
            }
            (Err(error), _) | (_, Err(error)) => (Vec::new(), [].into(), Some(error)),
        };
        let is_broken = error.is_some();
        let client = config.client;
        usage.set_state(AppState {
            client: client.clone(),
            error,
        });
        let request = |rule: &ApiRule| Arc::new(token_request(&client, &rule.scopes, timing));
        Self {
            requests: config.allow.iter().map(request).collect(),
            scopes: scopes_of(&config.allow),
            rules: config.allow,
            caller: Caller {
                app: Some(name),
                ..Caller::default()
            },
            is_broken,
            expects: config.expect,
            usage,
            upstream,
            client,
            hashes,
            keys,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.usage.name()
    }

    /// Returns the scopes of the first rule for such a request, and the request for its token.
    pub(super) fn rule(&self, method: &str, path: &str) -> Option<(&ScopeSet, &Arc<TokenRequest>)> {
        let rule = api_rules::first_match(&self.rules, method, path)?;
        let mut rules = self.rules.iter().zip(&self.requests);
        let (_, request) = rules.find(|(other, _)| std::ptr::eq(*other, rule))?;
        Some((&rule.scopes, request))
    }
}

fn token_request(client: &str, scopes: &ScopeSet, timing: &Timing) -> TokenRequest {
    TokenRequest {
        subject: TokenSubject {
            client: Some(client.to_owned()),
            scope: scopes.as_str().to_owned(),
        },
        min_ttl_ms: None,
        time_left_ms: u64::try_from(timing.token.as_millis()).unwrap_or(u64::MAX),
        renew: None,
    }
}

/// Returns how long the token of a long body must be valid yet.
pub(super) fn least_time_left(lifetime: Duration) -> Duration {
    (lifetime / 4).min(MAX_LEAST_TIME_LEFT)
}
