//! The queue of events in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events by time, in the order in which they were added where times are equal.
pub(crate) struct Events<E> {
    queue: BinaryHeap<Reverse<(u64, u64, Slot)>>,
    waiting: Vec<Option<E>>,
    free: Vec<usize>,
    count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot(usize);

impl<E> Events<E> {
    pub(crate) fn new() -> Self {
        Self {
            queue: BinaryHeap::new(),
            waiting: Vec::new(),
            free: Vec::new(),
            count: 0,
        }
    }

    /// Adds an event at this time, in milliseconds.
    pub(crate) fn add(&mut self, at_ms: u64, event: E) {
        let slot = self.free.pop().unwrap_or(self.waiting.len());
        if slot == self.waiting.len() {
            self.waiting.push(None);
        }
        self.waiting[slot] = Some(event);
        self.count += 1;
        self.queue.push(Reverse((at_ms, self.count, Slot(slot))));
    }

    /// Returns the next event and its time.
    pub(crate) fn next(&mut self) -> Option<(u64, E)> {
        let Reverse((at_ms, _, Slot(slot))) = self.queue.pop()?;
        self.free.push(slot);
        let event = self.waiting[slot].take()?;
        Some((at_ms, event))
    }
}
