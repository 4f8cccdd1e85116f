//! Runs one sequence of operations, and checks the invariants after each one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domo_token::broker::{Broker, BrokerConfig, Clients, Engine, EngineHandle};
use domo_token::platform::clock::{BootTime, Clock};
use domo_token_core::scheduler::ClientSpec;
use domo_token_protocol::messages::Renew;
use domo_token_protocol::scope::ScopeSet;

use crate::behaviour::Behaviour;
use crate::callers::Callers;
use crate::clock::SimClock;
use crate::domo::{Domo, Key, SimSource};
use crate::log::Log;
use crate::logins;

/// All scope sets; the first client has more than it may fetch concurrently.
const SETS: [(&str, &str); 6] = [
    ("acme", "audit"),
    ("acme", "dashboard"),
    ("acme", "data"),
    ("acme", "user"),
    ("other", "data"),
    ("other", "data user"),
];

/// One operation.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Time passes, in thousandths of a lifetime.
    Pass(u32),
    /// A suspend of so many seconds: time jumps, and nothing runs meanwhile.
    Suspend(u32),
    Behaviour(Behaviour),
    Ask {
        set: usize,
        callers: u8,
        wait_ms: u32,
        min_ttl: Option<u32>,
        renew: Option<bool>,
    },
    Leave,
    Watch(usize),
    /// SIGHUP with nothing changed.
    Reload,
    /// Other credentials, good or bad.
    Rotate {
        client: usize,
        valid: bool,
    },
    /// Other credentials several times in a row, the last ones good.
    Flap {
        client: usize,
        times: u8,
    },
    /// Another login at a proxy, or with 0 no proxy.
    Login {
        client: usize,
        login: u64,
    },
    /// The proxy accepts the login from now on, or rejects it.
    Proxy {
        login: u64,
        valid: bool,
    },
    /// Removes the scope set from the config, or adds it again.
    Toggle(usize),
}

/// The result of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) schedules: u32,
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    pub(crate) steps: u64,
}

struct Run {
    clock: SimClock,
    domo: Domo,
    callers: Callers,
    broker: Broker<SimClock>,
    engine: EngineHandle<SimSource>,
    sources: BTreeMap<&'static str, Arc<SimSource>>,
    off: BTreeSet<usize>,
    outcome: Outcome,
}

/// Runs the operations, then ends all faults and shuts down.
///
/// # Errors
///
/// The violated invariant, and the history until then.
pub(crate) fn play(seed: u64, lifetime: u32, ops: &[Op]) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let log = Log::default();
    let _log_guard = log.listen();
    runtime.block_on(async {
        let lifetime = Duration::from_secs(lifetime.into());
        let clock = SimClock::new(BootTime::from_millis(1_000_000));
        let domo = Domo::new(clock.clone(), seed, lifetime);
        let broker = Broker::new(clock.clone(), seed, BrokerConfig::default());
        let mut sources = BTreeMap::new();
        for (client, _) in SETS {
            sources
                .entry(client)
                .or_insert_with(|| source(&domo, client, true, None));
        }
        for set in 0..SETS.len() {
            domo.add(&key(set));
        }
        let clients = clients(&sources, &BTreeSet::new(), None);
        let (engine, handle) = Engine::new(&broker, clients);
        let engine = tokio::spawn(engine.run());
        let mut run = Run {
            callers: Callers::new(domo.clone(), broker.clone()),
            clock,
            domo,
            broker,
            engine: handle,
            sources,
            off: BTreeSet::new(),
            outcome: Outcome::default(),
        };
        let played = run.play(ops).await;
        let ended = match played {
            Ok(()) => run.end(engine).await,
            Err(problem) => Err(problem),
        };
        let history = run.domo.state().history.join("\n");
        ended.map_err(|problem| format!("{problem}\n{history}"))?;
        let shown = format!("{:?}", run.broker);
        if [&history, &shown, &log.text()]
            .iter()
            .any(|text| text.contains("c4nary"))
        {
            return Err(format!("a token where it has no place\n{history}"));
        }
        run.outcome.requests = run.domo.state().requests;
        run.outcome.tokens = run.callers.tokens();
        Ok(run.outcome)
    })
}

