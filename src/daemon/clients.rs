//! PURE. The clients of the config: which are loaded, why the others are not, and when loading is
//! tried again. One client's failure leaves the others as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domo_token_protocol::scope::ScopeSet;

use crate::broker;
use crate::load::{Candidate, CommandInputs, LoadError, LoadProgress, LoadResult, LoadedClient};
use crate::platform::clock::BootTime;
use crate::source::Origin;
use domo_token_core::schedule::Loading;
use domo_token_core::scheduler::ClientSpec;

/// How long after its first failure a command is run again; doubled with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(30);

/// The most that grows to.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// All clients of a config, by name.
#[derive(Debug)]
pub(super) struct Clients<S>(BTreeMap<String, Entry<S>>);

#[derive(Debug)]
struct Entry<S> {
    /// As the config has them.
    scopes: BTreeSet<ScopeSet>,
    /// What is in force: of an earlier config, if what this one says could not be loaded.
    loaded: Option<InForce<S>>,
    failure: Option<Failure>,
    /// What its command was last run with, if it has one.
    inputs: Option<Box<CommandInputs>>,
    /// Whether its command is to be run, or running.
    is_pending: bool,
    /// Whether it is run once more when it ends: a reload came while it was running.
    run_again: bool,
    /// How long after the last failure the command is run again.
    retry_after: Duration,
}

#[derive(Debug)]
struct InForce<S> {
    client: LoadedClient<S>,
    scopes: BTreeSet<ScopeSet>,
    /// Whether the broker has yet to be given these credentials.
    is_new: bool,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    /// When it is loaded again.
    retry_at: Option<BootTime>,
    /// Whether no descriptor was left to load it.
    is_exhausted: bool,
}

/// Which commands are run again although nothing has changed that they depend on.
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
pub(super) enum News {
    /// It could not be loaded, and there was no such failure before.
    Failed {
        name: String,
        reason: String,
        /// Whether what was loaded before stays in force.
        keeps_previous: bool,
        retry_in: Option<Duration>,
    },
    /// The same failure again.
    FailedAgain { name: String },
    /// It is loaded, and was not before, or with other credentials.
    Loaded { name: String, had_failed: bool },
    /// It is as it was.
    Unchanged,
}

impl<S> Clients<S> {
    /// No clients.
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The sources of the clients that are loaded.
    pub(super) fn sources(&self) -> BTreeMap<String, Arc<S>> {
        let source = |entry: &Entry<S>| Some(Arc::clone(&entry.loaded.as_ref()?.client.source));
        let clients = self.0.iter();
        clients
            .filter_map(|(name, entry)| Some((name.clone(), source(entry)?)))
            .collect()
    }

    /// Applies a config whose clients were loaded, but for those with a command. What can't be
    /// loaded stays as it was. Returns what has changed of each, and the clients whose command is to
    /// be run now: those with other inputs than before, and as `rerun` says.
    pub(super) fn apply(
        &mut self,
        candidates: BTreeMap<String, Candidate<S>>,
        rerun: Rerun,
        now: BootTime,
    ) -> (Vec<News>, Vec<String>) {
        self.0.retain(|name, _| candidates.contains_key(name));
        let (mut news, mut to_run) = (Vec::new(), Vec::new());
        for (name, candidate) in candidates {
            let entry = self.0.entry(name.clone()).or_insert_with(|| Entry {
                scopes: BTreeSet::new(),
                loaded: None,
                failure: None,
                inputs: None,
                is_pending: false,
                run_again: false,
                retry_after: RETRY_FIRST,
            });
            entry.scopes = candidate.scopes;
            match candidate.progress {
                LoadProgress::Done(result) => {
                    entry.inputs = None;
                    news.push(entry.finish(&name, result, now));
                }
                LoadProgress::NeedsCommand(inputs) => {
                    if entry.begin(inputs, rerun) {
                        to_run.push(name);
                    }
                }
            }
        }
        (news, to_run)
    }

    /// A client's command has ended. Returns what has changed, and whether the command is to be run
    /// once more.
    pub(super) fn finish(
        &mut self,
        name: &str,
        result: LoadResult<S>,
        now: BootTime,
    ) -> (News, bool) {
        let Some(entry) = self.0.get_mut(name) else {
            return (News::Unchanged, false);
        };
        let news = entry.finish(name, result, now);
        entry.is_pending = std::mem::take(&mut entry.run_again);
        (news, entry.is_pending)
    }

    /// When a command is run again.
    pub(super) fn next_retry(&self) -> Option<BootTime> {
        let waiting = self.0.values().filter(|entry| !entry.is_pending);
        let failures = waiting.filter_map(|entry| entry.failure.as_ref());
        failures.filter_map(|failure| failure.retry_at).min()
    }

    /// The clients whose command is to be run now.
    pub(super) fn take_due(&mut self, now: BootTime) -> Vec<String> {
        let is_due = |entry: &Entry<S>| {
            let retry_at = entry.failure.as_ref().and_then(|failure| failure.retry_at);
            !entry.is_pending && retry_at.is_some_and(|at| at <= now)
        };
        let due = self.0.iter_mut().filter(|(_, entry)| is_due(entry));
        due.map(|(name, entry)| {
            entry.is_pending = true;
            name.clone()
        })
        .collect()
    }

