//! Clients whose secret a command prints: each is loaded on a thread of its own, so that a slow
//! command delays no other client.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::load::{LoadError, LoadedClient, load_client};
use crate::config::{Config, Env};
use crate::source::domo::DomoSource;
use crate::threads;

/// Commands that run at once.
const AT_ONCE: usize = 8;

type LoadResult = Result<LoadedClient<DomoSource>, LoadError>;

/// The commands that are running, or waiting for room to.
pub(super) struct Commands {
    running: JoinSet<(String, LoadResult)>,
    room: Arc<Semaphore>,
}

impl Commands {
    pub(super) fn new() -> Self {
        Self {
            running: JoinSet::new(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Whether none is running.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Results of those that are running no longer count.
    pub(super) fn cancel(&mut self) {
        self.running = JoinSet::new();
    }

    /// Loads a client of `config`. Its source is that of `before` if nothing has changed, else it
    /// shares what it can with `like`.
    pub(super) fn start(
        &mut self,
        name: String,
        config: &Arc<Config>,
        env: Env<'static>,
        before: Option<Arc<DomoSource>>,
        like: Option<Arc<DomoSource>>,
    ) {
        let (config, room) = (Arc::clone(config), Arc::clone(&self.room));
        self.running.spawn(async move {
            // Never closed.
            let permit = room.acquire_owned().await;
            let of = name.clone();
            let load = move || {
                let client = config.clients.get(&of);
                let load = |client| load_client(client, env, before.as_ref(), like.as_deref());
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
            (name, result)
        });
    }

    /// The next client whose command has ended, and what loading it resulted in. Dropping the
    /// future loses nothing.
    pub(super) async fn next(&mut self) -> (String, LoadResult) {
        loop {
            match self.running.join_next().await {
                Some(Ok(loaded)) => return loaded,
                // Cancelled.
                Some(Err(_)) => {}
                None => pending().await,
            }
        }
    }
}
