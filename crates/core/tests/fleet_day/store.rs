//! The simulated store: one scope set's records, the engine's clock and its faults.

use std::time::Duration;

use domo_token_core::fleet::{NoteRecord, TokenRecord};

/// What is wrong with the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineFault {
    /// Connections are refused.
    Refuses,
    /// No answer.
    Hangs,
    /// Answers take 0.3 to 1.5 s; what takes too long is executed nevertheless.
    Slow,
}

/// A value and when it lapses, in milliseconds of virtual time.
#[derive(Clone)]
struct Lapsing<T> {
    value: T,
    until_ms: u64,
}

/// What was stored before a failover.
#[derive(Default)]
pub(crate) struct Engine {
    token: Option<Lapsing<TokenRecord>>,
    older_token: Option<Lapsing<TokenRecord>>,
    note: Option<Lapsing<NoteRecord>>,
    lease: Option<Lapsing<usize>>,
}

/// An operation on the store.
#[derive(Clone)]
pub(crate) enum Operation {
    Look,
    Claim { lease: Duration },
    Extend { lease: Duration },
    PutToken(TokenRecord, Duration),
    PutNote(NoteRecord, Duration),
}

/// The answer to an operation.
pub(crate) enum Answer {
    Looked {
        token: Option<TokenRecord>,
        note: Option<NoteRecord>,
    },
    Claimed(bool),
    Done,
}

fn current<T: Clone>(stored: Option<&Lapsing<T>>, now_ms: u64) -> Option<T> {
    let stored = stored.filter(|stored| now_ms < stored.until_ms)?;
    Some(stored.value.clone())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}

impl Engine {
    pub(crate) fn execute(&mut self, operation: Operation, host: usize, now_ms: u64) -> Answer {
        match operation {
            Operation::Look => {
                return Answer::Looked {
                    token: current(self.token.as_ref(), now_ms),
                    note: current(self.note.as_ref(), now_ms),
                };
            }
            Operation::Claim { lease } => {
                let is_free = current(self.lease.as_ref(), now_ms).is_none();
                if is_free {
                    self.lease = Some(lapsing(host, lease, now_ms));
                }
                return Answer::Claimed(is_free);
            }
            Operation::Extend { lease } => {
                // PEXPIRE extends whichever lease there is.
                if let Some(holder) = current(self.lease.as_ref(), now_ms) {
                    self.lease = Some(lapsing(holder, lease, now_ms));
                }
            }
            Operation::PutToken(record, keep) => {
                self.older_token = self.token.take();
                self.token = Some(lapsing(record, keep, now_ms));
                self.note = None;
            }
            Operation::PutNote(record, keep) => self.note = Some(lapsing(record, keep, now_ms)),
        }
        Answer::Done
    }

    /// A replica takes over, which has no lease and no note, and perhaps an older token.
    pub(crate) fn fail_over(&mut self, loses_writes: bool) {
        if loses_writes {
            self.token = self.older_token.take();
        }
        self.lease = None;
        self.note = None;
    }
}

fn lapsing<T>(value: T, keep: Duration, now_ms: u64) -> Lapsing<T> {
    Lapsing {
        value,
        until_ms: now_ms + millis(keep),
    }
}
