//! The simulated store of a fleet, and its faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use domo_token::platform::clock::{BootTime, Clock};
use domo_token::store::{Look, Store, StoreError, StoreFailure, StoreSession};
use zeroize::Zeroizing;

use crate::clock::{BOOT_MS, SimClock};

/// The time limit of an operation.
const LIMIT: Duration = Duration::from_secs(1);

/// What is wrong with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreFault {
    Nothing,
    /// Operations fail.
    Fails,
    /// Operations time out, and have no effect.
    Hangs,
    /// Writes time out, and have their effect seconds later.
    ExecutesLate,
    /// Reads work, writes fail.
    ReadOnly,
    /// Writes succeed without an effect.
    LosesWrites,
    /// Claims succeed, and the lease is lost.
    LosesLeases,
    /// Records are changed, cut, or of the other kind.
    Garbage,
    /// Records are older ones.
    Old,
    /// Another one at each operation.
    Mixed,
}

impl StoreFault {
    const SINGLE: [Self; 9] = [
        Self::Nothing,
        Self::Fails,
        Self::Hangs,
        Self::ExecutesLate,
        Self::ReadOnly,
        Self::LosesWrites,
        Self::LosesLeases,
        Self::Garbage,
        Self::Old,
    ];

    pub(crate) const ALL: [Self; 10] = [
        Self::Nothing,
        Self::Fails,
        Self::Hangs,
        Self::ExecutesLate,
        Self::ReadOnly,
        Self::LosesWrites,
        Self::LosesLeases,
        Self::Garbage,
        Self::Old,
        Self::Mixed,
    ];
}

/// An effect of an operation.
#[derive(Clone)]
enum Effect {
    Extend(Duration),
    Token(Vec<u8>, Duration),
    Note(Vec<u8>, Duration),
}

/// A record, and until when it is kept.
type Record = Option<(Vec<u8>, BootTime)>;

/// The records of one scope set.
#[derive(Default)]
struct Records {
    lease_until: Option<BootTime>,
    token: Record,
    note: Record,
    old_tokens: Vec<Vec<u8>>,
    old_notes: Vec<Vec<u8>>,
}

struct State {
    rng: fastrand::Rng,
    fault: StoreFault,
    ahead_ms: i64,
    sets: BTreeMap<String, Records>,
    /// Effects of writes that have timed out, and when they happen.
    late: Vec<(BootTime, String, Effect)>,
}

/// The simulated store. Clones are the same store.
#[derive(Clone)]
pub(crate) struct SimStore {
    clock: SimClock,
    state: Arc<Mutex<State>>,
}

pub(crate) struct SimSession {
    store: SimStore,
    name: String,
}

