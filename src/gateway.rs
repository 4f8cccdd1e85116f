//! The gateway: applications use Domo's own SDKs with local credentials, and the daemon forwards their requests to Domo
//! with the real token.
//!
//! What is pure:
//!
//! - `target`: checks the target of a request.
//! - `chunked`: bodies in chunks.
//! - `local_token`: the tokens of applications.
//! - `login_delay`: delays answers to failed logins.
//! - `own_response`: responses of the gateway itself.
//! - `error`: why a request is not forwarded, as a response.
//! - `token_endpoint`: token requests of applications.
//! - `head`: heads of requests.
//! - `headers`: which header fields are forwarded.
//! - `response_head`, `response`: heads of responses, and what applications receive of them.
//!
//! What the config decides:
//!
//! - `timing`: time limits.
//! - `settings`: the applications.
//! - `request`: a request with the head for the server.
//! - `decision`: what is done with a request.
//!
//! Connections:
//!
//! - `listener`: accepts them.
//! - `limits`: how many there may be.
//! - `connection`: the requests of one.
//! - `login`: requests for local tokens.
//! - `exchange`: forwards one request; its parts follow.
//! - `session`: what it needs of the application's connection.
//! - `body`: reads what is held of a request's body.
//! - `waiting`: sends the request, and waits for the response.
//! - `rejection`: a response that rejects the token.
//! - `upload`, `download`: a request and a response on their way.
//! - `pump`: moves a body from one connection to another.
//! - `buffer`: a connection and what was read of it.
//! - `alarm`: the timer of a connection.
//! - `upstream`: connections to the server.
//!
//! hyper is not used here. Its server accepts heads that must be rejected. Its client owns the bodies of requests, but here
//! they must stay for a second attempt, and be moved without copies.

mod alarm;
mod body;
mod buffer;
pub mod chunked;
mod connection;
mod decision;
mod download;
pub mod error;
mod exchange;
pub mod head;
mod headers;
mod limits;
mod listener;
pub mod local_token;
mod login;
pub mod login_delay;
pub mod own_response;
mod pump;
mod rejection;
mod request;
mod response;
mod response_head;
mod session;
mod settings;
pub mod target;
mod timing;
pub mod token_endpoint;
mod upload;
mod upstream;
mod waiting;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::platform::clock::Clock;
use limits::Places;
use listener::Scheme;
use login_delay::LoginDelays;
use settings::State;
use timing::Timing;

pub use limits::descriptors_left;
pub use settings::{AppSettings, GatewaySettings};

/// The gateway. Clones are the same one.
#[derive(Clone)]
pub struct Gateway<C>(Arc<Shared<C>>);

struct Shared<C> {
    broker: Broker<C>,
    timing: Timing,
    state: RwLock<Arc<State>>,
    places: Arc<Places>,
    logins: Mutex<LoginDelays>,
}

/// Where applications connect.
#[derive(Debug, Default)]
pub struct Listeners {
    pub http: Vec<TcpListener>,
    pub tls: Vec<TcpListener>,
}

impl<C: Clock> Gateway<C> {
    /// Returns a gateway without applications yet.
    #[must_use]
    pub fn new(broker: Broker<C>) -> Self {
        Self::with_timing(broker, Timing::default())
    }

    fn with_timing(broker: Broker<C>, timing: Timing) -> Self {
        Self(Arc::new(Shared {
            broker,
            timing,
            state: RwLock::default(),
            places: Arc::default(),
            logins: Mutex::default(),
        }))
    }

    /// Applies what the config decides. Requests in flight go on by the previous settings.
    pub fn apply(&self, settings: GatewaySettings) {
        let shared = &*self.0;
        let state = Arc::new(State::new(settings, &self.state(), &shared.timing));
        let usages = state.apps.values().map(|app| Arc::clone(&app.usage));
        shared.broker.set_apps(usages.collect());
        let mut logins = shared.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.retain(|app| state.apps.contains_key(app));
        drop(logins);
        *shared.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Accepts connections until `stop` is cancelled, and then finishes what is in flight, within a time limit.
    pub async fn serve(&self, listeners: Listeners, stop: CancellationToken) {
        let Listeners { http, tls } = listeners;
        let http = http.into_iter().map(|listener| (listener, Scheme::Http));
        let tls = tls.into_iter().map(|listener| (listener, Scheme::Https));
        let mut serving = JoinSet::new();
        for (listener, scheme) in http.chain(tls) {
            serving.spawn(listener::serve(
                listener,
                scheme,
                self.clone(),
                stop.clone(),
            ));
        }
        while serving.join_next().await.is_some() {}
    }

    fn state(&self) -> Arc<State> {
        let state = self.0.state.read();
        Arc::clone(&state.unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(all(test, unix))]
mod tests;
