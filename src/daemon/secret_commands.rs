//! Clients whose secret a command prints: each is loaded on a thread of its own, so that a slow
//! command delays no other client.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::load::{LoadError, LoadedClient, load_client};
use crate::config::{Config, Env};
use crate::connect::Shared;
use crate::platform::threads;
use crate::source::domo::DomoSource;

/// Commands that run at once.
const AT_ONCE: usize = 32;

pub(super) type LoadResult = Result<LoadedClient<DomoSource>, LoadError>;

/// The commands that are running, or waiting for room to.
pub(super) struct Commands {
    running: JoinSet<(String, u64, LoadResult)>,
    /// The last one of each client, by a number that no other has.
    last: HashMap<String, (u64, AbortHandle)>,
    started: u64,
    room: Arc<Semaphore>,
}

impl Commands {
    pub(super) fn new() -> Self {
        Self {
            running: JoinSet::new(),
            last: HashMap::new(),
            started: 0,
            room: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Whether none is running.
    pub(super) fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// Loads a client of `config`; the result of an earlier start for that client no longer counts.
    /// Its source is that of `before` if nothing has changed, else a new one that uses `shared`.
    pub(super) fn start(
        &mut self,
        name: String,
        config: &Arc<Config>,
        env: Env<'static>,
        before: Option<Arc<DomoSource>>,
        shared: Shared,
    ) {
        self.started += 1;
        let number = self.started;
        let (config, room) = (Arc::clone(config), Arc::clone(&self.room));
        let of = name.clone();
        let handle = self.running.spawn(async move {
            // Never closed.
            let permit = room.acquire_owned().await;
            let client = of.clone();
            let load = move || {
                let client = config.clients.get(&client);
                let load = |client| load_client(client, env, before.as_ref(), &shared);
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
            (of, number, result)
        });
        if let Some((_, earlier)) = self.last.insert(name, (number, handle)) {
            earlier.abort();
        }
    }

    /// The next client whose command has ended, and what loading it resulted in. Dropping the
    /// future loses nothing.
    pub(super) async fn next(&mut self) -> (String, LoadResult) {
        loop {
            match self.running.join_next().await {
                Some(Ok((name, number, result))) => {
                    let last = self.last.get(&name);
                    // It may have ended just before it was cancelled.
                    if last.is_some_and(|(last, _)| *last == number) {
                        self.last.remove(&name);
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