impl Run {
    async fn play(&mut self, ops: &[Op]) -> Result<(), String> {
        self.settle().await?;
        for op in ops {
            self.domo.record(&format!("{op:?}"));
            self.apply(op).await?;
            self.settle().await?;
        }
        Ok(())
    }

    async fn apply(&mut self, op: &Op) -> Result<(), String> {
        match *op {
            Op::Pass(thousandths) => {
                let lifetime = self.domo.state().lifetime;
                let span = (lifetime * thousandths / 1000).min(Duration::from_secs(1200));
                self.pass(span).await?;
            }
            Op::Suspend(seconds) => {
                // The first event after it is a request.
                for set in self.wanted() {
                    let wait = Duration::from_secs(5);
                    self.callers.request(&key(set), wait, None, None);
                }
                self.jump(Duration::from_secs(seconds.into()));
            }
            Op::Behaviour(behaviour) => self.domo.state().behaviour = behaviour,
            Op::Ask {
                set,
                callers,
                wait_ms,
                min_ttl,
                renew,
            } => {
                let key = key(set);
                let wait = Duration::from_millis(wait_ms.into());
                let lifetime = self.domo.state().lifetime;
                let least = min_ttl.map(|thousandths| lifetime * thousandths / 1000);
                let seen = Renew::Rejected(self.callers.seen(&key));
                let renew = renew.map(|rejected| if rejected { seen } else { Renew::Current });
                for _caller in 0..callers {
                    self.callers.request(&key, wait, least, renew);
                }
            }
            Op::Leave => self.callers.cancel_first(),
            Op::Watch(set) => self.callers.watch(&key(set)),
            Op::Reload => {
                self.domo.allow_next();
                self.engine.retry().await;
            }
            Op::Rotate { client, valid } => {
                let (client, _) = SETS[client % SETS.len()];
                self.rotate(client, valid).await?;
            }
            Op::Login { client, login } => {
                let (client, _) = SETS[client % SETS.len()];
                let login = Some(login).filter(|login| *login > 0);
                self.use_login(client, login).await?;
            }
            Op::Proxy { login, valid } => self.domo.state().logins.set_valid(login, valid),
            Op::Flap { client, times } => self.flap(client, times).await?,
            Op::Toggle(set) => self.toggle(set % SETS.len()).await,
        }
        Ok(())
    }

    async fn toggle(&mut self, set: usize) {
        if self.off.remove(&set) {
            self.domo.add(&key(set));
        } else {
            self.off.insert(set);
            self.domo.remove(&key(set));
        }
        self.configure(None).await;
    }

    async fn flap(&mut self, client: usize, times: u8) -> Result<(), String> {
        let (client, _) = SETS[client % SETS.len()];
        for left in (0..times).rev() {
            self.rotate(client, left % 2 == 0).await?;
            self.pass(Duration::from_millis(700)).await?;
        }
        Ok(())
    }

    /// Sets the client's proxy login; its credentials stay.
    async fn use_login(&mut self, client: &'static str, login: Option<u64>) -> Result<(), String> {
        let before = &self.sources[client];
        if before.login == login {
            return Ok(());
        }
        let changed = source(&self.domo, client, before.valid, login);
        self.sources.insert(client, changed);
        self.domo.change_credentials(client);
        self.domo.use_login(client, login);
        self.configure(Some(client)).await;
        self.settle().await
    }

    async fn rotate(&mut self, client: &'static str, valid: bool) -> Result<(), String> {
        let login = self.sources[client].login;
        self.sources
            .insert(client, source(&self.domo, client, valid, login));
        self.domo.change_credentials(client);
        self.configure(Some(client)).await;
        self.settle().await
    }

    async fn configure(&self, renewed: Option<&str>) {
        self.domo.allow_next();
        let clients = clients(&self.sources, &self.off, renewed);
        self.engine
            .configure(clients, BrokerConfig::default())
            .await;
        self.engine.retry().await;
    }

    /// Lets time jump, after which all that became due is due at the same time.
    fn jump(&self, span: Duration) {
        self.clock.set(self.clock.now() + span);
        self.domo.answer_due();
    }

    /// Time passes from event to event.
    async fn pass(&mut self, span: Duration) -> Result<(), String> {
        let end = self.clock.now() + span;
        loop {
            let due = [self.clock.first_due(), self.domo.first_due()];
            let next = due.into_iter().flatten().min().filter(|due| *due <= end);
            let Some(next) = next else {
                break;
            };
            self.clock.set(next.max(self.clock.now()));
            self.domo.answer_due();
            self.settle().await?;
        }
        self.clock.set(end);
        self.settle().await
    }

