//! Polling for conditions without an event.

use std::fmt::Debug;
use std::thread;
use std::time::Duration;

use domo_token_client::clock::boot_now;

use super::PATIENCE;

/// Polls until `look` returns `Ok`. Fails with the last error after the time limit.
#[track_caller]
pub(crate) fn until<T, E: Debug>(mut look: impl FnMut() -> Result<T, E>) -> T {
    let end = boot_now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(boot_now() < end, "{seen:?}"),
        }
        pause();
    }
}

/// The pause between two polls.
#[expect(clippy::disallowed_methods, reason = "no event tells")]
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(5));
}