impl SimStore {
    pub(crate) fn new(clock: SimClock, seed: u64) -> Self {
        let state = State {
            rng: fastrand::Rng::with_seed(seed),
            fault: StoreFault::Nothing,
            ahead_ms: 0,
            sets: BTreeMap::new(),
            late: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        Self { clock, state }
    }

    pub(crate) fn set_fault(&self, fault: StoreFault) {
        self.state().fault = fault;
    }

    /// Puts the clock forward or back to that far ahead of the true time.
    pub(crate) fn set_ahead(&self, ms: i64) {
        self.state().ahead_ms = ms;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Store for SimStore {
    type Session = SimSession;

    fn session(&self, name: &str) -> SimSession {
        SimSession {
            store: self.clone(),
            name: name.to_owned(),
        }
    }
}

fn failed(cause: StoreFailure) -> StoreError {
    StoreError {
        cause,
        message: format!("simulated: {cause}"),
    }
}

impl State {
    fn fault(&mut self) -> StoreFault {
        if self.fault != StoreFault::Mixed {
            return self.fault;
        }
        let fault = self.rng.choice(StoreFault::SINGLE);
        fault.unwrap_or(StoreFault::Nothing)
    }

    fn records(&mut self, name: &str, now: BootTime) -> &mut Records {
        let (due, later) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        self.late = later;
        let due: Vec<(BootTime, String, Effect)> = due;
        for (at, name, effect) in due {
            self.sets.entry(name).or_default().apply(effect, at);
        }
        let records = self.sets.entry(name.to_owned()).or_default();
        records.lease_until.take_if(|until| *until <= now);
        records.token.take_if(|(_, until)| *until <= now);
        records.note.take_if(|(_, until)| *until <= now);
        records
    }

    /// Returns what a look finds.
    fn found(&mut self, name: &str, fault: StoreFault, now: BootTime) -> [Option<Vec<u8>>; 2] {
        let mut rng = self.rng.fork();
        let records = self.records(name, now);
        let text = |record: &Record| record.as_ref().map(|(bytes, _)| bytes.clone());
        let mut found = [text(&records.token), text(&records.note)];
        if fault == StoreFault::Old {
            let old = [&records.old_tokens, &records.old_notes];
            for (found, old) in found.iter_mut().zip(old) {
                *found = rng.choice(old).cloned();
            }
        }
        if fault == StoreFault::Garbage {
            if rng.u8(..4) == 0 {
                found.swap(0, 1);
                return found;
            }
            for bytes in found.iter_mut().flatten() {
                let at = rng.usize(..bytes.len());
                if rng.bool() {
                    bytes.truncate(at);
                } else {
                    bytes[at] ^= 1 << rng.u8(..8);
                }
            }
        }
        found
    }
}

impl Records {
    fn apply(&mut self, effect: Effect, at: BootTime) {
        match effect {
            Effect::Extend(lease) => {
                self.lease_until.take_if(|until| *until <= at);
                self.lease_until = self.lease_until.map(|_| at + lease);
            }
            Effect::Token(record, keep) => {
                self.old_tokens.push(record.clone());
                self.token = Some((record, at + keep));
                self.note = None;
            }
            Effect::Note(record, keep) => {
                self.old_notes.push(record.clone());
                self.note = Some((record, at + keep));
            }
        }
    }
}

impl SimSession {
    /// Waits for the response to an operation. Returns the fault that it has, unless it fails.
    async fn respond(&self, late: Option<Effect>) -> Result<StoreFault, StoreError> {
        let clock = &self.store.clock;
        let now = clock.now();
        let (fault, latency) = {
            let mut state = self.store.state();
            let fault = state.fault();
            let slow = state.rng.u8(..20) == 0;
            let most = if slow { 900 } else { 20 };
            let latency = Duration::from_millis(state.rng.u64(1..most));
            if let (StoreFault::ExecutesLate, Some(effect)) = (fault, late.clone()) {
                let at = now + Duration::from_millis(state.rng.u64(500..8_000));
                state.late.push((at, self.name.clone(), effect));
            }
            (fault, latency)
        };
        let is_write = late.is_some();
        let hangs = fault == StoreFault::Hangs || fault == StoreFault::ExecutesLate && is_write;
        clock
            .sleep_until(now + if hangs { LIMIT } else { latency })
            .await;
        let cause = if hangs {
            StoreFailure::Timeout
        } else if fault == StoreFault::Fails {
            StoreFailure::Connect
        } else if fault == StoreFault::ReadOnly && is_write {
            StoreFailure::ReadOnly
        } else {
            return Ok(fault);
        };
        Err(failed(cause))
    }

    async fn write(&self, effect: Effect) -> Result<(), StoreError> {
        let fault = self.respond(Some(effect.clone())).await?;
        if fault != StoreFault::LosesWrites {
            let now = self.store.clock.now();
            self.store
                .state()
                .records(&self.name, now)
                .apply(effect, now);
        }
        Ok(())
    }
}

impl StoreSession for SimSession {
    async fn look(&mut self) -> Result<Look, StoreError> {
        let asked = self.store.clock.now();
        let fault = self.respond(None).await?;
        let answered = self.store.clock.now();
        let mut state = self.store.state();
        let waited = answered.saturating_since(asked).mul_f64(state.rng.f64());
        let true_ms = BOOT_MS + (asked + waited).as_millis();
        let time_ms = true_ms.saturating_add_signed(state.ahead_ms);
        let found = state.found(&self.name, fault, answered);
        let [token, note] = found.map(|record| record.map(Zeroizing::new));
        Ok(Look {
            asked,
            answered,
            time_ms,
            token,
            note,
        })
    }

    async fn claim(&mut self, _id: &str, lease: Duration) -> Result<bool, StoreError> {
        // One that is executed late only delays others.
        let fault = self.respond(Some(Effect::Extend(lease))).await?;
        let now = self.store.clock.now();
        let mut state = self.store.state();
        let records = state.records(&self.name, now);
        if records.lease_until.is_some() {
            return Ok(false);
        }
        if !matches!(fault, StoreFault::LosesLeases | StoreFault::LosesWrites) {
            records.lease_until = Some(now + lease);
        }
        Ok(true)
    }

    async fn extend(&mut self, lease: Duration) -> Result<(), StoreError> {
        self.write(Effect::Extend(lease)).await
    }

    async fn put_token(&mut self, record: &[u8], keep: Duration) -> Result<(), StoreError> {
        self.write(Effect::Token(record.to_vec(), keep)).await
    }

    async fn put_note(&mut self, record: &[u8], keep: Duration) -> Result<(), StoreError> {
        self.write(Effect::Note(record.to_vec(), keep)).await
    }
}