    /// Time passes until `done`, or for that many seconds.
    async fn pass_until(
        &mut self,
        seconds: u32,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        for _second in 0..seconds {
            if done(self) {
                break;
            }
            self.pass(Duration::from_secs(1)).await?;
        }
        Ok(())
    }

    /// The sets that are in the config.
    fn wanted(&self) -> impl Iterator<Item = usize> {
        (0..SETS.len()).filter(|set| !self.off.contains(set))
    }

    /// Runs all tasks until none can run, then checks the invariants.
    async fn settle(&mut self) -> Result<(), String> {
        const QUIET: u32 = 3;
        let mut quiet = 0;
        let mut seen = 0;
        while quiet < QUIET {
            tokio::task::yield_now().await;
            let requests = self.domo.state().requests;
            let now = self.callers.answers() + self.clock.sleeps() + requests;
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
        }
        self.outcome.steps += 1;
        if let Some(problem) = self.callers.check() {
            self.domo.violated(problem);
        }
        match self.domo.state().violation.take() {
            Some(problem) => Err(problem),
            None => Ok(()),
        }
    }

    /// Ends all faults and waits for the longest possible time: all scope sets have a token again. Then the broker
    /// stops, and all waiting callers are refused.
    async fn end(&mut self, engine: tokio::task::JoinHandle<()>) -> Result<(), String> {
        self.domo.record("all faults end");
        self.domo.state().behaviour = Behaviour::Good;
        self.domo.state().logins.all_valid();
        let refused: Vec<&str> = self
            .sources
            .iter()
            .filter(|(_, source)| !source.valid)
            .map(|(client, _)| *client)
            .collect();
        for client in refused {
            self.rotate(client, true).await?;
        }
        self.jump(Duration::from_secs(3661));
        self.settle().await?;
        self.pass_until(62, |run| {
            run.wanted()
                .all(|set| run.domo.valid_token(&key(set)).is_some())
        })
        .await?;
        let before = self.callers.tokens();
        let wanted: Vec<usize> = (0..SETS.len())
            .filter(|set| !self.off.contains(set))
            .collect();
        for set in &wanted {
            let wait = Duration::from_secs(30);
            self.callers.request(&key(*set), wait, None, None);
        }
        self.settle().await?;
        self.pass(Duration::from_secs(30)).await?;
        if self.callers.tokens() < before + wanted.len() as u64 {
            return Err("not all have recovered".to_owned());
        }
        let (wait, least) = (Duration::from_secs(60), Duration::from_secs(1));
        self.callers
            .request(&key(0), wait, Some(least), Some(Renew::Current));
        self.settle().await?;
        self.callers.stopping();
        self.engine.stop().await;
        engine.await.map_err(|error| error.to_string())?;
        self.pass(Duration::from_secs(600)).await
    }
}

fn key(set: usize) -> Key {
    let (client, scope) = SETS[set % SETS.len()];
    (client.to_owned(), ScopeSet::parse(scope).unwrap())
}

fn source(domo: &Domo, client: &str, valid: bool, login: Option<u64>) -> Arc<SimSource> {
    Arc::new(SimSource {
        domo: domo.clone(),
        client: client.to_owned(),
        valid,
        login,
    })
}

fn clients(
    sources: &BTreeMap<&'static str, Arc<SimSource>>,
    off: &BTreeSet<usize>,
    renewed: Option<&str>,
) -> Clients<SimSource> {
    let one = |(client, source): (&&'static str, &Arc<SimSource>)| {
        let sets = SETS.iter().enumerate();
        let sets = sets.filter(|(set, (of, _))| of == client && !off.contains(set));
        let wanted = ClientSpec {
            name: (*client).to_owned(),
            shown_id: "id…".to_owned(),
            scopes: sets.map(|(set, _)| key(set).1).collect(),
            renewed: renewed == Some(*client),
            proxy_login: source.login.map(logins::id_of),
            loading: None,
            shares: false,
        };
        (wanted, Some(Arc::clone(source)))
    };
    sources.iter().map(one).collect()
}
