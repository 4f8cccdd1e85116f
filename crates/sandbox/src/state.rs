//! Clients, issued tokens, the script of faults, the record, and the store of the API.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::api::Store;
use crate::clock;
use crate::fault::{Fault, RejectTiming};
use crate::limits::Limits;
use crate::record::{Recorded, ResourceCall, TooFew};

/// The state that a sandbox and its server share.
pub(crate) struct State {
    started: Instant,
    inner: Mutex<Inner>,
    arrived: Condvar,
    /// Counts recoveries; hanging responses go on when it changes.
    recoveries: watch::Sender<u64>,
    options: Options,
}

/// What stays the same while the sandbox runs.
#[derive(Default)]
pub(crate) struct Options {
    /// Called with each token request once it is answered.
    pub(crate) log: Option<fn(&Recorded)>,
    /// How long each response is delayed.
    pub(crate) delay: Duration,
    /// How long each token is accepted, if that is shorter than its lifetime.
    pub(crate) revoke_after: Option<Duration>,
    pub(crate) limits: Limits,
    /// Whether no response 100 is sent.
    pub(crate) no_continue: bool,
    /// How long after the start `Inner::failures` begin.
    pub(crate) fail_after: Option<Duration>,
}

pub(crate) struct Inner {
    pub(crate) clients: HashMap<String, Client>,
    pub(crate) lifetime: Duration,
    pub(crate) script: VecDeque<Fault>,
    pub(crate) always: Option<Fault>,
    /// The statuses of the next token requests after those of the script; the last one repeats.
    pub(crate) failures: VecDeque<u16>,
    /// The faults of the next calls of the API.
    pub(crate) call_script: VecDeque<Fault>,
    pub(crate) call_always: Option<Fault>,
    pub(crate) upload_revocation: Option<UploadRevocation>,
    pub(crate) connections: usize,
    pub(crate) requests: Vec<Recorded>,
    pub(crate) resource_calls: Vec<ResourceCall>,
    pub(crate) store: Store,
    pub(crate) tokens: HashMap<String, Issued>,
    /// The last token of each client and scope.
    pub(crate) last: HashMap<(String, String), String>,
}

pub(crate) struct Client {
    pub(crate) secret: String,
    pub(crate) granted: Vec<String>,
}

/// Revokes the token of the next call whose body reaches a length.
#[derive(Clone, Copy)]
pub(crate) struct UploadRevocation {
    pub(crate) bytes: u64,
    pub(crate) rejects: RejectTiming,
}

pub(crate) struct Issued {
    pub(crate) client_id: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) expires: Instant,
    /// When the resources begin to reject it, although it has not expired.
    pub(crate) revoked_at: Option<Instant>,
}

impl Issued {
    /// Returns whether the resources accept the token.
    pub(crate) fn is_valid(&self, now: Instant) -> bool {
        now < self.expires && self.revoked_at.is_none_or(|revoked| now < revoked)
    }
}

impl Inner {
    /// Makes the resources reject tokens from now on.
    pub(crate) fn revoke(&mut self, selected: impl Fn(&str) -> bool) {
        let now = clock::now();
        for (text, issued) in &mut self.tokens {
            if selected(text) {
                issued.revoked_at = Some(now);
            }
        }
    }

    /// Returns the next of `failures` as a fault.
    fn next_failure(&mut self) -> Option<Fault> {
        let status = match self.failures.len() {
            0 | 1 => self.failures.front().copied(),
            _ => self.failures.pop_front(),
        };
        status.filter(|status| *status != 200).map(Fault::status)
    }
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
    pub(crate) fn new(lifetime: Duration, options: Options) -> Self {
        Self {
            started: clock::now(),
            inner: Mutex::new(Inner {
                clients: HashMap::new(),
                lifetime,
                script: VecDeque::new(),
                always: None,
                failures: VecDeque::new(),
                call_script: VecDeque::new(),
                call_always: None,
                upload_revocation: None,
                connections: 0,
                requests: Vec::new(),
                resource_calls: Vec::new(),
                store: Store::new(options.limits),
                tokens: HashMap::new(),
                last: HashMap::new(),
            }),
            arrived: Condvar::new(),
            recoveries: watch::Sender::new(0),
            options,
        }
    }

    /// Locks the state, also if a test panicked while it held the lock: its message must stay visible.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn limits(&self) -> Limits {
        self.options.limits
    }

    pub(crate) fn since_start(&self) -> Duration {
        clock::now().saturating_duration_since(self.started)
    }

    /// Returns after the delay of each response.
    pub(crate) async fn delay(&self) {
        if !self.options.delay.is_zero() {
            tokio::time::sleep(self.options.delay).await;
        }
    }

    /// Returns when the resources begin to reject a token that is issued now.
    pub(crate) fn revocation(&self, now: Instant) -> Option<Instant> {
        let after = self.options.revoke_after?;
        now.checked_add(after)
    }

    pub(crate) fn recover(&self) {
        let mut inner = self.lock();
        inner.failures.clear();
        inner.script.clear();
        inner.always = None;
        inner.call_script.clear();
        inner.call_always = None;
        inner.upload_revocation = None;
        self.recoveries.send_modify(|count| *count += 1);
    }

    pub(crate) fn sends_continue(&self) -> bool {
        !self.options.no_continue
    }

    /// Returns the fault of a call of the API, if it has one, and the recovery that ends it.
    pub(crate) fn next_call_fault(&self) -> Option<(Fault, Recovery)> {
        let mut inner = self.lock();
        let scripted = inner.call_script.pop_front();
        let fault = scripted.or_else(|| inner.call_always.clone())?;
        // Under the lock, so that a recovery from now on ends the fault.
        Some((fault, Recovery(self.recoveries.subscribe())))
    }

    /// Revokes the token of a call whose body has reached the length of a requested revocation.
    pub(crate) fn revoke_in_upload(&self, received: u64, token: &str) -> Option<RejectTiming> {
        let mut inner = self.lock();
        let due = inner
            .upload_revocation
            .take_if(|revocation| received >= revocation.bytes)?;
        inner.revoke(|text| text == token);
        Some(due.rejects)
    }

    /// Records a token request. Returns its number, its fault, and the recovery that ends the fault.
    pub(crate) fn record_request(&self, request: Recorded) -> (usize, Fault, Recovery) {
        let mut inner = self.lock();
        let fails = self
            .options
            .fail_after
            .is_none_or(|after| request.at >= after);
        inner.requests.push(request);
        let number = inner.requests.len() - 1;
        let mut fault = inner.script.pop_front().or_else(|| inner.always.clone());
        if fault.is_none() && fails {
            fault = inner.next_failure();
        }
        let fault = fault.unwrap_or_default();
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
        if let Some(log) = self.options.log {
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
