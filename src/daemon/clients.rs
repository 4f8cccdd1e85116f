//! The clients of the config: which are loaded, why the others are not, and when loading is
//! retried. One client's failure does not affect the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domo_token_protocol::scope::ScopeSet;

use crate::broker::{self, Origins};
use crate::load::{Candidate, CommandInputs, LoadError, LoadProgress, LoadResult, LoadedClient};
use crate::platform::clock::BootTime;
use domo_token_core::schedule::Loading;
use domo_token_core::scheduler::ClientSpec;

/// How long after its first failure a command is run again; doubled with each further one.
pub(super) const RETRY_FIRST: Duration = Duration::from_secs(30);

/// The upper bound of that wait.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(300);

/// All clients of a config, by name.
#[derive(Debug)]
pub(super) struct Clients<S>(BTreeMap<String, Client<S>>);

#[derive(Debug)]
struct Client<S> {
    /// As the config has them.
    scopes: BTreeSet<ScopeSet>,
    /// What it was last loaded with: by an earlier config, if loading it by this one has failed.
    active: Option<Active<S>>,
    failure: Option<Failure>,
    /// What its command was last run with, if it has a command.
    inputs: Option<Box<CommandInputs>>,
    /// Whether its command is to be run, or running.
    is_pending: bool,
    /// Whether its command is run once more when it ends: a reload came while it was running.
    run_again: bool,
    /// How long after the last failure the command is run again.
    retry_after: Duration,
}

#[derive(Debug)]
struct Active<S> {
    client: LoadedClient<S>,
    scopes: BTreeSet<ScopeSet>,
    /// Whether the broker has yet to be given these credentials.
    is_new: bool,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    retry_at: Option<BootTime>,
    /// Whether no descriptor was left.
    is_exhausted: bool,
}

/// Which commands are run again although their inputs have not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rerun {
    /// None.
    Changed,
    /// Those that failed.
    Failed,
    All,
}

/// What loading a client has changed, to be logged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LoadChange {
    /// It could not be loaded, for another reason than before.
    Failed {
        name: String,
        reason: String,
        /// Whether its previous credentials stay in use.
        keeps_previous: bool,
        retry_in: Option<Duration>,
    },
    /// The same failure again.
    FailedAgain {
        name: String,
    },
    /// It is loaded, and was not before, or with other credentials or scope sets.
    Loaded {
        name: String,
        had_failed: bool,
    },
    Unchanged,
}

impl<S> Clients<S> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Returns the sources of the clients that are loaded.
    pub(super) fn sources(&self) -> BTreeMap<String, Arc<S>> {
        let source = |client: &Client<S>| Some(Arc::clone(&client.active.as_ref()?.client.source));
        let clients = self.0.iter();
        clients
            .filter_map(|(name, client)| Some((name.clone(), source(client)?)))
            .collect()
    }

    /// Applies a config whose clients were loaded, except those with a command. A client that can't be
    /// loaded keeps what it was loaded with. Returns what has changed of each, and the clients whose
    /// command is to be run now: those with other inputs than before, and those that `rerun` selects.
    pub(super) fn apply(
        &mut self,
        candidates: BTreeMap<String, Candidate<S>>,
        rerun: Rerun,
        now: BootTime,
    ) -> (Vec<LoadChange>, Vec<String>) {
        self.0.retain(|name, _| candidates.contains_key(name));
        let (mut changes, mut to_run) = (Vec::new(), Vec::new());
        for (name, candidate) in candidates {
            let client = self.0.entry(name.clone()).or_insert_with(|| Client {
                scopes: BTreeSet::new(),
                active: None,
                failure: None,
                inputs: None,
                is_pending: false,
                run_again: false,
                retry_after: RETRY_FIRST,
            });
            client.scopes = candidate.scopes;
            match candidate.progress {
                LoadProgress::Done(result) => {
                    client.inputs = None;
                    changes.push(client.finish(&name, result, now));
                }
                LoadProgress::NeedsCommand(inputs) => {
                    if client.set_command(inputs, rerun) {
                        to_run.push(name);
                    }
                }
            }
        }
        (changes, to_run)
    }

    /// Applies the result of a client's command. Returns what has changed, and whether the command is to
    /// be run once more.
    pub(super) fn finish(
        &mut self,
        name: &str,
        result: LoadResult<S>,
        now: BootTime,
    ) -> (LoadChange, bool) {
        let Some(client) = self.0.get_mut(name) else {
            return (LoadChange::Unchanged, false);
        };
        let change = client.finish(name, result, now);
        client.is_pending = std::mem::take(&mut client.run_again);
        (change, client.is_pending)
    }

    /// Returns when the next failed client is loaded again.
    pub(super) fn next_retry(&self) -> Option<BootTime> {
        let waiting = self.0.values().filter(|client| !client.is_pending);
        let failures = waiting.filter_map(|client| client.failure.as_ref());
        failures.filter_map(|failure| failure.retry_at).min()
    }

    /// Returns the clients whose retry is due, and marks their commands as running.
    pub(super) fn take_due(&mut self, now: BootTime) -> Vec<String> {
        let is_due = |client: &Client<S>| {
            let retry_at = client.failure.as_ref().and_then(|failure| failure.retry_at);
            !client.is_pending && retry_at.is_some_and(|at| at <= now)
        };
        let due = self.0.iter_mut().filter(|(_, client)| is_due(client));
        due.map(|(name, client)| {
            client.is_pending = true;
            name.clone()
        })
        .collect()
    }

    /// Returns the clients whose command is to be run, or running.
    pub(super) fn pending(&self) -> impl Iterator<Item = &str> {
        let pending = self.0.iter().filter(|(_, client)| client.is_pending);
        pending.map(|(name, _)| name.as_str())
    }

    /// Returns why no client will be loaded without a change of files or config; `None` if one is
    /// loaded or may yet be.
    pub(super) fn all_failed(&self) -> Option<Vec<(String, String)>> {
        let reason = |(name, client): (&String, &Client<S>)| {
            let failure = client.failure.as_ref();
            let failure = failure.filter(|failure| failure.retry_at.is_none())?;
            let is_lost = client.active.is_none() && !client.is_pending;
            is_lost.then(|| (name.clone(), failure.reason.clone()))
        };
        self.0.iter().map(reason).collect()
    }

    /// Returns why no client is loaded, if for none of them a descriptor was left.
    pub(super) fn out_of_descriptors(&self) -> Option<Vec<(String, String)>> {
        let reason = |(name, client): (&String, &Client<S>)| {
            let failure = client
                .failure
                .as_ref()
                .filter(|failure| failure.is_exhausted)?;
            Some((name.clone(), failure.reason.clone()))
        };
        self.0.iter().map(reason).collect()
    }

    /// Returns the clients for the broker. New credentials of a client are marked as new once.
    pub(super) fn for_broker(&mut self) -> broker::Clients<S> {
        let clients = self.0.iter_mut();
        clients
            .map(|(name, client)| client.for_broker(name))
            .collect()
    }

    pub(super) fn origins(&self) -> Origins {
        let origin = |client: &Client<S>| Some(client.active.as_ref()?.client.origin.clone());
        let clients = self.0.iter();
        clients
            .filter_map(|(name, client)| Some((name.clone(), origin(client)?)))
            .collect()
    }

    /// Returns why clients could not be loaded.
    pub(super) fn errors(&self) -> BTreeMap<String, String> {
        let reason = |client: &Client<S>| Some(client.failure.as_ref()?.reason.clone());
        let clients = self.0.iter();
        clients
            .filter_map(|(name, client)| Some((name.clone(), reason(client)?)))
            .collect()
    }
}

