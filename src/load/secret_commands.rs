//! Clients whose secret a command prints: each is loaded on its own thread, so that a slow
//! command delays no other client.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::{LoadError, LoadResult, load_client};
use crate::config::{Config, Env};
use crate::connect::Shared;
use crate::platform::threads;
use crate::source::Source;

/// The most commands that run at the same time.
const MAX_RUNNING: usize = 32;

/// The commands that are running, or waiting for their turn.
pub(crate) struct SecretCommands {
    running: JoinSet<(String, u64, LoadResult)>,
    /// The latest one of each client, with its number.
    latest: HashMap<String, (u64, AbortHandle)>,
    started: u64,
    permits: Arc<Semaphore>,
}

impl SecretCommands {
    pub(crate) fn new() -> Self {
        Self {
            running: JoinSet::new(),
            latest: HashMap::new(),
            started: 0,
            permits: Arc::new(Semaphore::new(MAX_RUNNING)),
        }
    }

    /// Returns whether none is running.
    pub(crate) fn is_empty(&self) -> bool {
        self.latest.is_empty()
    }

    /// Loads a client of `config`; the result of an earlier start for that client no longer counts.
    /// Its source is `previous` if nothing has changed, else a new one that uses `shared`.
    pub(crate) fn start(
        &mut self,
        name: String,
        config: &Arc<Config>,
        env: Env<'static>,
        previous: Option<Arc<Source>>,
        shared: Shared,
    ) {
        self.started += 1;
        let number = self.started;
        let (config, permits) = (Arc::clone(config), Arc::clone(&self.permits));
        let client_name = name.clone();
        let handle = self.running.spawn(async move {
            // Never closed.
            let permit = permits.acquire_owned().await;
            let key = client_name.clone();
            let load = move || {
                let client = config.clients.get(&key);
                let load = |client| load_client(client, env, previous.as_ref(), &shared);
                let result = client.map(load);
                // A command that was cancelled counts until it ends.
                drop(permit);
                result
            };
            let result = match threads::run(load).await {
                Ok(Some(result)) => result,
                Ok(None) => Err(LoadError::Bug),
                Err(error) => Err(LoadError::NoThread(error)),
            };
            (client_name, number, result)
        });
        if let Some((_, earlier)) = self.latest.insert(name, (number, handle)) {
            earlier.abort();
        }
    }

    /// Returns the next client whose command has ended, and the result of loading it. Dropping the
    /// future loses nothing.
    pub(crate) async fn next(&mut self) -> (String, LoadResult) {
        loop {
            match self.running.join_next().await {
                Some(Ok((name, number, result))) => {
                    let latest = self.latest.get(&name);
                    // It may have ended just before it was cancelled.
                    if latest.is_some_and(|(latest, _)| *latest == number) {
                        self.latest.remove(&name);
                        return (name, result);
                    }
                }
                // Cancelled.
                Some(Err(_)) => {}
                None => pending().await,
            }
        }
    }
}
