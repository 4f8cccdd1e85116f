//! The broker's loop: the only place that sends token requests and waits for timers.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tracing::error;

use super::{Broker, BrokerConfig, State, log};
use crate::platform::clock::Clock;
use crate::source::TokenSource;
use domo_token_core::fetch::{Fetch, Progress};
use domo_token_core::schedule::{FetchId, Outcome};
use domo_token_core::scheduler::{ClientSpec, Command, ConfigDiff, SetId};

/// The API clients of a config, each with its source; a client that is not loaded has none.
pub type Clients<S> = Vec<(ClientSpec, Option<Arc<S>>)>;

#[derive(Debug)]
enum EngineMessage<S> {
    Configure(Clients<S>, Box<BrokerConfig>),
    Retry,
    /// Answered immediately, which shows that the loop runs.
    Ping(oneshot::Sender<()>),
    Stop,
}

/// Executes what the scheduler decides.
#[derive(Debug)]
pub struct Engine<S, C> {
    broker: Broker<C>,
    /// By client name.
    sources: BTreeMap<String, Arc<S>>,
    requests: JoinSet<EndedRequest>,
    /// Of running requests only, because a handle keeps its task's memory.
    aborts: HashMap<SetId, (FetchId, AbortHandle)>,
    /// What requests report before their end.
    progress: mpsc::UnboundedReceiver<(SetId, FetchId, Progress)>,
    /// Cloned for each request.
    progress_sender: mpsc::UnboundedSender<(SetId, FetchId, Progress)>,
    messages: mpsc::Receiver<EngineMessage<S>>,
}

/// Sends messages to an [`Engine`]. Clones send to the same one.
#[derive(Debug)]
pub struct EngineHandle<S>(mpsc::Sender<EngineMessage<S>>);

impl<S> Clone for EngineHandle<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> EngineHandle<S> {
    /// Replaces the clients that tokens are kept for.
    pub async fn configure(&self, clients: Clients<S>, config: BrokerConfig) {
        self.send(EngineMessage::Configure(clients, Box::new(config)))
            .await;
    }

    /// Retries immediately what was rejected or waits for its next attempt.
    pub async fn retry(&self) {
        self.send(EngineMessage::Retry).await;
    }

    /// Returns once the loop has answered. It has applied all earlier messages then.
    pub async fn ping(&self) {
        let (sender, answered) = oneshot::channel();
        self.send(EngineMessage::Ping(sender)).await;
        // A loop that has ended drops the sender, and its task reports that.
        answered.await.ok();
    }

    /// Refuses all waiting requests and ends the loop.
    pub async fn stop(&self) {
        self.send(EngineMessage::Stop).await;
    }

    async fn send(&self, message: EngineMessage<S>) {
        // A loop that has ended needs no messages.
        self.0.send(message).await.ok();
    }
}

struct EndedRequest {
    set: SetId,
    fetch_id: FetchId,
    result: Fetch,
}

enum Event<S> {
    Progress(SetId, FetchId, Progress),
    Ended(Box<EndedRequest>),
    /// A request's task ended without a result: it was aborted, or panicked.
    Lost,
    Due,
    Changed,
    Message(EngineMessage<S>),
}

#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

impl<S: TokenSource, C: Clock> Engine<S, C> {
    /// Returns a loop for `broker` that keeps tokens for `clients`, to be run immediately.
    #[must_use]
    pub fn new(broker: &Broker<C>, clients: Clients<S>) -> (Self, EngineHandle<S>) {
        let (handle, messages) = mpsc::channel(8);
        let (progress_sender, progress) = mpsc::unbounded_channel();
        let mut engine = Self {
            broker: broker.clone(),
            sources: BTreeMap::new(),
            requests: JoinSet::new(),
            aborts: HashMap::new(),
            progress,
            progress_sender,
            messages,
        };
        engine.configure(clients, &mut broker.state());
        (engine, EngineHandle(handle))
    }

    /// Runs until [`EngineHandle::stop`].
    pub async fn run(mut self) {
        loop {
            self.execute_commands();
            self.answer_pings();
            let event = self.next_event().await;
            if self.apply(event) == Flow::Stop {
                break;
            }
        }
        self.execute_commands();
    }

    async fn next_event(&mut self) -> Event<S> {
        let due = self.broker.state().arm();
        let clock = self.broker.0.clock.clone();
        let timer = async {
            match due {
                Some(due) => clock.sleep_until(due).await,
                None => pending().await,
            }
        };
        tokio::select! {
            Some((set, fetch_id, progress)) = self.progress.recv() => {
                Event::Progress(set, fetch_id, progress)
            }
            Some(ended) = self.requests.join_next() => match ended {
                Ok(ended) => Event::Ended(Box::new(ended)),
                Err(error) => {
                    if error.is_panic() {
                        error!("a token request panicked; retrying; please report this bug");
                    }
                    Event::Lost
                }
            },
            () = timer => Event::Due,
            () = self.broker.0.changed.notified() => Event::Changed,
            message = self.messages.recv() => {
                Event::Message(message.unwrap_or(EngineMessage::Stop))
            },
        }
    }