    /// The clients whose command is to be run, or running.
    pub(super) fn pending(&self) -> impl Iterator<Item = &str> {
        let pending = self.0.iter().filter(|(_, entry)| entry.is_pending);
        pending.map(|(name, _)| name.as_str())
    }

    /// Why no client will be loaded without a change of files or config; `None` if one is
    /// loaded or may yet be.
    pub(super) fn hopeless(&self) -> Option<Vec<(String, String)>> {
        let reason = |(name, entry): (&String, &Entry<S>)| {
            let failure = entry.failure.as_ref();
            let failure = failure.filter(|failure| failure.retry_at.is_none())?;
            let is_lost = entry.loaded.is_none() && !entry.is_pending;
            is_lost.then(|| (name.clone(), failure.reason.clone()))
        };
        self.0.iter().map(reason).collect()
    }

    /// Why no client is loaded, if for none of them a descriptor was left.
    pub(super) fn exhausted(&self) -> Option<Vec<(String, String)>> {
        let reason = |(name, entry): (&String, &Entry<S>)| {
            let failure = entry
                .failure
                .as_ref()
                .filter(|failure| failure.is_exhausted)?;
            Some((name.clone(), failure.reason.clone()))
        };
        self.0.iter().map(reason).collect()
    }

    /// The clients as the broker takes them. A client's new credentials are marked as new once.
    pub(super) fn for_broker(&mut self) -> broker::Clients<S> {
        let clients = self.0.iter_mut();
        clients
            .map(|(name, entry)| entry.for_broker(name))
            .collect()
    }

    /// Which credentials each loaded client's tokens belong to.
    pub(super) fn origins(&self) -> BTreeMap<String, Origin> {
        let loaded = |entry: &Entry<S>| Some(entry.loaded.as_ref()?.client.origin.clone());
        let clients = self.0.iter();
        clients
            .filter_map(|(name, entry)| Some((name.clone(), loaded(entry)?)))
            .collect()
    }

    /// Why clients could not be loaded.
    pub(super) fn errors(&self) -> BTreeMap<String, String> {
        let reason = |entry: &Entry<S>| Some(entry.failure.as_ref()?.reason.clone());
        let clients = self.0.iter();
        clients
            .filter_map(|(name, entry)| Some((name.clone(), reason(entry)?)))
            .collect()
    }
}

impl<S> Entry<S> {
    /// Whether the command is to be run.
    fn begin(&mut self, inputs: Box<CommandInputs>, rerun: Rerun) -> bool {
        let is_same = self.inputs.as_ref() == Some(&inputs);
        self.inputs = Some(inputs);
        if is_same && self.is_pending {
            // It is running, with just these.
            self.run_again |= rerun == Rerun::All;
            return false;
        }
        let is_wanted = match rerun {
            Rerun::Changed => false,
            Rerun::Failed => self.failure.is_some(),
            Rerun::All => true,
        };
        if is_same && !is_wanted {
            if let Some(loaded) = self.loaded.as_mut().filter(|_| self.failure.is_none()) {
                loaded.scopes.clone_from(&self.scopes);
            }
            return false;
        }
        self.is_pending = true;
        self.run_again = false;
        self.retry_after = RETRY_FIRST;
        true
    }

    fn finish(&mut self, name: &str, result: LoadResult<S>, now: BootTime) -> News {
        self.is_pending = false;
        match result {
            Ok(client) => self.succeed(name, client),
            Err(error) => self.fail(name, &error, now),
        }
    }

    fn succeed(&mut self, name: &str, client: LoadedClient<S>) -> News {
        let had_failed = self.failure.take().is_some();
        self.retry_after = RETRY_FIRST;
        let before = self.loaded.as_ref();
        let same = before.filter(|before| Arc::ptr_eq(&before.client.source, &client.source));
        let is_new = same.is_none_or(|before| before.is_new);
        let same_scopes = before.is_some_and(|before| before.scopes == self.scopes);
        let is_unchanged = !had_failed && !is_new && same_scopes;
        self.loaded = Some(InForce {
            client,
            scopes: self.scopes.clone(),
            is_new,
        });
        if is_unchanged {
            return News::Unchanged;
        }
        let name = name.to_owned();
        News::Loaded { name, had_failed }
    }

    fn fail(&mut self, name: &str, error: &LoadError, now: BootTime) -> News {
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
            return News::FailedAgain { name };
        }
        News::Failed {
            name,
            reason,
            keeps_previous: self.loaded.is_some(),
            retry_in,
        }
    }

    fn for_broker(&mut self, name: &str) -> (ClientSpec, Option<Arc<S>>) {
        let Some(loaded) = &mut self.loaded else {
            let loading = match &self.failure {
                Some(Failure { retry_at, .. }) => Loading::Failed {
                    retry_at: *retry_at,
                },
                None => Loading::Pending,
            };
            let wanted = ClientSpec {
                name: name.to_owned(),
                shown_id: String::new(),
                scopes: self.scopes.clone(),
                renewed: false,
                proxy_login: None,
                loading: Some(loading),
            };
            return (wanted, None);
        };
        let wanted = ClientSpec {
            name: name.to_owned(),
            shown_id: loaded.client.shown_id.clone(),
            scopes: loaded.scopes.clone(),
            renewed: std::mem::take(&mut loaded.is_new),
            proxy_login: loaded.client.proxy_login,
            loading: None,
        };
        (wanted, Some(Arc::clone(&loaded.client.source)))
    }
}

#[cfg(test)]
mod tests;
