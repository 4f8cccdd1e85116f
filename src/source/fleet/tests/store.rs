//! A store in memory, with faults on request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use domo_token_protocol::BootTime;
use zeroize::Zeroizing;

use crate::platform::clock::Clock;
use crate::store::{Look, Store, StoreError, StoreFailure, StoreSession};

/// How long each operation takes.
const LATENCY: Duration = Duration::from_millis(10);

/// What is wrong with the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Fails,
    ReadOnly,
    /// All leases are held, by nobody.
    KeepsLeases,
}

#[derive(Clone, Default)]
struct Records {
    token: Option<Vec<u8>>,
    note: Option<Vec<u8>>,
    lease_until: BootTime,
}

struct State {
    fault: Fault,
    looks: u64,
    sets: BTreeMap<String, Records>,
}

#[derive(Clone)]
pub(super) struct MemoryStore<C> {
    clock: C,
    state: Arc<Mutex<State>>,
    open: Arc<AtomicUsize>,
}

pub(super) struct MemorySession<C> {
    store: MemoryStore<C>,
    name: String,
}

impl<C: Clock> MemoryStore<C> {
    pub(super) fn new(clock: C) -> Self {
        let state = State {
            fault: Fault::None,
            looks: 0,
            sets: BTreeMap::new(),
        };
        Self {
            clock,
            state: Arc::new(Mutex::new(state)),
            open: Arc::default(),
        }
    }

    pub(super) fn set(&self, fault: Fault) {
        self.state().fault = fault;
    }

    pub(super) fn looks(&self) -> u64 {
        self.state().looks
    }

    pub(super) fn open_sessions(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn has_token(&self) -> bool {
        self.state().sets.values().any(|set| set.token.is_some())
    }

    pub(super) fn has_note(&self) -> bool {
        self.state().sets.values().any(|set| set.note.is_some())
    }

    pub(super) fn lose_lease(&self) {
        for set in self.state().sets.values_mut() {
            set.lease_until = BootTime::default();
        }
    }

    pub(super) fn damage_token(&self) {
        let mut state = self.state();
        for token in state.sets.values_mut().flat_map(|set| &mut set.token) {
            token[50] ^= 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl<C: Clock> Store for MemoryStore<C> {
    type Session = MemorySession<C>;

    fn session(&self, name: &str) -> MemorySession<C> {
        self.open.fetch_add(1, Ordering::Relaxed);
        MemorySession {
            store: self.clone(),
            name: name.to_owned(),
        }
    }
}

impl<C> Drop for MemorySession<C> {
    fn drop(&mut self) {
        self.store.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<C: Clock> MemorySession<C> {
    async fn operate<T>(
        &self,
        is_write: bool,
        operation: impl FnOnce(&mut Records, BootTime) -> T + Send,
    ) -> Result<T, StoreError> {
        let clock = &self.store.clock;
        clock.sleep_until(clock.now() + LATENCY).await;
        let mut state = self.store.state();
        let cause = match state.fault {
            Fault::Fails => Some(StoreFailure::Connect),
            Fault::ReadOnly if is_write => Some(StoreFailure::ReadOnly),
            Fault::None | Fault::ReadOnly | Fault::KeepsLeases => None,
        };
        if let Some(cause) = cause {
            let message = cause.to_string();
            return Err(StoreError { cause, message });
        }
        let records = state.sets.entry(self.name.clone()).or_default();
        Ok(operation(records, clock.now()))
    }
}

impl<C: Clock> StoreSession for MemorySession<C> {
    async fn look(&mut self) -> Result<Look, StoreError> {
        self.store.state().looks += 1;
        let clock = &self.store.clock;
        let asked = clock.now();
        let found = self.operate(false, |records, _| records.clone()).await?;
        Ok(Look {
            asked,
            answered: clock.now(),
            time_ms: u64::try_from(clock.wall().as_millis()).unwrap(),
            token: found.token.map(Zeroizing::new),
            note: found.note.map(Zeroizing::new),
        })
    }

    async fn claim(&mut self, _id: &str, lease: Duration) -> Result<bool, StoreError> {
        let is_kept = self.store.state().fault == Fault::KeepsLeases;
        let claim = |records: &mut Records, now| {
            let is_free = records.lease_until <= now && !is_kept;
            if is_free {
                records.lease_until = now + lease;
            }
            is_free
        };
        self.operate(true, claim).await
    }

    async fn extend(&mut self, lease: Duration) -> Result<(), StoreError> {
        let extend = |records: &mut Records, now| {
            if records.lease_until > now {
                records.lease_until = now + lease;
            }
        };
        self.operate(true, extend).await
    }

    async fn put_token(&mut self, record: &[u8], _keep: Duration) -> Result<(), StoreError> {
        let put = |records: &mut Records, _| {
            records.token = Some(record.to_vec());
            records.note = None;
        };
        self.operate(true, put).await
    }

    async fn put_note(&mut self, record: &[u8], _keep: Duration) -> Result<(), StoreError> {
        let put = |records: &mut Records, _| records.note = Some(record.to_vec());
        self.operate(true, put).await
    }
}