    fn apply(&mut self, event: Event<S>) -> Flow {
        let now = self.broker.0.clock.now();
        let broker = self.broker.clone();
        let mut state = broker.state();
        state.scheduler.handle_timeout(now);
        // What a request reports counts before its end does.
        let first = match event {
            Event::Progress(set, fetch_id, progress) => Some((set, fetch_id, progress)),
            Event::Ended(_) | Event::Lost | Event::Due | Event::Changed | Event::Message(_) => None,
        };
        let more = std::iter::from_fn(|| self.progress.try_recv().ok());
        for (set, fetch_id, progress) in first.into_iter().chain(more) {
            let scheduler = &mut state.scheduler;
            scheduler.handle_progress(set, fetch_id, progress, now);
        }
        match event {
            Event::Ended(ended) => {
                let EndedRequest {
                    set,
                    fetch_id,
                    result,
                } = *ended;
                // One that was aborted may end after its successor has begun.
                if self
                    .aborts
                    .get(&set)
                    .is_some_and(|(running, _)| *running == fetch_id)
                {
                    self.aborts.remove(&set);
                }
                state.scheduler.handle_fetched(set, fetch_id, result, now);
            }
            Event::Due => {
                let due = state.armed.unwrap_or(now);
                state.counters.loop_lag = now.saturating_since(due);
            }
            Event::Progress(..) | Event::Changed | Event::Lost => {}
            Event::Message(EngineMessage::Retry) => state.scheduler.retry(now),
            Event::Message(EngineMessage::Ping(sender)) => {
                sender.send(()).unwrap_or_default();
            }
            Event::Message(EngineMessage::Configure(clients, config)) => {
                let has_rules = !config.access.is_empty();
                broker.0.has_rules.store(has_rules, Ordering::Relaxed);
                let has_units = config.access.has_units();
                broker.0.has_units.store(has_units, Ordering::Relaxed);
                state.config = *config;
                log::configured(&self.configure(clients, &mut state));
                state.forget_removed_in_fleet();
                // Whether tokens may be stored may have changed.
                self.broker.0.renewed.send_replace(());
            }
            Event::Message(EngineMessage::Stop) => {
                state.stopping = true;
                state.scheduler.stop(now);
                state.watched.clear();
                return Flow::Stop;
            }
        }
        Flow::Continue
    }

    fn configure(&mut self, clients: Clients<S>, state: &mut State) -> ConfigDiff {
        let mut specs = Vec::new();
        let mut with_other_source = Vec::new();
        let before = std::mem::take(&mut self.sources);
        for (client, source) in clients {
            if let Some(source) = source {
                let is_other = before
                    .get(&client.name)
                    .is_some_and(|before| !Arc::ptr_eq(before, &source));
                // New credentials end all fetches.
                if is_other && !client.renewed {
                    with_other_source.push(client.name.clone());
                }
                self.sources.insert(client.name.clone(), source);
            }
            specs.push(client);
        }
        let now = self.broker.0.clock.now();
        state.restore(&specs);
        let diff = state.scheduler.configure(specs, now);
        for client in with_other_source {
            state.scheduler.restart_waits(&client, now);
        }
        diff
    }

    fn answer_pings(&self) {
        let pings = std::mem::take(&mut self.broker.state().pings);
        for ping in pings {
            // A caller that has left needs no answer.
            ping.send(()).ok();
        }
    }

    fn execute_commands(&mut self) {
        while let Some(command) = self.next_command() {
            match command {
                Command::Fetch(set, fetch_id) => self.fetch(set, fetch_id),
                Command::Abort(set) => {
                    if let Some((_, request)) = self.aborts.remove(&set) {
                        request.abort();
                    }
                }
                Command::Report(set, outcome) => {
                    let mut state = self.broker.state();
                    log::report(&state.scheduler, set, &outcome, self.broker.0.clock.now());
                    state.counters.count_attempt(set, &outcome);
                    self.broker.0.attempted.send_replace(());
                    if let Outcome::Obtained { .. } = outcome {
                        self.broker.0.renewed.send_replace(());
                    }
                }
                Command::NotifyWatchers(set) => {
                    if let Some(watchers) = self.broker.state().watched.get(&set) {
                        watchers.send_replace(());
                    }
                }
                Command::Remove(set) => {
                    self.aborts.remove(&set);
                    let mut state = self.broker.state();
                    state.watched.remove(&set);
                    state.counters.remove(set);
                    self.broker.0.renewed.send_replace(());
                }
                Command::Reply(waiter, reply) => {
                    let sender = self.broker.state().waiters.remove(&waiter);
                    if let Some(sender) = sender {
                        // A caller that has left needs no answer.
                        sender.send(reply).ok();
                    }
                }
            }
        }
    }

    fn next_command(&self) -> Option<Command> {
        self.broker.state().scheduler.poll_command()
    }

    fn fetch(&mut self, set: SetId, fetch_id: FetchId) {
        let now = self.broker.0.clock.now();
        let state = self.broker.state();
        let scheduler = &state.scheduler;
        let (Some((client, _)), Some(occasion)) =
            (scheduler.name_of(set), scheduler.occasion(set, now))
        else {
            return;
        };
        let Some(source) = self.sources.get(client).map(Arc::clone) else {
            return;
        };
        drop(state);
        let sender = self.progress_sender.clone();
        let request = self.requests.spawn(async move {
            // A loop that has ended needs no message.
            let on_progress = |progress| sender.send((set, fetch_id, progress)).unwrap_or_default();
            let result = source.fetch(&occasion, &on_progress).await;
            EndedRequest {
                set,
                fetch_id,
                result,
            }
        });
        self.aborts.insert(set, (fetch_id, request));
    }
}

#[cfg(test)]
mod tests;
