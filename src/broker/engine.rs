//! The broker's loop: the one place that sends token requests and keeps the time.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::sync::Arc;

use domo_token_client::scope::ScopeSet;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, error, info, warn};

use super::{Broker, State};
use crate::clock::Clock;
use crate::roster::{Command, SetId};
use crate::schedule::{Outcome, Round, floor};
use crate::source::{FetchError, Fetched, TokenSource};

/// What the daemon tells the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Reload,
    Stop,
}

/// Carries out what the roster decides.
#[derive(Debug)]
pub struct Engine<S, C> {
    broker: Broker<C>,
    /// By client name.
    sources: BTreeMap<String, Arc<S>>,
    flights: JoinSet<Landed>,
    aborts: HashMap<SetId, AbortHandle>,
    orders: mpsc::Receiver<Order>,
}

/// Tells an [`Engine`] what to do.
#[derive(Clone, Debug)]
pub struct Helm(mpsc::Sender<Order>);

impl Helm {
    /// Everything refused or waiting to retry is tried at once.
    pub async fn reload(&self) {
        self.order(Order::Reload).await;
    }

    /// Refuses all who wait and ends the loop.
    pub async fn stop(&self) {
        self.order(Order::Stop).await;
    }

    /// A loop that has ended needs no orders.
    async fn order(&self, order: Order) {
        let _ended = self.0.send(order).await;
    }
}

struct Landed {
    set: SetId,
    round: Round,
    result: Result<Fetched, FetchError>,
}

enum Event {
    Landed(Box<Landed>),
    /// A request's task ended without an answer: aborted, or a bug.
    Lost,
    Due,
    Changed,
    Order(Order),
}

#[derive(PartialEq, Eq)]
enum Flow {
    GoOn,
    Stop,
}

impl<S: TokenSource, C: Clock> Engine<S, C> {
    /// A loop for `broker` that asks the source of each client, by name.
    #[must_use]
    pub fn new(broker: Broker<C>, sources: BTreeMap<String, Arc<S>>) -> (Self, Helm) {
        let (helm, orders) = mpsc::channel(8);
        let engine = Self {
            broker,
            sources,
            flights: JoinSet::new(),
            aborts: HashMap::new(),
            orders,
        };
        (engine, Helm(helm))
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

    async fn next_event(&mut self) -> Event {
        let due = self.broker.state().roster.poll_timeout();
        let clock = self.broker.0.clock.clone();
        let timer = async {
            match due {
                Some(due) => clock.sleep_until(due).await,
                None => pending().await,
            }
        };
        tokio::select! {
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
            order = self.orders.recv() => Event::Order(order.unwrap_or(Order::Stop)),
        }
    }

    fn apply(&mut self, event: Event) -> Flow {
        let now = self.broker.0.clock.now();
        let mut state = self.broker.state();
        match event {
            Event::Landed(landed) => {
                state.roster.handle_timeout(now);
                let Landed { set, round, result } = *landed;
                state.roster.handle_fetched(set, round, result, now);
            }
            Event::Due | Event::Changed | Event::Lost => state.roster.handle_timeout(now),
            Event::Order(Order::Reload) => state.roster.reload(now),
            Event::Order(Order::Stop) => {
                state.stopping = true;
                state.roster.stop();
                return Flow::Stop;
            }
        }
        Flow::GoOn
    }

    fn carry_out(&mut self) {
        while let Some((command, state)) = self.next_command() {
            match command {
                Command::Fetch(set, round) => self.fetch(set, round, state),
                Command::Abort(set) => {
                    if let Some(flight) = self.aborts.remove(&set) {
                        flight.abort();
                    }
                }
                Command::Report(set, outcome) => log(&self.broker.state(), set, &outcome),
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
        let command = state.roster.poll_command()?;
        let name = match &command {
            Command::Fetch(set, _) => state.roster.name_of(*set),
            Command::Abort(_) | Command::Reply(..) | Command::Report(..) => None,
        };
        let name = name.map(|(client, scope)| (client.to_owned(), scope.clone()));
        Some((command, name))
    }

    fn fetch(&mut self, set: SetId, round: Round, name: Option<(String, ScopeSet)>) {
        let Some((client, scope)) = name else {
            return;
        };
        let Some(source) = self.sources.get(&client).map(Arc::clone) else {
            return;
        };
        let flight = self.flights.spawn(async move {
            let result = source.fetch(&scope).await;
            Landed { set, round, result }
        });
        self.aborts.insert(set, flight);
    }
}

/// A change of state is told once, loudly; the same again quietly.
fn log(state: &State, set: SetId, outcome: &Outcome) {
    let Some((client, scope)) = state.roster.name_of(set) else {
        return;
    };
    let words = state.roster.failure_of(set).unwrap_or_default();
    match outcome {
        Outcome::Ignored => {}
        Outcome::Obtained {
            life,
            after,
            first,
            assumed,
        } => {
            let lifetime = life.lifetime.as_secs();
            if *after > 0 {
                info!(client, %scope, lifetime, attempts = after + 1, "token obtained again");
            } else if *first {
                info!(client, %scope, lifetime, "token obtained");
            } else {
                debug!(client, %scope, lifetime, "token renewed");
            }
            if *first && *assumed {
                warn!(client, %scope, lifetime, "Domo names no lifetime; this one is assumed");
            }
            if *first && life.lifetime < floor(life.lifetime) * 20 {
                warn!(client, %scope, lifetime, "tokens live so short that callers will wait at times");
            }
        }
        Outcome::Denied { scope_only, again } => {
            let what = if *scope_only { "scope set" } else { "client" };
            if *again {
                debug!(client, %scope, what, "still refused: {words}");
            } else {
                error!(client, %scope, what, "refused, next attempt in 5 min or on reload: {words}");
            }
        }
        Outcome::Failed { cause, again } => {
            if *again {
                debug!(client, %scope, %cause, "still no token: {words}");
            } else {
                warn!(client, %scope, %cause, "no token, trying again: {words}");
            }
        }
    }
}
