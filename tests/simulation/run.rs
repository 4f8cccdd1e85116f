//! Runs one sequence of operations, and checks the invariants after each one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domo_token::broker::{Broker, BrokerConfig, Clients, Engine, EngineHandle};
use domo_token::platform::clock::{BootTime, Clock};
use domo_token::source::fleet::Fleet;
use domo_token::source::fleet_monitor::FleetMonitor;
use domo_token_core::scheduler::ClientSpec;
use domo_token_protocol::messages::Renew;
use domo_token_protocol::scope::ScopeSet;
use tokio::task::JoinHandle;

use crate::behaviour::Behaviour;
use crate::callers::Callers;
use crate::clock::SimClock;
use crate::domo::{Domo, Key, SimSource};
use crate::host::HostSource;
use crate::log::Log;
use crate::logins;
use crate::store::{SimStore, StoreFault};

/// The scope sets of each host; the first client has more than it may fetch concurrently.
pub(crate) const SETS: [(&str, &str); 6] = [
    ("acme", "audit"),
    ("acme", "dashboard"),
    ("acme", "data"),
    ("acme", "user"),
    ("other", "data"),
    ("other", "data user"),
];

/// One operation. Scope sets, and the clients that they stand for, are numbered over all hosts.
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
    /// SIGHUP with nothing changed, on all hosts.
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
    /// The store of the fleet fails in this way from now on.
    Store(StoreFault),
    /// Clocks that far ahead of the true time: the store's, or one host's wall clock, depending on the seed. Both being
    /// wrong could have an expired token served.
    Clock {
        host: usize,
        ahead_s: i32,
    },
}

/// The result of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) schedules: u32,
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    pub(crate) steps: u64,
    /// Requests before all faults ended.
    pub(crate) regular_requests: u64,
    /// Tokens that hosts took from the store.
    pub(crate) taken: u64,
    /// Failures that hosts adopted.
    pub(crate) adopted: u64,
    /// Schedules in which hosts took tokens from the store.
    pub(crate) sharing: u32,
}

struct Run {
    clock: SimClock,
    domo: Domo,
    store: SimStore,
    hosts: Vec<Host>,
    is_store_clock_wrong: bool,
    outcome: Outcome,
}

/// One daemon.
struct Host {
    number: usize,
    clock: SimClock,
    callers: Callers,
    broker: Broker<SimClock>,
    engine: EngineHandle<HostSource>,
    task: Option<JoinHandle<()>>,
    fleet: Option<Arc<Fleet<SimStore, SimClock>>>,
    /// By client name without the host's number.
    sources: BTreeMap<&'static str, Arc<HostSource>>,
    off: BTreeSet<usize>,
}

/// Runs the operations on so many hosts, which share a store if there are several, then ends all faults and shuts down.
///
/// # Errors
///
/// The violated invariant, and the history until then.
pub(crate) fn play(hosts: usize, seed: u64, lifetime: u32, ops: &[Op]) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let log = Log::default();
    let _log_guard = log.listen();
    runtime.block_on(async {
        let lifetime = Duration::from_secs(lifetime.into());
        let clock = SimClock::new(BootTime::from_millis(1_000_000));
        let domo = Domo::new(clock.clone(), seed, lifetime);
        let store = SimStore::new(clock.clone(), seed);
        let shared = (hosts > 1).then_some(&store);
        let hosts = (0..hosts).map(|number| Host::start(number, &domo, shared, seed));
        let mut run = Run {
            hosts: hosts.collect(),
            clock,
            domo,
            store,
            is_store_clock_wrong: seed.is_multiple_of(2),
            outcome: Outcome::default(),
        };
        let played = run.play(ops).await;
        let ended = match played {
            Ok(()) => run.end().await,
            Err(problem) => Err(problem),
        };
        let history = run.domo.state().history.join("\n");
        ended.map_err(|problem| format!("{problem}\n{history}"))?;
        let shown: Vec<String> = run
            .hosts
            .iter()
            .map(|h| format!("{:?}", h.broker))
            .collect();
        let output = [history.as_str(), &shown.concat(), &log.text()].concat();
        if output.contains("c4nary") {
            return Err(format!("a token where it has no place\n{history}"));
        }
        let state = run.domo.state();
        run.outcome.requests = state.requests;
        run.outcome.taken = state.taken;
        run.outcome.adopted = state.adopted;
        drop(state);
        run.outcome.tokens = run.tokens();
        Ok(run.outcome)
    })
}

