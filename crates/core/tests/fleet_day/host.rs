//! One host: its scheduler, its clocks, and the fetch that it runs.

use domo_token_core::fetch::{Fetch, Progress};
use domo_token_core::fleet::{Breaker, FleetFetch, HostId, SetMemory};
use domo_token_core::schedule::FetchId;
use domo_token_core::scheduler::{ClientSpec, Command, Scheduler, SetId};
use domo_token_protocol::BootTime;
use domo_token_protocol::scope::ScopeSet;

/// The boot clocks of all hosts at the start of the day, in milliseconds.
const BOOTED_MS: u64 = 1_000_000_000;

/// The engine's clock at the start of the day, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_700_000_000_000;

pub(crate) struct Host {
    pub(crate) id: HostId,
    /// Counts its starts, so that events of an earlier process are dropped.
    pub(crate) epoch: u32,
    pub(crate) is_up: bool,
    pub(crate) has_way: bool,
    scheduler: Scheduler,
    pub(crate) breaker: Breaker,
    pub(crate) memory: SetMemory,
    pub(crate) running: Option<Running>,
    pub(crate) rng: fastrand::Rng,
    skew_ms: i64,
    armed: Option<BootTime>,
    /// Until when its last token is served.
    pub(crate) served_until: Option<BootTime>,
}

/// The fetch of a host.
pub(crate) struct Running {
    pub(crate) set: SetId,
    pub(crate) fetch_id: FetchId,
    pub(crate) fetch: FleetFetch,
    /// When its request to Domo was sent.
    pub(crate) sent: Option<BootTime>,
    pub(crate) timeout: std::time::Duration,
}

/// What a host does next.
pub(crate) enum Due {
    Fetch(SetId, FetchId),
    Timer(BootTime),
}

pub(crate) fn boot_time(now_ms: u64) -> BootTime {
    BootTime::from_millis(BOOTED_MS + now_ms)
}

pub(crate) fn virtual_ms(at: BootTime) -> u64 {
    at.as_millis() - BOOTED_MS
}

pub(crate) fn engine_ms(now_ms: u64) -> u64 {
    EPOCH_MS + now_ms
}

impl Host {
    pub(crate) fn new(number: usize, skew_ms: i64, has_way: bool) -> Self {
        Self {
            id: host_id(number, 0),
            epoch: 0,
            is_up: false,
            has_way,
            scheduler: Scheduler::new(0),
            breaker: Breaker::default(),
            memory: SetMemory::default(),
            running: None,
            rng: fastrand::Rng::with_seed(number as u64),
            skew_ms,
            armed: None,
            served_until: None,
        }
    }

    /// Starts a new process.
    pub(crate) fn start(&mut self, number: usize, now_ms: u64) {
        self.epoch += 1;
        self.is_up = true;
        self.id = host_id(number, self.epoch);
        self.scheduler = Scheduler::new(self.rng.u64(..));
        self.breaker = Breaker::default();
        self.memory = SetMemory::default();
        self.armed = None;
        self.served_until = None;
        let spec = ClientSpec {
            name: "acme".to_owned(),
            shown_id: "id…".to_owned(),
            scopes: [ScopeSet::parse("data").unwrap()].into(),
            renewed: false,
            proxy_login: None,
            loading: None,
            shares: true,
        };
        self.scheduler.configure(vec![spec], boot_time(now_ms));
    }

    pub(crate) fn stop(&mut self) {
        self.is_up = false;
        self.epoch += 1;
        self.running = None;
    }

    pub(crate) fn wall_ms(&self, now_ms: u64) -> u64 {
        engine_ms(now_ms).saturating_add_signed(self.skew_ms)
    }

    pub(crate) fn handle_timeout(&mut self, due: BootTime, now_ms: u64) {
        if self.armed == Some(due) {
            self.armed = None;
            self.scheduler.handle_timeout(boot_time(now_ms));
        }
    }

    pub(crate) fn occasion(
        &self,
        set: SetId,
        now_ms: u64,
    ) -> Option<domo_token_core::fetch::Occasion> {
        self.scheduler.occasion(set, boot_time(now_ms))
    }

    /// Records that the running fetch sends its request.
    pub(crate) fn requested(&mut self, now_ms: u64) {
        let now = boot_time(now_ms);
        if let Some(running) = &mut self.running {
            running.sent = Some(now);
            let (set, id) = (running.set, running.fetch_id);
            self.scheduler
                .handle_progress(set, id, Progress::Requested, now);
        }
    }

    /// Ends the running fetch.
    pub(crate) fn ended(&mut self, fetch: Fetch, now_ms: u64) {
        if let Some(running) = self.running.take() {
            let now = boot_time(now_ms);
            self.scheduler
                .handle_fetched(running.set, running.fetch_id, fetch, now);
        }
    }

    /// Returns what the host does next, once.
    pub(crate) fn next_due(&mut self) -> Option<Due> {
        while let Some(command) = self.scheduler.poll_command() {
            match command {
                Command::Fetch(set, fetch_id) => return Some(Due::Fetch(set, fetch_id)),
                Command::Abort(_) => self.running = None,
                Command::Reply(..)
                | Command::Report(..)
                | Command::NotifyWatchers(_)
                | Command::Remove(_) => {}
            }
        }
        let due = self.scheduler.poll_timeout()?;
        (self.armed.replace(due) != Some(due)).then_some(Due::Timer(due))
    }
}

fn host_id(number: usize, epoch: u32) -> HostId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    bytes[8..12].copy_from_slice(&epoch.to_le_bytes());
    HostId(bytes)
}
