//! What soak tests share: the end of a run, for which all of its threads wait.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whether a run has ended.
#[derive(Default)]
pub(crate) struct End {
    is_over: Mutex<bool>,
    changed: Condvar,
}

impl End {
    /// Waits for that span, or until the run ends. Returns whether it goes on.
    pub(crate) fn wait(&self, span: Duration) -> bool {
        let over = lock(&self.is_over);
        let result = self.changed.wait_timeout_while(over, span, |over| !*over);
        let (over, _) = result.unwrap_or_else(PoisonError::into_inner);
        !*over
    }

    /// Ends the run.
    pub(crate) fn set(&self) {
        *lock(&self.is_over) = true;
        self.changed.notify_all();
    }
}

/// Locks what another thread may have left by a panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