impl Host {
    fn start(number: usize, domo: &Domo, store: Option<&SimStore>, seed: u64) -> Self {
        let seed = seed.wrapping_add(number as u64);
        let clock = domo.clock.of_host();
        let broker = Broker::new(clock.clone(), seed, BrokerConfig::default());
        let fleet = store.map(|store| {
            let monitor = Arc::new(FleetMonitor::new("store".to_owned()));
            let rng = fastrand::Rng::with_seed(seed);
            Arc::new(Fleet::new(store.clone(), clock.clone(), monitor, rng))
        });
        let source = |client| {
            let source = source(domo, &name(client, number), true, None);
            Arc::new(HostSource::new(source, fleet.as_ref()))
        };
        let sources = SETS.map(|(client, _)| (client, source(client)));
        let sources = BTreeMap::from(sources);
        for set in 0..SETS.len() {
            domo.add(&key(number, set));
        }
        let clients = clients(number, &sources, &BTreeSet::new(), None);
        let (engine, handle) = Engine::new(&broker, clients);
        Self {
            number,
            clock,
            callers: Callers::new(domo.clone(), broker.clone()),
            broker,
            engine: handle,
            task: Some(tokio::spawn(engine.run())),
            fleet,
            sources,
            off: BTreeSet::new(),
        }
    }

    /// The sets that are in the config.
    fn wanted(&self) -> Vec<Key> {
        let wanted = (0..SETS.len()).filter(|set| !self.off.contains(set));
        wanted.map(|set| key(self.number, set)).collect()
    }

    /// Replaces the source of a client.
    fn replace(&mut self, domo: &Domo, client: &'static str, valid: bool, login: Option<u64>) {
        let name = name(client, self.number);
        let changed = source(domo, &name, valid, login);
        let changed = HostSource::new(changed, self.fleet.as_ref());
        self.sources.insert(client, Arc::new(changed));
        domo.change_credentials(&name);
        domo.use_login(&name, login);
    }

    async fn reload(&self, domo: &Domo) {
        domo.allow_next(self.number);
        self.engine.retry().await;
    }

    async fn configure(&self, domo: &Domo, renewed: Option<&str>) {
        domo.allow_next(self.number);
        let clients = clients(self.number, &self.sources, &self.off, renewed);
        self.engine
            .configure(clients, BrokerConfig::default())
            .await;
        self.engine.retry().await;
    }
}

impl Run {
    async fn play(&mut self, ops: &[Op]) -> Result<(), String> {
        self.settle().await?;
        for op in ops {
            self.domo.record(&format!("{op:?}"));
            self.apply(op).await?;
            self.settle().await?;
        }
        self.outcome.regular_requests = self.domo.state().requests;
        Ok(())
    }

    /// Returns the host of a scope set that is numbered over all hosts.
    fn host(&self, set: usize) -> &Host {
        &self.hosts[set / SETS.len() % self.hosts.len()]
    }

    fn key(&self, set: usize) -> Key {
        key(self.host(set).number, set)
    }

