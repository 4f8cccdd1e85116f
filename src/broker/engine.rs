//! The broker's loop: the one place that sends token requests and keeps the time.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use domo_token_protocol::scope::ScopeSet;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tracing::error;

use super::{Broker, BrokerConfig, State, log};
use crate::platform::clock::Clock;
use crate::source::TokenSource;
use domo_token_core::fetch::{FetchError, Fetched};
use domo_token_core::schedule::{FetchId, Outcome};
use domo_token_core::scheduler::{ClientSpec, Command, ConfigDiff, SetId};

/// The API clients of a config, each with where its tokens come from; a client that is not loaded
/// has no such source.
pub type Clients<S> = Vec<(ClientSpec, Option<Arc<S>>)>;

/// What the daemon tells the loop.
#[derive(Debug)]
enum EngineMessage<S> {
    Configure(Clients<S>, Box<BrokerConfig>),
    Retry,
    /// Answered at once: the loop lives.
    Ping(oneshot::Sender<()>),
    Stop,
}

/// Carries out what the scheduler decides.
#[derive(Debug)]
pub struct Engine<S, C> {
    broker: Broker<C>,
    /// By client name.
    sources: BTreeMap<String, Arc<S>>,
    flights: JoinSet<Landed>,
    /// Of the requests under way alone: a handle keeps its task's memory.
    aborts: HashMap<SetId, (FetchId, AbortHandle)>,
    /// Requests whose proxy has opened a tunnel.
    tunnels: mpsc::UnboundedReceiver<(SetId, FetchId)>,
    /// For the requests to come.
    tunnel_sender: mpsc::UnboundedSender<(SetId, FetchId)>,
    orders: mpsc::Receiver<EngineMessage<S>>,
}

/// Tells an [`Engine`] what to do.
#[derive(Debug)]
pub struct EngineHandle<S>(mpsc::Sender<EngineMessage<S>>);

impl<S> Clone for EngineHandle<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> EngineHandle<S> {
    /// Keeps tokens for just these clients.
    pub async fn configure(&self, clients: Clients<S>, config: BrokerConfig) {
        self.order(EngineMessage::Configure(clients, Box::new(config)))
            .await;
    }

    /// What is refused or waits to retry is tried at once.
    pub async fn retry(&self) {
        self.order(EngineMessage::Retry).await;
    }

    /// Returns once the loop has taken note: it lives.
    pub async fn ping(&self) {
        let (sender, answered) = oneshot::channel();
        self.order(EngineMessage::Ping(sender)).await;
        // A loop that has ended drops the sender, and its end is told elsewhere.
        let _ended = answered.await;
    }

    /// Refuses all who wait and ends the loop.
    pub async fn stop(&self) {
        self.order(EngineMessage::Stop).await;
    }

    /// A loop that has ended needs no orders.
    async fn order(&self, order: EngineMessage<S>) {
        let _ended = self.0.send(order).await;
    }
}

struct Landed {
    set: SetId,
    fetch_id: FetchId,
    result: Result<Fetched, FetchError>,
}

enum Event<S> {
    Tunnel(SetId, FetchId),
    Landed(Box<Landed>),
    /// A request's task ended without an answer: aborted, or a bug.
    Lost,
    Due,
    Changed,
    Message(EngineMessage<S>),
}

#[derive(PartialEq, Eq)]
enum Flow {
    GoOn,
    Stop,
}

impl<S: TokenSource, C: Clock> Engine<S, C> {
    /// A loop for `broker` that keeps tokens for `clients`, to be run at once.
    #[must_use]
    pub fn new(broker: &Broker<C>, clients: Clients<S>) -> (Self, EngineHandle<S>) {
        let (helm, orders) = mpsc::channel(8);
        let (tunnel_sender, tunnels) = mpsc::unbounded_channel();
        let mut engine = Self {
            broker: broker.clone(),
            sources: BTreeMap::new(),
            flights: JoinSet::new(),
            aborts: HashMap::new(),
            tunnels,
            tunnel_sender,
            orders,
        };
        engine.configure(clients, &mut broker.state());
        (engine, EngineHandle(helm))
    }