impl<S> Client<S> {
    /// Applies the command that a config has. Returns whether it is to be run now.
    fn set_command(&mut self, inputs: Box<CommandInputs>, rerun: Rerun) -> bool {
        let is_same = self.inputs.as_ref() == Some(&inputs);
        self.inputs = Some(inputs);
        if is_same && self.is_pending {
            // It is running with the same inputs.
            self.run_again |= rerun == Rerun::All;
            return false;
        }
        let is_selected = match rerun {
            Rerun::Changed => false,
            Rerun::Failed => self.failure.is_some(),
            Rerun::All => true,
        };
        if is_same && !is_selected {
            if let Some(active) = self.active.as_mut().filter(|_| self.failure.is_none()) {
                active.scopes.clone_from(&self.scopes);
            }
            return false;
        }
        self.is_pending = true;
        self.run_again = false;
        self.retry_after = RETRY_FIRST;
        true
    }

    fn finish(&mut self, name: &str, result: LoadResult<S>, now: BootTime) -> LoadChange {
        self.is_pending = false;
        match result {
            Ok(client) => self.succeed(name, client),
            Err(error) => self.fail(name, &error, now),
        }
    }

    fn succeed(&mut self, name: &str, client: LoadedClient<S>) -> LoadChange {
        let had_failed = self.failure.take().is_some();
        self.retry_after = RETRY_FIRST;
        let before = self.active.as_ref();
        let same = before.filter(|before| Arc::ptr_eq(&before.client.source, &client.source));
        let is_new = same.is_none_or(|before| before.is_new);
        let same_scopes = before.is_some_and(|before| before.scopes == self.scopes);
        let is_unchanged = !had_failed && !is_new && same_scopes;
        self.active = Some(Active {
            client,
            scopes: self.scopes.clone(),
            is_new,
        });
        if is_unchanged {
            return LoadChange::Unchanged;
        }
        let name = name.to_owned();
        LoadChange::Loaded { name, had_failed }
    }

    fn fail(&mut self, name: &str, error: &LoadError, now: BootTime) -> LoadChange {
        let retry_in = error.is_temporary().then_some(self.retry_after);
        self.retry_after = (self.retry_after * 2).min(RETRY_MAX);
        let reason = error.to_string();
        let before = self.failure.replace(Failure {
            reason: reason.clone(),
            retry_at: retry_in.map(|wait| now + wait),
            is_exhausted: error.is_exhausted(),
        });
        let name = name.to_owned();
        if before.is_some_and(|before| before.reason == reason) {
            return LoadChange::FailedAgain { name };
        }
        LoadChange::Failed {
            name,
            reason,
            keeps_previous: self.active.is_some(),
            retry_in,
        }
    }

    fn for_broker(&mut self, name: &str) -> (ClientSpec, Option<Arc<S>>) {
        let Some(active) = &mut self.active else {
            let loading = match &self.failure {
                Some(Failure { retry_at, .. }) => Loading::Failed {
                    retry_at: *retry_at,
                },
                None => Loading::Pending,
            };
            let spec = ClientSpec {
                name: name.to_owned(),
                shown_id: String::new(),
                scopes: self.scopes.clone(),
                renewed: false,
                proxy_login: None,
                loading: Some(loading),
                shares: false,
            };
            return (spec, None);
        };
        let spec = ClientSpec {
            name: name.to_owned(),
            shown_id: active.client.shown_id.clone(),
            scopes: active.scopes.clone(),
            renewed: std::mem::take(&mut active.is_new),
            proxy_login: active.client.proxy_login,
            loading: None,
            shares: false,
        };
        (spec, Some(Arc::clone(&active.client.source)))
    }
}

#[cfg(test)]
mod tests;