    fn tokens(&self) -> u64 {
        self.hosts.iter().map(|host| host.callers.tokens()).sum()
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
                for host in &self.hosts {
                    for key in host.wanted() {
                        let wait = Duration::from_secs(5);
                        host.callers.request(&key, wait, None, None);
                    }
                }
                self.jump(Duration::from_secs(seconds.into()));
            }
            Op::Behaviour(behaviour) => self.domo.state().behaviour = behaviour,
            Op::Ask { .. } => self.ask(op),
            Op::Leave => {
                for host in &self.hosts {
                    host.callers.cancel_first();
                }
            }
            Op::Watch(set) => self.host(set).callers.watch(&self.key(set)),
            Op::Reload => {
                for host in &self.hosts {
                    host.reload(&self.domo).await;
                }
            }
            Op::Rotate { client, valid } => self.rotate(client, valid).await?,
            Op::Login { client, login } => self.use_login(client, login).await?,
            Op::Proxy { login, valid } => {
                for host in 0..self.hosts.len() {
                    let login = logins::of_host(login, host);
                    self.domo.state().logins.set_valid(login, valid);
                }
            }
            Op::Flap { client, times } => self.flap(client, times).await?,
            Op::Toggle(set) => self.toggle(set).await,
            Op::Store(fault) => self.store.set_fault(fault),
            Op::Clock { host, ahead_s } => {
                let ahead_ms = i64::from(ahead_s) * 1000;
                if self.is_store_clock_wrong {
                    self.store.set_ahead(ahead_ms);
                } else {
                    let host = host % self.hosts.len();
                    self.hosts[host].clock.set_wall_ahead(ahead_ms);
                }
            }
        }
        Ok(())
    }

    /// Sends the requests of [`Op::Ask`].
    fn ask(&self, op: &Op) {
        let Op::Ask {
            set,
            callers,
            wait_ms,
            min_ttl,
            renew,
        } = *op
        else {
            return;
        };
        let key = self.key(set);
        let callers_of = &self.host(set).callers;
        let wait = Duration::from_millis(wait_ms.into());
        let lifetime = self.domo.state().lifetime;
        let least = min_ttl.map(|thousandths| lifetime * thousandths / 1000);
        let seen = Renew::Rejected(callers_of.seen(&key));
        let renew = renew.map(|rejected| if rejected { seen } else { Renew::Current });
        for _caller in 0..callers {
            callers_of.request(&key, wait, least, renew);
        }
    }

    async fn toggle(&mut self, set: usize) {
        let key = self.key(set);
        let hosts = self.hosts.len();
        let host = &mut self.hosts[set / SETS.len() % hosts];
        let set = set % SETS.len();
        if host.off.remove(&set) {
            self.domo.add(&key);
        } else {
            host.off.insert(set);
            self.domo.remove(&key);
        }
        host.configure(&self.domo, None).await;
    }

    async fn flap(&mut self, client: usize, times: u8) -> Result<(), String> {
        for left in (0..times).rev() {
            self.rotate(client, left % 2 == 0).await?;
            self.pass(Duration::from_millis(700)).await?;
        }
        Ok(())
    }

    /// Sets the client's proxy login; its credentials stay.
    async fn use_login(&mut self, client: usize, login: u64) -> Result<(), String> {
        let host = self.host(client);
        let login = Some(login).filter(|login| *login > 0);
        let login = login.map(|login| logins::of_host(login, host.number));
        let (name, _) = SETS[client % SETS.len()];
        let before = host.sources[name].domo();
        if before.login == login {
            return Ok(());
        }
        let valid = before.valid;
        self.change(client, valid, login).await
    }

    async fn rotate(&mut self, client: usize, valid: bool) -> Result<(), String> {
        let (name, _) = SETS[client % SETS.len()];
        let login = self.host(client).sources[name].domo().login;
        self.change(client, valid, login).await
    }

    async fn change(
        &mut self,
        client: usize,
        valid: bool,
        login: Option<u64>,
    ) -> Result<(), String> {
        let (name, _) = SETS[client % SETS.len()];
        let hosts = self.hosts.len();
        let host = &mut self.hosts[client / SETS.len() % hosts];
        host.replace(&self.domo, name, valid, login);
        host.configure(&self.domo, Some(name)).await;
        self.settle().await
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

    /// Runs all tasks until none can run, then checks the invariants.
    async fn settle(&mut self) -> Result<(), String> {
        const QUIET: u32 = 3;
        let mut quiet = 0;
        let mut seen = 0;
        while quiet < QUIET {
            tokio::task::yield_now().await;
            let requests = self.domo.state().requests;
            let answers: u64 = self.hosts.iter().map(|host| host.callers.answers()).sum();
            let now = answers + self.clock.sleeps() + requests;
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
        }
        self.outcome.steps += 1;
        for host in &self.hosts {
            if let Some(problem) = host.callers.check() {
                self.domo.violated(problem);
            }
        }
        match self.domo.state().violation.take() {
            Some(problem) => Err(problem),
            None => Ok(()),
        }
    }

    /// Ends all faults and waits for the longest possible time: all scope sets have a token again. Then the brokers
    /// stop, and all waiting callers are refused.
    async fn end(&mut self) -> Result<(), String> {
        self.domo.record("all faults end");
        self.domo.state().behaviour = Behaviour::Good;
        self.domo.state().logins.all_valid();
        self.store.set_fault(StoreFault::Nothing);
        let clients =
            (0..self.hosts.len()).flat_map(|host| [0, 4].map(|set| host * SETS.len() + set));
        for client in clients {
            let (name, _) = SETS[client % SETS.len()];
            if !self.host(client).sources[name].domo().valid {
                self.rotate(client, true).await?;
            }
        }
        self.jump(Duration::from_secs(3661));
        self.settle().await?;
        // Hosts of a fleet also wait for leases.
        let longest = if self.hosts.len() > 1 { 130 } else { 62 };
        self.pass_until(longest, |run| {
            let mut wanted = run.hosts.iter().flat_map(Host::wanted);
            wanted.all(|key| run.domo.valid_token(&key).is_some())
        })
        .await?;
        let before = self.tokens();
        let wanted: Vec<Key> = self.hosts.iter().flat_map(Host::wanted).collect();
        for host in &self.hosts {
            for key in host.wanted() {
                let wait = Duration::from_secs(30);
                host.callers.request(&key, wait, None, None);
            }
        }
        self.settle().await?;
        self.pass(Duration::from_secs(30)).await?;
        if self.tokens() < before + wanted.len() as u64 {
            return Err("not all have recovered".to_owned());
        }
        for host in &self.hosts {
            let (wait, least) = (Duration::from_secs(60), Duration::from_secs(1));
            host.callers.request(
                &key(host.number, 0),
                wait,
                Some(least),
                Some(Renew::Current),
            );
        }
        self.settle().await?;
        for host in &mut self.hosts {
            host.callers.stopping();
            host.engine.stop().await;
            if let Some(task) = host.task.take() {
                task.await.map_err(|error| error.to_string())?;
            }
        }
        self.pass(Duration::from_secs(600)).await
    }
}

