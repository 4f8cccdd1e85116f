//! Clients, issued tokens, the script of faults, the record.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::clock;
use crate::fault::Fault;
use crate::record::{Recorded, ResourceCall, TooFew};

/// The state that a sandbox and its server share.
pub(crate) struct State {
    started: Instant,
    inner: Mutex<Inner>,
    arrived: Condvar,
    /// Counts recoveries; hanging responses go on when it changes.
    recoveries: watch::Sender<u64>,
    /// Called with each token request once it is answered.
    pub(crate) log: Option<fn(&Recorded)>,
}

pub(crate) struct Inner {
    pub(crate) clients: HashMap<String, Client>,
    pub(crate) lifetime: Duration,
    pub(crate) script: VecDeque<Fault>,
    pub(crate) always: Option<Fault>,
    pub(crate) connections: usize,
    pub(crate) requests: Vec<Recorded>,
    pub(crate) resource_calls: Vec<ResourceCall>,
    pub(crate) tokens: HashMap<String, Issued>,
    /// The last token of each client and scope.
    pub(crate) last: HashMap<(String, String), String>,
}

pub(crate) struct Client {
    pub(crate) secret: String,
    pub(crate) granted: Vec<String>,
}

pub(crate) struct Issued {
    pub(crate) scopes: Vec<String>,
    pub(crate) expires: Instant,
    pub(crate) revoked: bool,
}

/// The first recovery after a request was received.
pub(crate) struct Recovery(watch::Receiver<u64>);

impl Recovery {
    pub(crate) async fn wait(&mut self) {
        // Without a sender there is nothing left to wait for.
        let _ = self.0.changed().await;
    }
}

impl State {
    pub(crate) fn new(lifetime: Duration, log: Option<fn(&Recorded)>) -> Self {
        Self {
            started: clock::now(),
            inner: Mutex::new(Inner {
                clients: HashMap::new(),
                lifetime,
                script: VecDeque::new(),
                always: None,
                connections: 0,
                requests: Vec::new(),
                resource_calls: Vec::new(),
                tokens: HashMap::new(),
                last: HashMap::new(),
            }),
            arrived: Condvar::new(),
            recoveries: watch::Sender::new(0),
            log,
        }
    }

    /// Locks the state, also if a test panicked while it held the lock: its message must stay visible.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn since_start(&self) -> Duration {
        clock::now().saturating_duration_since(self.started)
    }

    pub(crate) fn recover(&self) {
        let mut inner = self.lock();
        inner.script.clear();
        inner.always = None;
        self.recoveries.send_modify(|count| *count += 1);
    }

    /// Records a token request. Returns its number, its fault, and the recovery that ends the fault.
    pub(crate) fn record_request(&self, request: Recorded) -> (usize, Fault, Recovery) {
        let mut inner = self.lock();
        inner.requests.push(request);
        let number = inner.requests.len() - 1;
        let scripted = inner.script.pop_front();
        let fault = scripted
            .or_else(|| inner.always.clone())
            .unwrap_or_default();
        // Under the lock, so that a recovery after the request is recorded ends its fault.
        let recovery = Recovery(self.recoveries.subscribe());
        drop(inner);
        self.arrived.notify_all();
        (number, fault, recovery)
    }

    /// Records the response to a token request.
    pub(crate) fn record_response(&self, number: usize, status: u16, token: Option<String>) {
        let at = self.since_start();
        let mut inner = self.lock();
        let Some(request) = inner.requests.get_mut(number) else {
            return;
        };
        request.status = Some(status);
        request.answered_at = Some(at);
        request.token = token;
        let request = request.clone();
        drop(inner);
        if let Some(log) = self.log {
            log(&request);
        }
    }

    pub(crate) fn wait_for_requests(
        &self,
        expected: usize,
        timeout: Duration,
    ) -> Result<Vec<Recorded>, TooFew> {
        let inner = self.lock();
        let result = self
            .arrived
            .wait_timeout_while(inner, timeout, |inner| inner.requests.len() < expected);
        let (inner, end) = result.unwrap_or_else(PoisonError::into_inner);
        if end.timed_out() {
            let received = inner.requests.len();
            return Err(TooFew { expected, received });
        }
        Ok(inner.requests.clone())
    }
}