    /// Runs until told to stop.
    pub async fn run(mut self) {
        loop {
            self.carry_out();
            let event = self.next_event().await;
            if self.apply(event) == Flow::Stop {
                break;
            }
        }
        self.carry_out();
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
            Some((set, fetch_id)) = self.tunnels.recv() => Event::Tunnel(set, fetch_id),
            Some(landed) = self.flights.join_next() => match landed {
                Ok(landed) => Event::Landed(Box::new(landed)),
                Err(ended) => {
                    if ended.is_panic() {
                        error!("a token request ended by a bug; it is tried again");
                    }
                    Event::Lost
                }
            },
            () = timer => Event::Due,
            () = self.broker.0.changed.notified() => Event::Changed,
            order = self.orders.recv() => Event::Message(order.unwrap_or(EngineMessage::Stop)),
        }
    }

    fn apply(&mut self, event: Event<S>) -> Flow {
        let now = self.broker.0.clock.now();
        let broker = self.broker.clone();
        let mut state = broker.state();
        state.scheduler.handle_timeout(now);
        // A tunnel counts before the end of its request does.
        let first = match event {
            Event::Tunnel(set, fetch_id) => Some((set, fetch_id)),
            Event::Landed(_) | Event::Lost | Event::Due | Event::Changed | Event::Message(_) => {
                None
            }
        };
        let more = std::iter::from_fn(|| self.tunnels.try_recv().ok());
        for (set, fetch_id) in first.into_iter().chain(more) {
            state.scheduler.handle_tunnel(set, fetch_id, now);
        }
        match event {
            Event::Landed(landed) => {
                let Landed {
                    set,
                    fetch_id,
                    result,
                } = *landed;
                // One that was given up may land after its successor has begun.
                if self.aborts.get(&set).is_some_and(|(of, _)| *of == fetch_id) {
                    self.aborts.remove(&set);
                }
                state.scheduler.handle_fetched(set, fetch_id, result, now);
            }
            Event::Due => {
                let due = state.armed.unwrap_or(now);
                state.counters.lag = now.saturating_since(due);
            }
            Event::Tunnel(..) | Event::Changed | Event::Lost => {}
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
                // Whether they may be kept may have changed.
                self.broker.0.renewed.send_replace(());
            }
            Event::Message(EngineMessage::Stop) => {
                state.stopping = true;
                state.scheduler.stop(now);
                state.watched.clear();
                return Flow::Stop;
            }
        }
        Flow::GoOn
    }

    fn configure(&mut self, clients: Clients<S>, state: &mut State) -> ConfigDiff {
        let mut wanted = Vec::new();
        self.sources.clear();
        for (client, source) in clients {
            if let Some(source) = source {
                self.sources.insert(client.name.clone(), source);
            }
            wanted.push(client);
        }
        let now = self.broker.0.clock.now();
        state.restore(&wanted);
        state.scheduler.configure(wanted, now)
    }

    fn carry_out(&mut self) {
        while let Some((command, state)) = self.next_command() {
            match command {
                Command::Fetch(set, fetch_id) => self.fetch(set, fetch_id, state),
                Command::Abort(set) => {
                    if let Some((_, flight)) = self.aborts.remove(&set) {
                        flight.abort();
                    }
                }
                Command::Report(set, outcome) => {
                    let mut state = self.broker.state();
                    log::report(&state.scheduler, set, &outcome, self.broker.0.clock.now());
                    state.counters.attempt(set, &outcome);
                    self.broker.0.attempted.send_replace(());
                    if let Outcome::Obtained { .. } = outcome {
                        self.broker.0.renewed.send_replace(());
                    }
                }
                Command::Announce(set) => {
                    if let Some(watchers) = self.broker.state().watched.get(&set) {
                        watchers.send_replace(());
                    }
                }
                Command::Forget(set) => {
                    self.aborts.remove(&set);
                    let mut state = self.broker.state();
                    state.watched.remove(&set);
                    state.counters.forget(set);
                    self.broker.0.renewed.send_replace(());
                }
                // A caller that is gone needs no answer.
                Command::Reply(waiter, reply) => {
                    let sender = self.broker.state().waiters.remove(&waiter);
                    let _gone = sender.map(|sender| sender.send(reply));
                }
            }
        }
    }

    fn next_command(&self) -> Option<(Command, Option<(String, ScopeSet)>)> {
        let mut state = self.broker.state();
        let command = state.scheduler.poll_command()?;
        let name = match &command {
            Command::Fetch(set, _) => state.scheduler.name_of(*set),
            Command::Abort(_)
            | Command::Reply(..)
            | Command::Report(..)
            | Command::Announce(_)
            | Command::Forget(_) => None,
        };
        let name = name.map(|(client, scope)| (client.to_owned(), scope.clone()));
        Some((command, name))
    }

    fn fetch(&mut self, set: SetId, fetch_id: FetchId, name: Option<(String, ScopeSet)>) {
        let Some((client, scope)) = name else {
            return;
        };
        let Some(source) = self.sources.get(&client).map(Arc::clone) else {
            return;
        };
        let Some(limit) = self.broker.state().scheduler.time_limit(set) else {
            return;
        };
        let tunnels = self.tunnel_sender.clone();
        let flight = self.flights.spawn(async move {
            // A loop that has ended needs no news.
            let on_tunnel = || tunnels.send((set, fetch_id)).unwrap_or_default();
            let result = source.fetch(&scope, limit, &on_tunnel).await;
            Landed {
                set,
                fetch_id,
                result,
            }
        });
        self.aborts.insert(set, (fetch_id, flight));
    }
}

#[cfg(test)]
mod tests;