/// Returns the name of a client on a host; hosts name the same client differently.
fn name(client: &str, host: usize) -> String {
    match host {
        0 => client.to_owned(),
        host => format!("{client}{host}"),
    }
}

fn key(host: usize, set: usize) -> Key {
    let (client, scope) = SETS[set % SETS.len()];
    (name(client, host), ScopeSet::parse(scope).unwrap())
}

fn source(domo: &Domo, client: &str, valid: bool, login: Option<u64>) -> SimSource {
    SimSource {
        domo: domo.clone(),
        client: client.to_owned(),
        valid,
        login,
    }
}

fn clients(
    host: usize,
    sources: &BTreeMap<&'static str, Arc<HostSource>>,
    off: &BTreeSet<usize>,
    renewed: Option<&str>,
) -> Clients<HostSource> {
    let one = |(client, source): (&&'static str, &Arc<HostSource>)| {
        let sets = SETS.iter().enumerate();
        let sets = sets.filter(|(set, (of, _))| of == client && !off.contains(set));
        let wanted = ClientSpec {
            name: name(client, host),
            shown_id: "id…".to_owned(),
            scopes: sets.map(|(set, _)| key(host, set).1).collect(),
            renewed: renewed == Some(*client),
            proxy_login: source.domo().login.map(logins::id_of),
            loading: None,
            shares: matches!(**source, HostSource::Shared(_)),
        };
        (wanted, Some(Arc::clone(source)))
    };
    sources.iter().map(one).collect()
}
